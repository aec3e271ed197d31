# Runs the tests. The candidate's code is never here: its functions are asked for in the other process, what they return
# comes as plain data and is compared by this process. Results carry the nonce.
import ast, builtins, math


class RemoteError(Exception):
    pass


def judge():
    lines, out = take_pipes()
    setup = json.loads(lines.readline())
    nonce = setup['nonce']
    local = []

    def report(**fields):
        write_line(out, nonce + ' ' + json.dumps(fields))

    def send(value):
        if type(value) is Remote:
            return {'r': object.__getattribute__(value, '_id')}
        if callable(value):
            local.append(value)
            return {'k': len(local) - 1}
        raise Unsendable(f'tests cannot send a {type(value).__name__} to the candidate')

    def receive(tag, content):
        if tag == 'k':
            return local[content]
        return Remote(int(content))

    def ask(*message):
        text = json.dumps(message)
        while True:
            write_line(out, 'C ' + text)
            reply = json.loads(lines.readline())
            if reply[0] != 'back':
                break
            try:
                arguments = [decode(a, receive) for a in reply[2]]
                keywords = {k: decode(v, receive) for k, v in reply[3].items()}
                result = ['ok', encode(local[reply[1]](*arguments, **keywords), send)]
            except Exception as error:
                result = ['exc', type(error).__name__, str(error)[:500]]
            text = json.dumps(['ret', result])
        if reply[0] == 'exc':
            for name in reply[1]:
                kind = getattr(builtins, name, None)
                if isinstance(kind, type) and issubclass(kind, Exception):
                    if kind in (Exception, UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError):
                        break
                    raise kind(reply[2])
            raise RemoteError(f'{reply[1][0]}: {reply[2]}')
        return reply

    def value_of(*message):
        return decode(ask(*message)[1], receive)

    class Remote:
        # An object of the candidate. It equals nothing but itself: the candidate's own comparisons are never asked.
        __slots__ = ('_id',)

        def __init__(self, number):
            object.__setattr__(self, '_id', number)

        def __call__(self, *args, **kwargs):
            reply = ask('call', self._id, [encode(a, send) for a in args],
                        {k: encode(v, send) for k, v in kwargs.items()})
            for i, after in reply[2].items():
                mine, after = args[int(i)], decode(after, receive)
                if isinstance(mine, (list, bytearray)):
                    mine[:] = after
                elif isinstance(mine, (dict, set)):
                    mine.clear()
                    mine.update(after)
            return decode(reply[1], receive)

        def __getattr__(self, name):
            if name.startswith('__'):
                raise AttributeError(name)
            return value_of('attr', self._id, name)

        def __setattr__(self, name, value):
            ask('set', self._id, name, encode(value, send))

        def __getitem__(self, key):
            return value_of('item', self._id, encode(key, send))

        def __setitem__(self, key, value):
            ask('put', self._id, encode(key, send), encode(value, send))

        def __len__(self):
            return value_of('len', self._id)

        def __bool__(self):
            return True

        def __iter__(self):
            iterator, size = value_of('iter', self._id), 1
            while True:
                items = value_of('next', iterator._id, size)
                yield from items
                if len(items) < size:
                    return
                size = min(2 * size, 1024)

        def __next__(self):
            items = value_of('next', self._id, 1)
            if not items:
                raise StopIteration
            return items[0]

        def __str__(self):
            return value_of('text', self._id, 'str')

        def __repr__(self):
            return value_of('text', self._id, 'repr')

    def run_case(case):
        import unittest
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
        for _, text in result.failures + result.errors + [(t, 'passed unexpectedly') for t in result.unexpectedSuccesses]:
            raise AssertionError(text.strip().splitlines()[-1])

    def plain(value):
        # JSON has no tuples.
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return value

    def close(a, b):
        if type(a) is bool or type(b) is bool:
            return a is b
        if setup['tolerance'] is not None and isinstance(a, (int, float)) and isinstance(b, (int, float)):
            return a == b or math.isclose(a, b, rel_tol=setup['tolerance'], abs_tol=setup['tolerance'])
        if isinstance(a, list) and isinstance(b, list):
            return len(a) == len(b) and all(map(close, a, b))
        if isinstance(a, dict) and isinstance(b, dict):
            return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
        return a == b

    entry, tests = setup['entry_point'], setup['tests']
    space = {'__name__': 'tests', '__builtins__': builtins}
    wanted, own = set(), set()
    programs = []

    def prepare(source, name):
        tree = ast.parse(source, name)
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                own.add(node.name)
                if node.name == 'check' and not entry and 'check' not in names:
                    raise ValueError('check needs an entry_point')
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                own.update((a.asname or a.name).split('.')[0] for a in node.names)
        wanted.update(names)
        return compile(tree, name, 'exec')

    try:
        if entry:
            prepare(entry, 'entry_point')
        first = prepare(setup['test_setup'], 'test_setup')
        for test in tests:
            programs.append(prepare(test['code'], 'test') if 'code' in test else None)
        exec(first, space)
    except Exception as error:
        return report(bad=f'{type(error).__name__}: {error}')
    report(ready=True)
    try:
        ask('load', setup['setup'])
    except Exception as error:
        return report(load=f'{type(error).__name__}: {error}'[:300])
    report(loaded=True)
    for name in sorted(wanted - own):
        # Built-ins, modules and what the tests define are never the candidate's.
        if name in space or hasattr(builtins, name):
            continue
        if name in getattr(sys, 'stdlib_module_names', ()):
            try:
                space[name] = __import__(name)
            except ImportError:
                pass
            continue
        try:
            space[name] = value_of('get', name)
        except Exception:
            pass
    for i, test in enumerate(tests):
        try:
            candidate = eval(entry, space) if entry else None
            if programs[i] is None:
                ok = close(plain(candidate(*test['args'])), test['want'])
                why = 'another value'
            else:
                before = set(space)
                if entry:
                    space.setdefault('candidate', candidate)
                exec(programs[i], space)
                for name in [n for n in space if n not in before or n == 'check']:
                    function = space[name]
                    if type(function) is type(judge) and name == 'check' and entry:
                        function(candidate)
                    elif type(function) is type(judge) and name.startswith('test_'):
                        function()
                    elif isinstance(function, type) and hasattr(function, 'countTestCases'):
                        run_case(function)
                ok, why = True, ''
        except Unsendable as error:
            return report(bad=str(error))
        except BaseException as error:
            ok, why = False, f'{type(error).__name__}: {error}'[:300].rstrip(': ')
        report(i=i, ok=ok, why=why)
    report(end=True)


judge()
