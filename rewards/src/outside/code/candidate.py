# Loads the candidate's code and does what the judge asks. Nothing here is trusted, and no expected value comes here.
import builtins, copy, math, operator, types
builtins.exit = builtins.quit = sys.exit

# Arguments of these types may be changed in place.
MUTABLE = {'bytearray', 'Counter', 'OrderedDict', 'array', 'defaultdict', 'deque', 'dict', 'list', 'set'}
# What the judge may ask of an object beside calls.
ACTIONS = {f.__name__: f for f in (
    getattr, setattr, delattr, type, dir, len, iter, hash, bool, int, float, complex, str, repr, format, round, divmod, pow,
    bytes, reversed, isinstance, issubclass, copy.copy, copy.deepcopy, math.trunc, math.floor, math.ceil)}
ACTIONS.update((name, getattr(operator, name)) for name in (
    'eq ne lt le gt ge add sub mul truediv floordiv mod matmul and_ or_ xor lshift rshift iadd isub imul itruediv '
    'ifloordiv imod imatmul iand ior ixor ilshift irshift ipow neg pos abs invert index getitem setitem delitem '
    'contains').split())


def serve():
    lines, out = take_pipes()
    module = sys.modules['solution'] = types.ModuleType('solution')
    module.__file__ = os.path.abspath('solution.py')
    # What was sent and stays here, so that the same object always has the same number.
    objects, numbers = [], {}
    # Data that the tests have copies of.
    shared = set()
    # What stands here for functions and exceptions of the judge.
    functions, passing = {}, {}
    # What an iterator raised after the items that were sent.
    pending = {}
    level = 0

    def number(value):
        n = numbers.setdefault(id(value), len(objects))
        if n == len(objects):
            objects.append(value)
        return n

    def share(value):
        shared.add(id(value))
        return number(value)

    def held(value, fresh):
        # The number of data that the program keeps, too: it has more references than data of nobody.
        return share(value) if type(value).__name__ in MUTABLE and sys.getrefcount(value) > fresh else None

    def fresh_count(value):
        return sys.getrefcount(value)

    def pack(value):
        return encode(value, send)

    def unpack(data):
        return decode(data, receive)

    def send(value, data):
        if isinstance(value, BaseException):
            return {'x': described(value)}
        if isinstance(value, type) and issubclass(value, BaseException):
            return {'y': kind(value)}
        if isinstance(value, types.CoroutineType):
            return {'a': number(value)}
        for k, known in functions.items():
            if known is value:
                return {'k': k}
        return {'r': number(value)} if data is None else {'o': [number(value), data]}

    def receive(tag, content):
        if tag == 'r':
            return objects[content]
        if tag == 'f':
            return getattr(builtins, content)
        if tag == 'q':
            return exception(*content)
        if tag == 'g':
            # An iterator: the function gives its next item in a list.
            return (item for items in iter(function(content), []) for item in items)
        return function(content[0], unpack(content[1]))

    def function(k, looks={}):
        if k in functions:
            return functions[k]

        def back(*args, **kwargs):
            reply = exchange(['back', k, pack(args), pack(kwargs)])
            if reply[0] == 'ok':
                return unpack(reply[1])
            raise exception(*reply[1])
        names = looks.pop('parameters', None)
        if names is not None:
            # Some decorators count the parameters.
            given = ', '.join(names)
            call = 'back' + '_' * len(given)
            functions[k] = eval(f'lambda {given}: {call}({given})', {call: back})
        else:
            functions[k] = back
        for name, value in looks.items():
            setattr(functions[k], name, value)
        return functions[k]

    def kind(cls):
        if cls.__module__ == 'builtins':
            return ['builtins', cls.__name__]
        bases = [kind(b) for b in cls.__bases__ if issubclass(b, BaseException)]
        return [cls.__module__, cls.__name__, number(cls), bases]

    def described(error):
        nonlocal level
        if id(error) in passing:
            return {'local': passing[id(error)][0]}
        found = {'id': number(error), 'kind': kind(type(error)), 'text': ''}
        file = [error.filename] if isinstance(error, OSError) and error.filename is not None else []
        fields = {'text': lambda: str(error)[:100000], 'args': lambda: pack(list(error.args) + file),
                  'vars': lambda: pack(dict(vars(error)))}
        level += 1
        # Exceptions may refer to each other.
        for name in fields if level < 4 else ():
            try:
                found[name] = fields[name]()
            except Exception:
                pass
        if level < 4 and error.__cause__ is not None:
            found['cause'] = described(error.__cause__)
        level -= 1
        return found

    def exception(k, name, text, original):
        # An exception of the judge: one that came from here, or what stands for it.
        if original is not None:
            return objects[original]
        try:
            error = getattr(builtins, name)(text)
        except Exception:
            error = Exception(text)
        passing[id(error)] = (k, error)
        return error

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
            return ['exc', described(error)]

    def perform(action, target=None, *rest):
        if action == 'setup':
            exec(compile(target, 'setup.py', 'exec'), module.__dict__)
            return ['ok', None]
        if action == 'load':
            with open('solution.py', encoding='utf-8') as f:
                source = f.read()
            exec(compile(source, 'solution.py', 'exec'), module.__dict__)
            return ['ok', None]
        if action == 'seed':
            import random
            random.seed(*unpack(target))
            return ['ok', None]
        if action == 'find':
            found = target in module.__dict__
            value = module.__dict__.get(target)
            return ['ok', pack(value), held(value, fresh), found]
        if action == 'do':
            value = ACTIONS[target](*unpack(rest[0]))
            return ['ok', pack(value), held(value, fresh)]
        if action == 'put':
            replace(objects[target], unpack(rest[0]))
            return ['ok', None]
        thing = objects[target]
        if action == 'call':
            args, kwargs = unpack(rest[0]), unpack(rest[1])
            given = [*args, *kwargs.values()]
            before = [pack(a) for a in given]
            refs = [sys.getrefcount(a) for a in given]
            value = thing(*args, **kwargs)
            result = pack(value)
            # Arguments that were changed in place, and the one that is the result.
            own = {i: a for i, a in enumerate(given)
                   if type(a).__name__ in MUTABLE and (id(a) not in numbers or id(a) in shared)}
            after = {i: pack(a) for i, a in own.items()}
            same = next((i for i, a in own.items() if a is value), None)
            kept = {i: share(a) for i, a in own.items() if a is not value and sys.getrefcount(a) > refs[i] + 1}
            return ['ok', result, {i: a for i, a in after.items() if a != before[i]}, same, held(value, fresh), kept]
        if action == 'next':
            if target in pending:
                raise pending.pop(target)
            items, last = [], None
            try:
                while len(items) < rest[0]:
                    items.append(pack(next(thing)))
            except StopIteration as end:
                last = end.value
            except BaseException as error:
                if not items:
                    raise
                pending[target] = error
            return ['ok', items, target in pending, pack(last)]
        if action == 'data':
            return ['ok', encode(thing, lambda value, data: data if value is thing else send(value, data))]
        if action == 'enter':
            return ['ok', pack(thing.__enter__())]
        if action == 'leave':
            error = unpack(rest[0])
            return ['ok', bool(thing.__exit__(type(error) if error else None, error, None))]
        if action == 'await':
            import asyncio
            return ['ok', pack(asyncio.run(thing))]
        raise ValueError(action)

    unheld = []
    fresh = fresh_count(unheld)
    write_line(out, '"up"')
    for line in lines:
        write_line(out, json.dumps(answer(json.loads(line))))


serve()
