# The candidate's code and the tests together, in one ordinary process, after a test has failed where objects of the program
# were apart from what used them. What passes here is not wrong for certain. Nothing becomes right by it.
import builtins, types
builtins.exit = builtins.quit = sys.exit


def prepare_cases():
    pass


class Together(dict):
    # The names of the tests; the candidate's are looked up in its module.
    def __init__(self, names, wanted, module):
        super().__init__(names)
        self.wanted, self.module = wanted, module

    def __missing__(self, name):
        if name in self.wanted and hasattr(self.module, name):
            return getattr(self.module, name)
        raise KeyError(name)

    def find_first(self, names):
        self.update((name, getattr(self.module, name)) for name in names & self.wanted if hasattr(self.module, name))


def whole():
    lines, out = take_pipes()
    setup = json.loads(lines.readline())
    entry = setup['entry_point']
    first = Survey(setup['test_setup'], 'test_setup')
    surveys = [Survey(t['code'], 'test') for t in setup['tests'] if 'code' in t]
    names = Names(entry and Survey(entry, 'entry_point', 'eval'), first, surveys, *defined_by(setup['solution']))
    builtins_left = {k: v for k, v in vars(builtins).items() if k not in names.shadowed}
    module = sys.modules['solution'] = types.ModuleType('solution')
    module.__file__ = os.path.abspath('solution.py')
    wanted = names.wanted if names.everywhere else names.wanted - names.shadowed
    space = Together({'__name__': 'tests'}, wanted, module)
    space['__builtins__'] = builtins_left if names.everywhere else builtins
    space.update((name, __import__(name)) for name in names.modules)
    exec(compile(setup['setup'], 'setup.py', 'exec'), module.__dict__)
    with open('solution.py', encoding='utf-8') as f:
        source = f.read()
    import unittest
    before = belongings(unittest)
    exec(compile(source, 'solution.py', 'exec'), module.__dict__)
    if belongings(unittest) != before:
        # A program that changes what its tests are made of says nothing by passing them.
        return
    exec(compile(setup['test_setup'], 'test_setup', 'exec'), space)
    write_line(out, json.dumps([setup['nonce'], None, True]))
    for i, test in enumerate(setup['tests']):
        try:
            around = {k: v for k, v in space.items() if k not in names.entry}
            candidate = eval(entry, Together({**around, '__builtins__': builtins_left}, names.entry, module)) if entry else None
            if 'code' in test:
                space.find_first(Survey(test['code'], 'test').in_classes)
                run_program(compile(test['code'], 'test', 'exec'), space, candidate, entry)
                ok = True
            else:
                ok = any(gives_value(candidate, args, test['want'], setup['tolerance']) for args in readings(test['args']))
        except Unclear:
            ok = True
        except BaseException:
            ok = False
        if 'builtins' not in test.get('code', '') and 'patch' not in test.get('code', ''):
            ok = ok and belongings(unittest) == before
        write_line(out, json.dumps([setup['nonce'], i, ok]))


def belongings(unittest):
    return [{k: id(v) for k, v in vars(thing).items() if not k.startswith('_') or k in ('__import__', '__build_class__')}
            for thing in (builtins, unittest.TestCase, unittest.TestResult, unittest.TestLoader)]


def gives_value(candidate, args, want, tolerance):
    try:
        return is_value(candidate(*args), want, tolerance)
    except Exception:
        return False


whole()
