#!/usr/bin/env python3
"""Makes tests/golden/policy/jinja.json: small templates with what transformers renders of them. Needs: pip install
transformers jinja2

Each template stands alone, between lines of `===`. An error is recorded as such, without its words.
"""
import datetime, json, logging, pathlib, warnings
from transformers.utils import chat_template_utils

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")
NOW = 1752723055


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


chat_template_utils.datetime = Clock

CONTEXT = {
    "s": "Hello World", "e": "", "u": "éß😀 İx", "sp": "  a b\t\n c  ", "n": 5, "neg": -7, "f": 2.5,
    "big": 12345678901234567890, "t": True, "no": None, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "el": [],
    "d": {"b": 1, "a": "x", "items": [1], "z": None}, "ed": {},
    "ld": [{"n": "x", "v": 2, "d": {"k": 1}}, {"n": "Y", "v": 1, "d": {"k": 0}}, {"n": "a", "v": 2}],
    "nest": [[1, [2, "q'"]], {"k": [1.5, None, True]}], "html": "<a href='x'>\"&</a>",
}

TEMPLATES = r'''
{% for a in l %}{{ a }}{% if loop.last %}!{% endif %}{% else %}none{% endfor %}
===
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
===
{% for k, v in d | items %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('x','y') }}{{ loop.changed(v) }};{% endfor %}
===
{% for x in no %}{% endfor %}
===
{% for x in undef %}{% else %}E{% endfor %}
===
{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}
===
{%- for x in nest recursive %}{% if x is string or x is number %}<{{ x }}>{% elif x is mapping %}M{% else %}[{{ loop(x) }}@{{ loop.depth }}]{% endif %}{% endfor %}
===
{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }}
===
{% set ns = namespace(x=1, y=[]) %}{% for i in l %}{% set ns.x = ns.x + i %}{% set ns.y = ns.y + [i] %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.q is defined }}{{ ns }}
===
{% set d.x = 1 %}
===
{% macro m(a, b=2, *args) %}{% endmacro %}
===
{% macro m(a, b=2) %}{{ a }}-{{ b }}-{{ varargs }}-{{ kwargs }}{% endmacro %}{{ m(1) }}|{{ m(1, 3, 4, 5, x=9) }}|{{ m(b=7, a=8) }}|{{ m() }}
===
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
===
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, b=2) }}
===
{% macro m(a) %}[{{ caller(a) }}]{% endmacro %}{% call(q) m(5) %}<{{ q }}>{% endcall %}
===
{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}{% for x in [7] %}{{ m() }}{% endfor %}
===
{% macro fact(n) %}{{ n if n < 2 else n * (fact(n - 1) | int) }}{% endmacro %}{{ fact(10) }}
===
{% set x %}a{{ s }}b{% endset %}{{ x }}|{% set x | upper | replace('A', 'z') %}abc{% endset %}{{ x }}
===
{% filter upper %}a{{ s }}{% endfilter %}
===
{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}
===
{% for i in range(10) %}{% if i == 3 %}{% continue %}{% endif %}{% if i == 6 %}{% break %}{% endif %}{{ i }}{% endfor %}
===
a  
  {%- if t %}  
 x {% endif -%}  
 b
===
  {% if t %}
   y
  {% endif %}
 {{ s }}
  {# c #}
z

===
  {%+ if t %}
   y
  {%+ endif +%}

z
===
{# a -#}   
 b {#- c #} d {#+ e +#}
f
===
{% raw %}{{ x }}{% endraw %} {%- raw -%}  {% if %} {%- endraw -%}  y
===
 {% raw %}
 {{ x }}
 {% endraw %}
 z
===
{{ '{{' }}{{ "}}" }}{{ '%}' }}{{ {'a': {'b': 1}} }}
===
{{ 1_000 }} {{ 0x1f }} {{ 0b11 }} {{ 0o17 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 1E5 }} {{ .5 }}
===
{{ 1_000 }} {{ 0x1f }} {{ 0b11 }} {{ 0o17 }} {{ 1e3 }} {{ 1.5e-7 }} {{ 1E5 }} {{ 3.0 * 2 }} {{ 10 ** 16 * 1.0 }} {{ 1 / 3 }}
===
{{ 'a' 'b' "c" }} {{ 'x\ty\n\x41\u00e9\\' }}
===
{{ 1 if false }}|{{ (1 if false) is defined }}|{{ 1, 2 }}|{{ (1,) }}|{{ () }}
===
{{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ 2 + 3 * 4 ~ 5 }} {{ 1 + 2 ~ 3 + 4 }} {{ -5 // 2 }} {{ -5 % 3 }} {{ 5 % -3 }} {{ -5.5 // 2 }} {{ 5.5 % -2 }} {{ 7 / 2 }}
===
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1,2] < [1,3] }} {{ (1,2) == [1,2] }} {{ {'a':1,'b':2} == {'b':2,'a':1} }}
===
{{ not true == false }} {{ not 1 in [1] }} {{ 1 not in [1] }} {{ not (1 is none) }} {{ 1 is not none }} {{ 5 is odd and 4 is even }}
===
{{ undef.x }}
===
{{ undef['x'] }}
===
{{ d.nope }}{{ d['nope'] is defined }}{{ s.nope is defined }}{{ no.x is defined }}{{ l[9] is defined }}{{ l['0'] is defined }}{{ n[0] is defined }}
===
{{ d.nope.more }}
===
{{ d.items is defined }}{{ d['items'] }}{{ d.items() | list }}{{ d['keys'] is defined }}
===
{{ undef + 1 }}
===
{{ undef ~ 'x' }}{{ 'x' ~ none ~ true ~ 1.0 ~ [1, 'a'] ~ {'k': 'v'} }}
===
{{ undef == undef2 }}{{ undef == none }}{{ undef != '' }}{{ undef in [1] }}{{ 1 in undef }}{{ undef | length }}{{ undef | list }}{{ undef is iterable }}{{ undef is sequence }}{{ undef is mapping }}{{ undef is string }}
===
{{ none is iterable }}{{ none is string }}{{ 5 is iterable }}{{ 'a' is iterable }}{{ d is iterable }}{{ d is sequence }}{{ range(3) is sequence }}{{ d.items() is iterable }}{{ d.items() is sequence }}{{ (l | map('string')) is iterable }}{{ (l | map('string')) is sequence }}
===
{{ none | length }}
===
{{ 1 in none }}
===
{{ none | string }}{{ none | trim }}{{ none | upper }}{{ none | default('x') }}{{ none | default('x', true) }}{{ none | list }}
===
{{ (l | map('string')) | length }}
===
{% set g = l | map('string') %}{{ g | list }}{{ g | list }}
===
{{ range(5) }}{{ range(1, 10, 3) | list }}{{ range(5, 0, -2) | list }}{{ range(3)[1] }}{{ range(3) | length }}{{ range(3)[::-1] | list }}
===
{{ range(100001) }}
===
{{ dict(a=1, b=2) }}{{ dict([('x', 1)], y=2) }}{{ dict({'q': 1}) }}
===
{{ '%s is %d or %05.2f, %r, %x, %%' % ('a', 5, 2.5, 'q', 255) }}{{ '%(a)s' % {'a': 1} }}{{ '%s' % 'x' }}{{ '%-5s|%5s|%.2s' % ('a', 'b', 'cde') }}{{ '%e %g %g' % (12345.678, 0.0001, 1e20) }}
===
{{ '{} {0}'.format(1) }}
===
{{ '{} {}'.format(1, 'a') }}{{ '{1} {0} {x}'.format(1, 2, x=3) }}{{ '{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}|{!r}'.format('a', 'b', 'c', 42, 3.14159, 1234567, 'q') }}{{ '{{}}'.format() }}
===
{{ raise_exception('bad ' ~ n) }}
===
{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%-d %B %Y, %H:%M:%S %A %a %y %m %j %p %I %e') }}|{{ strftime_now('%Y-%m-%d') }}|{{ strftime_now('%-m/%-d/%y %-I %U %W %V %G %u %w %c %x %X %D %F %T %R %r %k %l %C %h %n %t %Z%z %%') }}
===
{{ strftime_now('%Q %') }}
===
{% generation %}a{% set q = 1 %}{{ q }}{% endgeneration %}{{ q is defined }}
===
{%- generation -%} x {%- endgeneration -%} y
===
{% block b %}x{{ s }}{% endblock %}
===
{% set a, b = [1, 2] %}{{ a }}{{ b }}{% set (c, d2) = (3, 4) %}{{ c }}{{ d2 }}
===
{% set a, b = [1, 2, 3] %}
===
{% if undef %}x{% elif no %}y{% elif el %}z{% else %}w{% endif %}
===
{{ s[0] }}{{ s[-1] }}{{ s[1:4] }}{{ s[::-1] }}{{ u[0] }}{{ u[2] }}{{ u | length }}{{ s[99] is defined }}{{ l[-1] }}{{ l[1:] }}{{ (1,2,3)[:2] }}
===
{{ s.split(' ')[0].lower() + '!' }}{{ s.split(' ') | last }}{{ 'a,b,,c'.split(',') }}{{ 'a  b'.split(' ') }}{{ ' a  b '.split() }}{{ 'abc'.split('x') }}
===
{{ s.split('') }}
===
{{ l.append(4) }}
===
{{ d.update({'x': 1}) }}
===
{{ d.pop('a') }}
===
{{ {'b': 1, 'a': [1, 2.0, none, true, 'é"\\\n\u007f']} | tojson }}|{{ d | tojson(sort_keys=true) }}|{{ [1, [2], {}] | tojson(indent=2) }}|{{ [] | tojson(indent=2) }}|{{ {1: 2, none: 3, true: 4, 1.5: 6} | tojson }}|{{ 'x' | tojson(separators=(',', ':')) }}|{{ {'a': [1, 2]} | tojson(separators=(',', ':')) }}|{{ "<>&'" | tojson }}
===
{{ undef | tojson }}
===
{{ d.items() | tojson }}
===
{{ (1, 2) | tojson }}{{ 1e100 | tojson }}{{ 1.0 | tojson }}{{ big | tojson }}
===
{{ html | e }}{{ html | safe }}{{ (html | safe) ~ '<' }}{{ (html | safe) + '<' }}{{ '<' + (html | safe) }}{{ (html | e) | e }}{{ [html | safe] }}{{ (html | safe) | upper }}{{ (html | safe) is string }}{{ (html|safe).strip() + '<' }}{{ (html|safe)|trim + '<' }}{{ ('a'|safe) * 2 + '<' }}
===
{{ 'ab' | replace('a', '<') }}{{ ['x', 'y'] | join('<' | safe) }}{{ [1, none, undef] | join('-') }}
===
{{ ld | map(attribute='n') | join(',') }}{{ ld | selectattr('v', 'gt', 1) | list | length }}{{ ld | rejectattr('d') | list }}{{ ld | groupby('v') }}{% for g, items in ld | groupby('v') %}{{ g }}:{{ items | length }};{% endfor %}{{ (ld | groupby('v'))[0].grouper }}{{ (ld | groupby('v'))[0].list | length }}
===
{{ ['B', 'a', 'C'] | sort }}{{ ['B', 'a', 'C'] | sort(case_sensitive=true) }}{{ [3, 1, 2] | sort(reverse=true) }}{{ [1, 'a'] | sort }}
===
{{ 'hello world foo' | title }}{{ "they're bill's" | title }}{{ "they're bill's".title() }}{{ 'a-b (c) [d]' | title }}{{ 'x1y' .title() }}
===
{{ 'line1\nline2\n\nline3' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(2, blank=true) }}|{{ 'a\nb' | indent('>>') }}|{{ '' | indent(first=true) }}
===
{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.675 | round(2) }}{{ 5 | round }}{{ 1234.5 | round(-2) }}{{ 2.1 | round(method='ceil') }}{{ 2.9 | round(0, 'floor') }}
===
{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.675 | round(2) }}{{ 5 | round }}{{ 2.1 | round(method='ceil') }}{{ 2.9 | round(0, 'floor') }}
===
{{ '12' | int }}{{ 'x' | int }}{{ 'x' | int(3) }}{{ '1.9' | int }}{{ 1.9 | int }}{{ none | int }}{{ '0x1f' | int(base=16) }}{{ '1_0' | int }}{{ ' 7 ' | int }}{{ true | int }}{{ '1e3' | float }}{{ 'nan' | float }}{{ 'x' | float(2.0) }}{{ '' | int }}
===
{{ x if x is defined else 'd' }}{{ undef | default('a') }}{{ '' | default('b') }}{{ '' | default('b', true) }}{{ undef | d }}{{ false | default(true, boolean=true) }}
===
{{ loop }}
===
{{ loop is defined }}{% for i in l %}{{ loop is defined }}{% endfor %}
===
{% include 'x' %}
===
{% import 'x' as y %}
===
{{ namespace(_x=1) }}
===
{{ 'a' if 1 else 'b' if 0 else 'c' }}{{ ('a' if 0 else 'b') if 1 else 'c' }}
===
{{ [1, 2, 3][0] + (4, 5)[1] }}{{ l.0 }}{{ ld.0.n }}{{ {'a': 1}.a }}{{ {'a': 1}['a'] }}
===
{{ l | first }}{{ el | first is defined }}{{ el | last is defined }}{{ s | first }}{{ s | last }}{{ d | first }}{{ d | last }}{{ (l | map('string')) | first }}
===
{{ l | min }}{{ ls | max }}{{ l | sum }}{{ ls | unique | list }}{{ [1, 1.0, true, 2] | unique | list }}{{ l | batch(2) | list }}{{ l | slice(2) | list }}
===
{{ true }}{{ True }}{{ none }}{{ None }}{{ false }}{{ [true, none] }}
===
{{ 5 is divisibleby 5 }}{{ 'a' is eq 'a' }}{{ 1 is in [1] }}{{ 'x' is in 'xyz' }}{{ 1 is sameas 1 }}{{ 'A' is upper }}{{ 'a' is lower }}{{ 1 is number }}{{ true is number }}{{ true is integer }}{{ true is boolean }}{{ 1.0 is float }}
===
{{ s is
 defined }}{{ s
 | upper }}
===
{% if s is defined
   and n %}Y{% endif %}
===
{{ 'it''s' }}{{ "a\"b" }}{{ 'a\'b' }}{{ ["it's", 'say "x"', 'both \' and "'] }}
===
{{ s | upper | lower | title }}{{ s.upper().lower() }}{{ (s ~ '!') | length }}{{ s|length > 3 }}{{ 2 * l | length }}
===
{% for m in ld %}{% set outer = loop %}{% for q in [1, 2] %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}
===
{% for c in 'aéb' %}{{ c }}.{% endfor %}{% for k in d %}{{ k }}{% endfor %}
===
{% set x = 5 %}{% if true %}{% set x = 6 %}{% endif %}{{ x }}{% with %}{% set x = 7 %}{% endwith %}{{ x }}
===
{% macro a() %}{% set z = 1 %}{{ b() }}{% endmacro %}{% macro b() %}{{ z is defined }}{% endmacro %}{{ a() }}
===
{{ 1 +
2 }}{# multi
line #}{{ 3 }}
===
{{ x|default(none) is none }}{{ undef.foo is defined }}
===
{{ "abc" | reverse }}{{ [1,2] | reverse | list }}{{ l[::-1] }}{{ (l | reverse) is iterable }}
===
{% for i in (1, 2) + (3,) %}{{ i }}{% endfor %}{{ [1] * 3 }}{{ 3 * 'ab' }}{{ 'ab' * -1 }}{{ [1] + [2] }}{{ (1,) * 2 }}
===
{{ [1] + (2,) }}
===
{{ 'a' + 1 }}
===
{{ 1 / 0 }}
===
{{ s.upper is defined }}{{ s.upper is callable }}{{ range is callable }}{{ dict is defined }}{{ lipsum is defined }}{{ cycler is defined }}{{ joiner is defined }}
===
{{ d | length }}{{ d.keys() | list }}{{ d.values() | list | length }}{{ d.keys() | length }}{{ 'a' in d.keys() }}{{ d.items() | first }}{{ d.get('a') }}{{ d.get('q') }}{{ d.get('q', 'w') }}
===
{{ "%s" | format("a") }}{{ "%s %s" | format("a", 1) }}{{ "%(x)s" | format(x=2) }}
===
{{ 2 ** 100 }}{{ 2 ** -1 }}{{ 2.0 ** 0.5 }}{{ 1e308 * 10 }}{{ -1e308 * 10 }}
===
{%- set x = [] -%}{%- for i in l -%}{%- set x = x + [i] -%}{%- endfor -%}{{ x }}
===
{% for i in l %}{% for j in l %}{% if j == 1 %}{% break %}{% endif %}{{ j }}{% endfor %}|{% endfor %}
===
{{ s.__init__ }}
===
{{ (1, 2) | string }}{{ [(1,)] }}{{ {(1, 2): 3} }}{{ {[1]: 2} }}
===
{{ '\u0041\U0001F600' }}
===
{{ 'abc'[1] }}{{ 'abc'[5] | default('none') }}{{ 'abc'['x'] is defined }}
===
{{ "a" ~ "b" | upper }}{{ ("a" ~ "b") | upper }}{{ -1 | abs }}{{ - 1 | string }}
===
{{ l|join(', ')|upper }}{{ l | map('string') | map('length') | sum }}
===
{% set messages = [{'role': 'user', 'content': 'x'}] %}{{ messages[0].role }}{{ messages[-1]['content'] }}{{ messages[1:] }}{{ messages | map(attribute='role') | list }}

'''


def rendered(template):
    try:
        return {"text": chat_template_utils._compile_jinja_template(template).render(**CONTEXT)}
    except Exception:
        return {"error": True}


rows = [{"template": t, **rendered(t)} for t in TEMPLATES[1:-1].split("\n===\n")]
out = pathlib.Path(__file__).parent / "policy" / "jinja.json"
text = json.dumps({"how": "transformers.utils.chat_template_utils._compile_jinja_template", "now": NOW,
                   "context": CONTEXT, "rows": rows}, indent=1, ensure_ascii=False)
out.write_text(text + "\n")
