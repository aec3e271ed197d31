//! Jinja templates as transformers renders them: the language of Jinja 3 with Python's values, in bounded work and memory.
//!
//! A chat template comes with a model's files and may be anyone's program, so that a rendering counts what it does and
//! what it makes. The environment is that of `apply_chat_template`: blocks trimmed, loop controls, `raise_exception`,
//! `strftime_now`, `tojson` that escapes nothing for HTML, and nothing that changes a list or dict. Sources: the template
//! designer documentation of Jinja 3.1; `transformers/utils/chat_template_utils.py`.

mod ast;
mod call;
mod expression;
mod filters;
mod lexer;
mod methods;
mod parser;
mod percent;
mod predicates;
mod run;
mod sequences;
mod statements;
mod strftime;

mod text;
mod value;

use std::ops::Range;
use std::sync::Arc;

use ast::Ast;
use run::Run;
use value::{Function, Value};

/// What is wrong with a template or went wrong in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Line of the template, from 1; 0 where none is known.
    pub(crate) line: u32,
    pub(crate) message: String,
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self { line: 0, message }
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

type Res<T> = Result<T, Fault>;

/// Bounds of a rendering.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Steps: expressions, statements, values of a loop, and 64 bytes of text each.
    pub(crate) work: u64,
    /// Bytes of all text and lists made on the way, the result included.
    pub(crate) memory: u64,
}

