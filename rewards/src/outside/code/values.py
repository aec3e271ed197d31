# Whether what a call returned is the value of a test that is written in JSON.
import math, re
from decimal import Decimal

# Integers of at least this size may have become floats on their way through JSON.
LARGE = 2**63


class Unclear(BaseException):
    # JSON cannot say which of several values is meant.
    pass


def is_value(got, want, tolerance):
    doubts = []
    if not close(got, want, tolerance, doubts):
        return False
    if doubts:
        raise Unclear(doubts[0])
    return True


def close(got, want, tolerance, doubts):
    if type(got) in OPAQUE:
        if not got._base:
            return False
        got = data_of(got)
    if type(got) is bool or type(want) is bool or got is None or want is None:
        return got is want
    if isinstance(want, str):
        number = long_number(want)
        return is_text(got, want) or number is not None and is_number(got, number, tolerance, doubts)
    if isinstance(want, (int, float)):
        return is_number(got, want, tolerance, doubts)
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return False
        mine = {key(k): v for k, v in got.items()}
        return (len(mine) == len(got) and mine.keys() == want.keys()
                and all(close(mine[k], want[k], tolerance, doubts) for k in want))
    if isinstance(got, (set, frozenset)):
        # Written as a list in some order; whether an order was asked for is not said.
        doubts.append('a set where the test has a list')
        # What has no hash is in no set.
        theirs = frozen(want)
        return len(got) == len(want) and theirs is not None and frozen(list(got)) == theirs
    if isinstance(got, complex):
        got = (got.real, got.imag)
    if not isinstance(got, (list, tuple, range)) and full_name(type(got)) not in ('collections.deque', 'array.array'):
        return False
    return len(got) == len(want) and all(close(g, w, tolerance, doubts) for g, w in zip(got, want))


def is_number(got, want, tolerance, doubts):
    if isinstance(got, complex) and got.imag == 0:
        got = got.real
    if full_name(type(got)) in ('decimal.Decimal', 'fractions.Fraction') and got == got:
        # An integer stays one; anything else is a decimal fraction that was written as a float.
        got = int(got) if abs(got) < LARGE and got == int(got) else float(got)
    if not isinstance(got, (int, float)):
        return False
    if tolerance is not None:
        return got == want or math.isclose(got, want, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(want, float) and isinstance(got, int) and abs(want) >= LARGE:
        if got not in (int(want), int(Decimal(repr(want)))):
            doubts.append('an integer beyond 64 bits lost its digits in JSON; write the test as an assert')
        return float(got) == want
    return got == want


def is_text(got, want):
    if isinstance(got, str):
        return got == want
    if isinstance(got, (bytes, bytearray)):
        return bytes(got) == want.encode()
    name = full_name(type(got))
    if name in ('datetime.date', 'datetime.datetime', 'datetime.time') and got.isoformat() == want:
        return True
    return (name in STANDARD or isinstance(got, complex)) and str(got) == want


def key(k):
    # A key as JSON writes it.
    return json.dumps(k) if k is None or isinstance(k, (bool, int, float)) else str(k)


def frozen(value):
    # Members without their order.
    def hashable(v):
        return tuple(map(hashable, v)) if isinstance(v, (list, tuple)) else v
    try:
        return frozenset(map(hashable, value))
    except TypeError:
        return None


def readings(args):
    # What arguments may have been before JSON: whole floats of this size may have been integers, texts of many digits
    # numbers.
    found = [args]
    for other in (as_integers(args), as_numbers(args)):
        if all(repr(other) != repr(known) for known in found):
            found.append(other)
    return found


def long_number(text):
    # The number of a text that may have been one before it was read: where 64 bits hold fewer digits, they are kept as text.
    if len(text) < 16 or len(text) > 4000 or not re.fullmatch(r'-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?', text):
        return None
    if text.lstrip('-').isdigit():
        return int(text) if abs(int(text)) >= LARGE else None
    number = float(text)
    return number if math.isfinite(number) and Decimal(repr(number)) != Decimal(text) else None


def as_numbers(value):
    if isinstance(value, list):
        return [as_numbers(v) for v in value]
    if isinstance(value, dict):
        return {k: as_numbers(v) for k, v in value.items()}
    number = long_number(value) if isinstance(value, str) else None
    return value if number is None else number


def as_integers(value):
    if isinstance(value, list):
        return [as_integers(v) for v in value]
    if isinstance(value, dict):
        return {k: as_integers(v) for k, v in value.items()}
    if isinstance(value, float) and LARGE <= abs(value) < math.inf:
        exact = Decimal(repr(value))
        if len(exact.as_tuple().digits) > 15:
            raise Unclear('an integer beyond 64 bits lost its digits in JSON; write the test as an assert')
        return int(exact)
    return value
