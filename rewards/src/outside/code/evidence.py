# What the tests may believe of an object that a program gave them in the place of a value.

# The standing of a stand-in says how the tests came to it. Under these an object answers for itself: it was made of a class
# that the tests name.
OWN = {'class', 'made'}
# The same where the name may mean a function as well, or where it was computed: nothing that rests on it is decided.
POSSIBLE = {'possible class', 'possible', 'derived'}
FREE = OWN | POSSIBLE
# Items that are kept of an object, and the longest one that is counted when its length is asked.
KEPT, COUNTED = 100000, 10000
# Items that are looked at in all beside those that tests ask for.
LOOKED_AT = 50000
DIFFERENCE = 'the tests believe an object of the program that it differs by nothing'
# What changes nothing in an object. Anything else may, and what it gave before is forgotten.
PURE = {'find', 'seed', 'next', 'data', 'traits'}
LOOKING = {'getattr', 'type', 'len', 'iter', 'hash', 'bool', 'int', 'float', 'complex', 'str', 'repr', 'format', 'bytes',
           'round', 'reversed', 'isinstance', 'issubclass', 'index', 'contains', 'getitem', 'eq', 'ne', 'lt', 'le', 'gt', 'ge'}


class Evidence:
    def __init__(self):
        # Why a passed test decides nothing; what methods answered when they were given values of the tests.
        self.doubt, self.answers = None, {}
        self.traits, self.tapes, self.left = {}, {}, LOOKED_AT

    def asked(self, message):
        if message[0] not in PURE and not (message[0] == 'do' and message[1] in LOOKING):
            self.tapes.clear()

    def answered(self, name, result):
        # A method that only says yes may say it to all. One that says yes and no, or gives data, is compared by the tests.
        said = self.answers.setdefault(name, set())
        if result is None or isinstance(result, bool):
            said.add(result)
        elif isinstance(result, (int, float)) and abs(result) <= 1:
            said.add(bool(result))
        elif type(result) not in OPAQUE:
            said.update((True, False))

    def undecided(self):
        if self.doubt:
            return self.doubt
        for name, said in self.answers.items():
            if said in ({True}, {False}):
                return (f'the tests believe what {name} of an object of the program says; '
                        'let them name its class, or ask also what is not so')
        return None


def traits_of(remote):
    n = remote._number
    if n not in evidence.traits:
        evidence.traits[n] = link.understand(lambda reply: [str(t) for t in reply[0]], link.ask('traits', n))
    return evidence.traits[n]


def deny(remote, why):
    # Of a class that the tests may name its own meaning is possible; what stands for a value has to be one.
    if remote._standing in POSSIBLE:
        unsure(f'{why}, and the tests do not say whether its name is the one of a class')
        return
    link.lost = link.lost or why
    raise Lost(link.lost)


class Tape:
    # What an object gave when it was iterated. It gives the same again: an object that is asked twice cannot be in order
    # the first time and complete the second time.
    def __init__(self, remote, iterator):
        self.remote, self.source = remote, items_of(iterator, 1024)
        self.items, self.done = [], False

    def pull(self):
        # Whether there was another item.
        if self.done:
            return False
        try:
            self.items.append(next(self.source))
            return True
        except StopIteration:
            self.done = True
        if not self.items:
            weigh(self.remote, self.items)
        if evidence.tapes.get(self.remote._number) is self and 'len' in traits_of(self.remote):
            try:
                size = link.do('len', self.remote)
            except Exception:
                return False
            if size != len(self.items):
                deny(self.remote, 'an object of the program has another length than items')
        return False

    def upto(self, size):
        while len(self.items) < size and self.pull():
            pass
        return len(self.items)

    def __iter__(self):
        i = 0
        while i < len(self.items) or self.pull():
            yield self.items[i]
            i += 1
            if i >= KEPT:
                # Too much to be kept.
                evidence.tapes.pop(self.remote._number, None)
                yield from self.source
                return


def tape_of(remote):
    # None for what is not iterated by a method of its own, or is its own iterator.
    n, traits = remote._number, traits_of(remote)
    if 'iter' not in traits or 'next' in traits:
        return None
    if n not in evidence.tapes:
        iterator = link.do('iter', remote)
        if same(iterator, remote):
            return None
        evidence.tapes[n] = Tape(remote, iterator)
    return evidence.tapes[n]


