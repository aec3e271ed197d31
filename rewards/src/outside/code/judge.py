# Runs the tests. The candidate's code is never here: its functions are asked for in the other process, what they return
# comes as plain data and is compared by this process. Results carry the nonce.


def judge():
    global link
    lines, out = take_pipes()
    setup = json.loads(lines.readline())
    entry, tests, tolerance = setup['entry_point'], setup['tests'], setup['tolerance']
    link = Link(lines, out)

    def report(**fields):
        # Whatever is in a text, the result can be read.
        for name, value in fields.items():
            if isinstance(value, str):
                fields[name] = value.encode('utf-8', 'replace').decode()
        write_line(out, setup['nonce'] + ' ' + json.dumps(fields))

    # NotImplemented is not true, as in newer versions of Python.
    warnings.filterwarnings('error', 'NotImplemented', DeprecationWarning)
    report(phase='tests')
    space = Space({'__name__': 'tests', 'next of the tests': next_of, 'next inside of the tests': next_inside, 'type of the tests': type_of,
                   'is of the tests': same, 'method of the tests': method_of, 'claim of the tests': Claim(), 'failure of the tests': Failure(),
                   'error of the tests': Own(),
                   'unheard of the tests': unheard, 'id of the tests': id_of})
    space.update((f'{name} of the program', kind) for name, kind in CONTROL.items())
    try:
        first = Survey(setup['test_setup'], 'test_setup')
        surveys = [Survey(t['code'], 'test') if 'code' in t else None for t in tests]
        names = Names(entry and Survey(entry, 'entry_point', 'eval'), first, [s for s in surveys if s],
                      *defined_by(setup['solution']))
        link.classes, link.possible = names.classes, names.possible
        if not entry and any('check' in s.own and 'check' not in s.free for s in surveys if s):
            raise ValueError('check needs an entry_point')
        link.involved = any(s.reaches() for s in [first] + [s for s in surveys if s])
        suspicion.nothing = any(s.expects_nothing() for s in [first] + [s for s in surveys if s])
        theirs = names.shadowed if names.everywhere else set()
        programs = [s and s.program(theirs) for s in surveys]
        calls = [readings(t['args']) if 'args' in t else None for t in tests]
        # What the candidate has to define is not there without it.
        builtins_left = {k: v for k, v in vars(builtins).items() if k not in names.shadowed}
        space['__builtins__'] = builtins_left if names.everywhere else vars(builtins)
        space.update((name, __import__(name)) for name in names.modules)
        sys.modules['solution'] = Solution('solution')
        if any('random' in s.imported | s.free for s in [first] + [s for s in surveys if s]):
            seed_both()
        exec(first.program(theirs), space)
    except (Exception, Unclear, Unsendable) as error:
        return report(bad=shown(error))
    report(phase='setup')
    try:
        link.ask('setup', setup['setup'])
    except BaseException as error:
        return report(bad=f'setup: {shown(error)}')
    report(phase='load')
    try:
        link.ask('load')
        link.loaded = True
        if link.seeded is not None:
            link.ask('seed', link.seeded)
    except BaseException as error:
        return report(load=shown(error))
    report(phase='run')
    space.wanted = names.wanted if names.everywhere else names.wanted - names.shadowed
    passed, some, failure = True, False, None
    for i, test in enumerate(tests):
        failures = link.failures
        try:
            around = {k: v for k, v in space.items() if k not in names.entry}
            candidate = eval(entry, Space({**around, '__builtins__': builtins_left}, names.entry)) if entry else None
            if programs[i] is None:
                ok, why = gives(candidate, calls[i], test['want'], tolerance), 'another value'
            else:
                space.find_first(surveys[i].in_classes)
                run_program(programs[i], space, candidate, entry)
                ok, why = True, ''
            if link.catching and link.failures > failures:
                unsure('the tests believe an exception of the program that takes their own errors')
            unclear = link.unsendable
        except Unclear as error:
            unclear = str(error)
        except BaseException as error:
            # A test may have caught what says that something cannot be sent.
            ok, why, unclear = False, shown(error), link.unsendable
            failure = error
            link.involved |= link.came not in (None, error)
        if unclear and not link.lost:
            # A program that has failed a test has failed, whatever the others would say.
            return report(bad=unclear) if passed else report(end=True)
        if link.lost:
            ok, why = False, link.lost
        if not ok and link.involved and not link.lost and suspicion.verdict(failure):
            return report(caught=suspicion.caught)
        # What does not keep to the protocol has failed, with its tests in one process or not.
        report(i=i, ok=ok, why=why, involved=link.full or link.involved and not link.lost)
        passed, some = passed and ok, some or ok
        if link.lost:
            break
    if (passed or some and setup['partial']) and evidence.undecided():
        doubt = evidence.undecided()
        return report(caught=suspicion.caught) if suspicion.verdict() else report(doubt=doubt)
    if passed and not link.used:
        return report(bad='the tests ask nothing of the program')
    report(end=True)


