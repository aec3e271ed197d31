# Loads the candidate's code and does what the judge asks. Nothing here is trusted, and no expected value comes here.
import builtins, types
builtins.exit = builtins.quit = sys.exit


def serve():
    lines, out = take_pipes()
    module = sys.modules['solution'] = types.ModuleType('solution')
    objects = []

    def reference(value):
        objects.append(value)
        return {'r': len(objects) - 1}

    def other(tag, content):
        if tag == 'r':
            return objects[content]
        def back(*args, **kwargs):
            return read(exchange(['back', content, [encode(a, reference) for a in args],
                                  {k: encode(v, reference) for k, v in kwargs.items()}]))
        return back

    def read(reply):
        if reply[0] == 'ok':
            return decode(reply[1], other)
        raise getattr(builtins, reply[1], Exception)(reply[2])

    def exchange(message):
        write_line(out, json.dumps(message))
        while True:
            request = json.loads(lines.readline())
            if request[0] == 'ret':
                return request[1]
            write_line(out, json.dumps(answer(request)))

    def answer(request):
        try:
            return perform(*request)
        except BaseException as error:
            try:
                text = str(error)[:500]
            except BaseException:
                text = ''
            return ['exc', [c.__name__ for c in type(error).__mro__], text]

    def perform(kind, target=None, *rest):
        if kind == 'load':
            if target:
                exec(compile(target, 'setup.py', 'exec'), module.__dict__)
            with open('solution.py', encoding='utf-8') as f:
                source = f.read()
            exec(compile(source, 'solution.py', 'exec'), module.__dict__)
            return ['ok', None]
        if kind == 'get':
            return ['ok', encode(module.__dict__[target], reference)]
        thing = objects[target]
        if kind == 'call':
            args, kwargs = rest
            values = [decode(a, other) for a in args]
            before = [encode(v, reference) for v in values]
            result = encode(thing(*values, **{k: decode(v, other) for k, v in kwargs.items()}), reference)
            # Arguments that were changed in place.
            changed = {}
            for i, v in enumerate(values):
                if isinstance(v, (list, dict, set, bytearray)):
                    after = encode(v, reference)
                    if after != before[i]:
                        changed[i] = after
            return ['ok', result, changed]
        if kind == 'attr':
            return ['ok', encode(getattr(thing, rest[0]), reference)]
        if kind == 'set':
            setattr(thing, rest[0], decode(rest[1], other))
            return ['ok', None]
        if kind == 'item':
            return ['ok', encode(thing[decode(rest[0], other)], reference)]
        if kind == 'put':
            thing[decode(rest[0], other)] = decode(rest[1], other)
            return ['ok', None]
        if kind == 'len':
            return ['ok', len(thing)]
        if kind == 'iter':
            return ['ok', reference(iter(thing))]
        if kind == 'next':
            items = []
            for item in thing:
                items.append(encode(item, reference))
                if len(items) == rest[0]:
                    break
            return ['ok', items]
        if kind == 'text':
            return ['ok', (str if rest[0] == 'str' else repr)(thing)]
        raise ValueError(kind)

    for line in lines:
        write_line(out, json.dumps(answer(json.loads(line))))


serve()