def items_seen(remote, size):
    # The items as far as they are needed; none where they cannot be had.
    try:
        tape = tape_of(remote) if size <= COUNTED and evidence.left > 0 else None
        if tape is None:
            return None
        had = len(tape.items)
        evidence.left -= tape.upto(size) - had
        return tape
    except Exception:
        evidence.tapes.pop(remote._number, None)
        return None


def measured(remote, size):
    # A length, which is the one of the items.
    if remote._standing not in OWN and type(size) is int:
        seen = items_seen(remote, size + 1)
        if seen is not None and len(seen.items) != size:
            deny(remote, 'an object of the program has another length than items')
    return size


def is_true(remote, truth):
    if truth and remote._standing not in OWN and {'len', 'bool'} & set(traits_of(remote)):
        seen = items_seen(remote, 1)
        if seen is not None and not seen.items:
            deny(remote, 'an object of the program is true and empty')
    return truth


def item_of(remote, key, value):
    # An item, which is the one at its place.
    if remote._standing in OWN or type(key) not in (int, slice) or 'keys' in traits_of(remote):
        return value
    if 'len' not in traits_of(remote) or type(value) in OPAQUE:
        return value
    seen = items_seen(remote, key + 1 if type(key) is int and key >= 0 else COUNTED)
    if seen is None:
        return value
    items, complete = seen.items, seen.done
    try:
        there = items[key] if complete or type(key) is int and key >= 0 else value
    except IndexError:
        return value
    if type(key) is slice:
        value_ = list(value) if isinstance(value, (list, tuple)) else there
    else:
        value_ = value
    if there != value_ and there == there and value_ == value_:
        deny(remote, 'an object of the program has another item than it gives')
    return value


def counted(remote, view):
    # The method for keys, values or items: it gives as many as there are.
    def method(*args, **kwargs):
        result = view(*args, **kwargs)
        if args or kwargs:
            return result
        size = link.do('len', remote)
        if type(result) is Remote and 'next' in traits_of(result):
            return counted_items(remote, result, size)
        if type(result) is Remote:
            measured(result, size)
        elif hasattr(type(result), '__len__') and len(result) != size:
            deny(remote, 'an object of the program has another length than items')
        return result
    return method


def counted_items(remote, iterator, size):
    n = 0
    for item in iterator:
        n += 1
        yield item
    if n != size:
        deny(remote, 'an object of the program has another length than items')


def doubtful(action, remote, other):
    # What an object of a class answers, where its name may as well be the one of a function. What says yes to everything
    # is no class that anybody means.
    result = link.do(action, remote, other)
    if result is NotImplemented:
        return result
    against = {'eq': 'ne', 'ne': 'eq', 'lt': 'ge', 'ge': 'lt', 'le': 'gt', 'gt': 'le'}.get(action)
    if result and (says(action, remote, another(other)) if action in ('eq', 'contains') else says(against, remote, other)):
        return NotImplemented
    if action not in ('eq', 'ne') or bool(result) == (action == 'eq'):
        unsure()
    return result


def unsure(why='the tests do not say whether a name with a capital letter is a class; give the reference a solution'):
    evidence.doubt = evidence.doubt or why


def says(action, remote, other):
    try:
        return bool(link.do(action, remote, other))
    except Exception:
        return False


def another(value):
    # A value of the same type that nobody expects.
    if isinstance(value, (bool, type(None))):
        return 'another'
    if isinstance(value, (int, float, complex)):
        return value + 1013
    if isinstance(value, (str, bytes, list, tuple)):
        return value + value + type(value)(b'1013' if isinstance(value, bytes) else '1013')
    return [1013]


def unheard(value):
    # What a method answers when nobody listens is no evidence.
    if type(value) is Remote and value._standing not in FREE:
        return Remote(value._number, value._base, 'unheard')
    return value


def weigh(remote, result):
    # What is said by an object that was told a value of the tests: by an operator, or as the answer of a method.
    standing = remote._standing or ''
    if type(result) in OPAQUE:
        return result
    if standing.startswith('answer '):
        evidence.answered(standing[7:], False if is_little(result) else result)
    elif remote._told and is_little(result) and standing != 'derived':
        unsure(DIFFERENCE)
    return result


def backwards(remote):
    # The items from the end, where they are known.
    seen = None if remote._standing in OWN or 'len' not in traits_of(remote) else items_seen(remote, COUNTED)
    return reversed(list(seen.items)) if seen is not None and seen.done else link.do('reversed', remote)


def is_little(value):
    # What a difference without difference gives.
    return type(value) not in OPAQUE and (not value or value in ('0', '0.0', '[]', 'set()', '{}'))


evidence = Evidence()