def seed_both():
    # Random numbers that a test seeds are those of the program, too.
    import random
    own = random.seed

    def seed(*args, **kwargs):
        own(*args, **kwargs)
        link.seeded = link.pack([*args, *kwargs.values()])
        if link.loaded:
            link.ask('seed', link.seeded)
    random.seed = seed


def gives(candidate, readings, want, tolerance):
    # One reading of the arguments under which the call gives the value is enough: under another one it may raise, as an
    # integer that was read as a float does in a range.
    failure = None
    for args in readings:
        try:
            if is_value(candidate(*args), want, tolerance):
                return True
        except (Lost, Unsendable):
            raise
        except BaseException as error:
            failure = failure if isinstance(failure, Unclear) else error
    if failure is not None:
        raise failure
    return False


def shown(error):
    return f'{type(error).__name__}: {brief(error)}'.rstrip(': ')


class Solution(type(sys)):
    # The candidate's program as a module.
    def __getattr__(self, name):
        found, value = (False, None) if name.startswith('__') else find(name)
        if not found:
            raise AttributeError(f"module 'solution' has no attribute '{name}'")
        return value


def find(name):
    link.finding = True
    value, n, found = link.understand(lambda r: (link.unpack(r[0]), r[1], r[2] is True), link.ask('find', name))
    link.finding = False
    value = link.shared.add(link, value, n)
    if name in link.classes and type(value) is Remote:
        # By another name the same class may be in the place of a function.
        value = Remote(value._number, value._base, 'class')
    elif type(value) is Remote:
        value = Remote(value._number, value._base, 'possible class' if name in link.possible else 'found')
    if type(value) is Remote and value._standing in MAKES:
        evidence.named[value._number] = value._number
    # A function or a class is used when it is called; what is here as data, when it is read.
    link.used = link.used or found and not stays_there(value)
    return found, value


def stays_there(value):
    # Whether the value is only a stand-in for a function, a class or an object that has to be asked.
    return type(value) in OPAQUE or type(value) is Kind


class Space(dict):
    # The names of the tests. Those of the candidate are looked up there when they are read.
    def __init__(self, names, wanted=(), **more):
        super().__init__(names, **more)
        self.wanted = wanted

    def __missing__(self, name):
        found, value = find(name) if name in self.wanted else (False, None)
        if not found:
            raise KeyError(name)
        # Data may be other data the next time.
        if stays_there(value):
            self[name] = value
        return value

    def find_first(self, names):
        for name in names & self.wanted - self.keys():
            found, value = find(name)
            if found:
                self[name] = value


def id_of(value):
    # There may be several stand-ins for one object, and one after the other at one place.
    n = number_of(value)
    return id(value) if n is None else 1 << 62 | n


def type_of(value):
    if type(value) not in OPAQUE:
        return type(value)
    kind = link.do('type', value)
    if number_of(kind) is None and kind is not object:
        # What is of a plain type was sent as its value.
        raise TypeError('an object of the program is of no such type')
    return kind


def method_of(value, name):
    # By its name a comparison would give NotImplemented, which some take for true.
    if type(value) not in OPAQUE or value._base:
        return getattr(value, name)
    if value._standing not in OWN:
        raise AttributeError(f'an object of the program has no {name}')
    return link.do('getattr', value, name)


def prepare_cases():
    import unittest
    # There may be several stand-ins for one object.
    unittest.TestCase.assertIs = lambda self, a, b, msg=None: self.assertTrue(same(a, b), msg)
    unittest.TestCase.assertIsNot = lambda self, a, b, msg=None: self.assertFalse(same(a, b), msg)


class Claim:
    # Around what a test asserts. Which errors came of it is kept: no context manager of a program may take them.
    def __enter__(self):
        pass

    def __exit__(self, kind, error, trace):
        if error is not None:
            link.asserted.append(error)
            link.failures += 1


class Own(Claim):
    # Around an error that the tests raise.
    def __exit__(self, kind, error, trace):
        link.failures += 1


class Failure(Claim):
    # Around what fails whatever the program does: a manager that takes it may be asked to.
    def __exit__(self, kind, error, trace):
        if error is not None:
            error._own = True


judge()