/// A parsed template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    ast: Arc<Ast>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// A syntax error with its line, or brackets and blocks too deep within each other.
    pub(crate) fn parse(source: &str) -> Result<Self, Fault> {
        Ok(Self { ast: statements::parse(source)?.into() })
    }

    /// Whether the template reads a variable of that name anywhere.
    pub(crate) fn reads(&self, name: &str) -> bool {
        self.ast.reads.contains(name)
    }

    /// The names that the template reads and never sets: those that its caller may give.
    pub(crate) fn free_names(&self) -> impl Iterator<Item = &str> {
        self.ast
            .reads
            .difference(&self.ast.binds)
            .map(|name| &**name)
            .filter(|name| Function::named(name).is_none())
    }

    /// The text of the template with the given names, and where its `{% generation %}` blocks lie, in bytes; `now` is in seconds
    /// since 1970, UTC.
    ///
    /// # Errors
    /// Whatever the template raises, what Python would raise, or a bound that was passed, with the line.
    pub(crate) fn render<'a>(
        &self,
        context: impl IntoIterator<Item = (&'a str, &'a serde_json::Value)>,
        limits: Limits,
        now: u64,
    ) -> Result<(String, Vec<Range<usize>>), Fault> {
        let run = Run::new(&self.ast, limits, now);
        let names =
            context.into_iter().map(|(name, value)| Ok((name.into(), Value::from_json(value, &run)?)));
        let names = names.collect::<Res<Vec<_>>>()?;
        run.render(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden_json;

    const LIMITS: Limits = Limits { work: 1_000_000, memory: 8 << 20 };

    fn render(source: &str, context: &serde_json::Value, now: u64) -> Res<String> {
        let context = context.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value));
        Ok(Template::parse(source)?.render(context, LIMITS, now)?.0)
    }

    #[test]
    fn small_templates_as_transformers_renders_them() {
        let golden = golden_json("policy/jinja.json");
        for row in golden["rows"].as_array().unwrap() {
            let source = row["template"].as_str().unwrap();
            let found = render(source, &golden["context"], golden["now"].as_u64().unwrap());
            match row["text"].as_str() {
                Some(text) => assert_eq!(found.as_deref(), Ok(text), "{source}"),
                None => assert!(found.is_err(), "{source}: {found:?}"),
            }
        }
    }

    #[test]
    fn whatever_a_template_does_is_bounded() {
        let none = serde_json::json!({});
        let pairs =
            "{% set n = namespace(x=1) %}{% for i in range(99) %}{% set n.x = (n.x, n.x) %}{% endfor %}";
        for (source, part) in [
            ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "more memory"),
            (
                "{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
                "more memory",
            ),
            (
                "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = y %}{% endfor %}",
                "more memory",
            ),
            (
                "{% set x = 'a' * 500000 %}{% for i in range(99999) %}{% set y = x.split('a') %}{% endfor %}",
                "more memory",
            ),
            ("{{ 'a' * 99999999999 }}", "more memory"),
            ("{{ ([1] * 99999999999) | length }}", "more memory"),
            ("{{ 'a'.center(99999999999) }}", "more memory"),
            ("{{ 'a'.replace('', 'b' * 9999999).replace('', 'c' * 9999999) }}", "more memory"),
            ("{{ [[1]] | tojson(indent=99999999999) }}", "more memory"),
            ("{{ range(99999) | join('x' * 99999) }}", "more memory"),
            ("{{ [1] | batch(99999999999, 1) | list }}", "more memory"),
            ("{{ '%99999999999d' % 1 }}", "too large"),
            ("{{ '{:99999999999}'.format(1) }}", "too large"),
            ("{{ 9 ** 9 ** 9 ** 9 }}", "too large"),
            ("{% set x = 'a' * 500000 %}{% for i in range(99999) %}{{ 'b' in x }}{% endfor %}", "more work"),
            (
                "{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
                "more",
            ),
            (
                "{% set n = namespace(x=[1], y=[1]) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}",
                "more work",
            ),
            (
                "{% set n = namespace(x=[1]) %}{% for a in range(9999) %}{% set n.x = [n.x] %}{% endfor %}",
                "nested",
            ),
            (
                "{% set n = namespace(x=1) %}{% for a in range(9999) %}{% for b in [n.x] %}{% set n.x = loop %}{% endfor %}{% endfor %}",
                "nested",
            ),
            (
                "{% for a in range(99999) %}{% set b = 1 %}{% macro m() %}{% endmacro %}{% set c = 1 %}{% endfor %}",
                "more memory",
            ),
            // Keys of dicts.
            (&format!("{pairs}{{{{ {{n.x: 1}} }}}}"), "more"),
            (&format!("{pairs}{{{{ n.x in {{}} }}}}"), "more"),
            (&format!("{pairs}{{{{ ({{}})[n.x] }}}}"), "more"),
            (&format!("{pairs}{{{{ {{}}.get(n.x) }}}}"), "more"),
            (&format!("{pairs}{{{{ [n.x] | unique | list }}}}"), "more"),
            (&format!("{pairs}{{{{ dict([(n.x, 1)]) }}}}"), "more"),
            (
                "{% set x = 'a' * 500000 %}{% set d = {x: 1} %}{% for i in range(99999) %}{% set y = d[x] %}{% endfor %}",
                "more work",
            ),
            (
                "{% set d = {'a' * 500000: 1} %}{% for i in range(99999) %}{% set y = d == d %}{% endfor %}",
                "more work",
            ),
            ("{% set n = namespace() %}{% set n.n = n %}{{ n }}", "too deeply"),
            ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "too deeply"),
            ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "too deeply"),
        ] {
            let fault = render(source, &none, 0).unwrap_err();
            assert!(fault.message.contains(part), "{source}: {}", fault.message);
        }
        // What is not there is kept with a short message.
        for source in ["{{ (1 | attr('a' * 5000)).b }}", "{{ {}['a' * 5000].b }}"] {
            let message = render(source, &none, 0).unwrap_err().message;
            assert!(message.contains("aaa") && message.len() < 300, "{source}: {message}");
        }
        // Chains through namespaces, macros and loops are taken apart without recursion.
        for source in [
            "{% set n = namespace(p=0) %}{% for a in range(19999) %}{% set n.p = namespace(p=n.p) %}{% endfor %}",
            "{% set n = namespace(m=0) %}{% for i in range(9999) %}{% set p = n.m %}{% macro m() %}{% endmacro %}{% set n.m = m %}{% endfor %}",
            "{% set n = namespace(l=0) %}{% for a in range(9999) %}{% for b in [1] %}{% if loop.changed(n.l) %}{% endif %}{% set n.l = loop %}{% endfor %}{% endfor %}",
            "{% set n = namespace(l=0) %}{% for a in range(9999) %}{% set p = n.l %}{% for b in [1] recursive %}{% set n.l = loop %}{% endfor %}{% endfor %}",
        ] {
            assert_eq!(render(source, &none, 0).as_deref(), Ok(""), "{source}");
        }
    }
    #[test]
    fn long_and_many_arguments_take_work() {
        let none = serde_json::json!({});
        let ends = |source: &str| {
            let found = render(source, &none, 0).map(|text| text.len());
            let bounded = found.as_ref().is_err_and(|e| e.message.contains("than a chat template may"));
            assert!(bounded, "{source:.200}: {found:?}");
        };
        for expression in [
            "'a'.strip(c)",
            "'a'.find(c)",
            "1 | attr(c)",
            "'a' | replace(c, c)",
            "'a' is eq(c)",
            "[] | tojson(separators=(c, c))",
            "[] | map(attribute=c) | list",
            "c | int",
            "c | float",
            "c[:400000] | trim('b')",
            "c.startswith((c,) * 99)",
            "strftime_now('%n' * 9999)",
        ] {
            ends(&format!(
                "{{% set c = 'b' * 500000 %}}{{% for i in range(9999) %}}{{% set y = {expression} %}}{{% endfor %}}"
            ));
        }
        ends("{% set c = ' ' * 500000 %}{% for i in range(9999) %}{% set y = c | trim %}{% endfor %}");
        // Not as much as the product of the two lengths.
        let stripped =
            "{{ ('a' * 900000).strip('b' * 900000 ~ 'a') }}{{ ('a' * 900000) | trim('b' * 900000 ~ 'a') }}";
        assert_eq!(render(stripped, &none, 0).as_deref(), Ok(""));
        ends("{{ [] | map(attribute='.' * 4000000) | list }}");
        ends("{{ [] | sort(attribute=',' * 4000000) }}");
        ends(
            "{% set t = (1.5,) * 999 %}{% for i in range(9999) %}{% set y = '%.400g' * 999 % t %}{% endfor %}",
        );
        let names = |text: &str, count: usize| {
            (0..count).map(|n| text.replace('#', &n.to_string())).collect::<String>()
        };
        let dict = format!("{{% set d = {{{}}} %}}", names("'a#': 1,", 9999));
        ends(&format!("{dict}{{{{ (['a'] * 9999) | map('format', **d) | list }}}}"));
        ends(&format!("{dict}{{% for i in range(99999) %}}{{% set n = namespace(d) %}}{{% endfor %}}"));
        let parameters = names("a#,", 9999);
        ends(&format!(
            "{{% macro m({parameters}) %}}{{% endmacro %}}{{% for i in range(9999) %}}{{{{ m() }}}}{{% endfor %}}"
        ));
        ends(&format!("{{% macro m({parameters}) %}}{{{{ kwargs }}}}{{% endmacro %}}{dict}{{{{ m(**d) }}}}"));
        // Nested arguments that are evaluated and wait.
        ends(&format!(
            "{{% macro m() %}}{{{{ m({}) }}}}{{{{ varargs }}}}{{% endmacro %}}{{{{ m() }}}}",
            names("#,", 9999)
        ));
        ends(&format!(
            "{{% macro m() %}}{{% set x = [{}m()] %}}{{% endmacro %}}{{{{ m() }}}}",
            names("#,", 9999)
        ));
    }

    #[test]
    fn keys_without_an_order_are_refused() {
        let keys = std::iter::successors(Some(75), |key| Some(key * 75 % 65_537)).take(60);
        let pairs = keys.map(|key| if key % 5 < 2 { format!("'{key}': 1,") } else { format!("{key}: 1,") });
        let source = format!("{{{{ {{{}}} | tojson(sort_keys=true) }}}}", pairs.collect::<String>());
        let fault = render(&source, &serde_json::json!({}), 0).unwrap_err();
        assert!(fault.message.contains("'<' not supported"), "{}", fault.message);
    }

    #[test]
    fn long_names_of_filters_are_read_once() {
        let fault = render(&format!("{{{{ 1 | a{} }}}}", ".a".repeat(300_000)), &serde_json::json!({}), 0)
            .unwrap_err();
        assert!(fault.message.contains("No filter named"), "{}", fault.message.len());
    }
}
