# One piece of the tests: its statements, then what it defines to be run.
import types


def run_program(program, space, candidate, entry):
    before = dict(space)
    if entry:
        space.setdefault('candidate', candidate)
    exec(program, space)
    # A later test may use a name again.
    for name in [n for n, value in space.items() if value is not before.get(n) or n == 'check']:
        value = space[name]
        if type(value) is types.FunctionType and name == 'check' and entry:
            run_to_its_end(value(candidate))
        elif type(value) is types.FunctionType and name.startswith('test_'):
            run_to_its_end(value())
        elif type(value) not in OPAQUE and type(value).__name__ != 'Kind' and isinstance(value, type) and hasattr(value, 'countTestCases'):
            run_case(value)


def run_to_its_end(result):
    if isinstance(result, types.CoroutineType):
        import asyncio
        asyncio.run(result)
    elif isinstance(result, types.GeneratorType):
        for _ in result:
            pass


def run_case(case):
    import unittest
    prepare_cases()
    result, errors = unittest.TestResult(), []
    add_error = result.addError
    result.addError = lambda test, error: (errors.append(error[1]), add_error(test, error))[1]
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    unexpected = [(t, 'passed unexpectedly') for t in result.unexpectedSuccesses]
    # Skipped by what the candidate did and not by its own condition.
    skipped = [(t, f'skipped: {text}') for t, text in result.skipped if not is_conditional(t)]
    for _, text in result.failures + result.errors + unexpected + skipped:
        raise AssertionError(text.strip().splitlines()[-1]) from (errors[0] if errors else None)


def is_conditional(test):
    method = getattr(test, getattr(test, '_testMethodName', ''), None)
    return getattr(type(test), '__unittest_skip__', False) or getattr(method, '__unittest_skip__', False)


