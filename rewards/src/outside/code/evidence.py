# What the tests may believe of an object that a program gave them in the place of a value.
#
# Nothing that such an object decides by itself is evidence. What comes out of it as plain data is believed as far as one
# plain value could have given it: as many items as its length says, the same ones at their places, the same number and the
# same text each time. Where it could not, or where an object decided, what passes is undecided. The program is never asked
# what an object is; only what the tests themselves have seen of it is compared.

# The standing of a stand-in says how the tests came to it. Under these an object answers for itself: it was made of a class
# that the tests name.
OWN = {'class', 'made'}
# The same where the name may mean a function as well, or where it was computed: nothing that rests on it is decided.
POSSIBLE = {'possible class', 'possible', 'derived'}
FREE = OWN | POSSIBLE
# Items that are kept of an object.
KEPT = 100000
# Comparisons that are asked the other way round, too, and objects that are compared with each other.
ASKED_TWICE, ASKED = 1000, 8
# What changes nothing in an object. Anything else may, and what was seen before is forgotten.
LOOKING = {'getattr', 'type', 'len', 'iter', 'hash', 'bool', 'int', 'float', 'complex', 'str', 'repr', 'format', 'bytes',
           'round', 'reversed', 'isinstance', 'issubclass', 'index', 'contains', 'getitem', 'eq', 'ne', 'lt', 'le', 'gt', 'ge',
           'abs', 'neg', 'pos', 'invert', 'trunc', 'floor', 'ceil', 'dir'}
CHANGING = {'put', 'enter', 'leave', 'await'}
NUMBERS = {'int', 'float', 'complex', 'index', 'round', 'trunc', 'floor', 'ceil'}
TEXTS = {'str', 'repr', 'format'}
OPPOSITE = {'eq': 'ne', 'ne': 'eq', 'lt': 'ge', 'ge': 'lt', 'le': 'gt', 'gt': 'le'}
# What a list is asked about a value of the tests. The items say whether the answer is right.
QUERIES = {'index': list.index, 'count': list.count}

DIFFERENCE = 'the tests believe an object of the program that it differs by nothing'
TOLD = 'the tests believe what an object of the program says after it was given a value of the tests'
RELATED = 'the tests believe how objects of the program compare with each other'
COMPUTED = 'the tests believe what objects of the program give when they are computed with each other'
LENGTH = 'an object of the program has another length than items'
PLACES = 'an object of the program has other items at their places than it gives'
CHANGES = 'an object of the program gives another value each time'
FACES = 'an object of the program is several values at once'
TAKEN = 'leave'
A_DIFFERENCE = 'a difference'


class Evidence:
    def __init__(self):
        # Why a passed test decides nothing; what methods answered when they were given values of the tests.
        self.doubt, self.answers = None, {}
        # What was seen of objects, by their numbers; objects that the tests made, with the class of each.
        self.seen, self.named, self.twice = {}, {}, ASKED_TWICE
        # Objects whose places and items disagree, which is nothing special for those that the tests use as dictionaries.
        self.odd, self.mappings, self.handed = set(), set(), set()
        # Objects that the tests gave to the program; those that they made, by class, with what they were made of; and what
        # objects of a class answered to a question that is an opinion.
        self.given, self.made, self.opinions, self.doubtful = set(), {}, {}, set()
        # What objects held before something may have changed them, and which ones the tests have changed since.
        self.before, self.touched = {}, set()
        # Whose method is which.
        self.owners = {}

    def asked(self, message):
        if message[0] in CHANGING or message[0] == 'do' and message[1] not in LOOKING:
            self.forget()
        if message[0] in CHANGING or message[0] == 'call' or message[0] == 'do' and message[1] not in LOOKING:
            suspicion.changes += 1

    def forget(self):
        self.settle()
        for n, seen in self.seen.items():
            held = [text_of(item) for item in seen.items] if seen.done else by_places(seen)
            if held is not None:
                self.before.setdefault(n, held)
        self.seen.clear()

    def took(self, n, name, result):
        # What is taken out of an object was in it.
        if name in ('pop', 'popleft') and n in self.before and text_of(result) not in self.before[n]:
            unsure(CHANGES)

    def held_before(self, n, items):
        # An object may change by what the tests do with it, and then it has more or less in it. It does not change by
        # itself, nor does it hold as many other things as before unless the tests put them there.
        before = self.before.pop(n, None)
        if before is None:
            return
        now = [text_of(item) for item in items]
        if now != before and (n not in self.touched or len(now) == len(before) and sorted(now) != sorted(before)):
            unsure(CHANGES)
        self.touched.discard(n)

    def settle(self):
        for n, seen in self.seen.items():
            settle(seen)
            if seen.odd:
                self.odd.add(n)

    def answered(self, name, result, told=()):
        # A method that only ever says one thing may say it to all, and so may one that only says what it was told. One
        # that says several, or gives data of several values, is compared by the tests.
        said = self.answers.setdefault(name, set())
        if type(result) in OPAQUE:
            return
        if name == A_DIFFERENCE:
            unsure(TOLD)
        if result is not None and not isinstance(result, bool) and any(text_of(result) == text_of(t) for t in told):
            said.add('what it was told')
            return
        parts = list(parts_of(result))
        if isinstance(result, (str, bytes)) and result or len(set(parts)) > 1:
            said.update((True, False))
        else:
            said.update(parts or [False])

    def makes(self, maker, n, given, new):
        # What the program gave before, and calls an object of its class now, was not made by the tests.
        if new or n in self.named:
            self.named[n] = maker
            made = self.made.setdefault(maker, [])
            if len(made) < 8 * ASKED:
                made.append((n, given))

    def gives(self, values, depth=0):
        # Objects in what the program gets.
        for value in values if depth < 4 else ():
            if type(value) in OPAQUE:
                self.given.add(value._number)
                self.touched.add(value._number)
            elif isinstance(value, dict):
                self.gives([*value, *value.values()], depth + 1)
            elif isinstance(value, (list, tuple, set, frozenset)) and not isinstance(value, Shadow):
                self.gives(list(value)[:KEPT], depth + 1)

    def says(self, value, action, answer, anything):
        # What an object of a class of the tests says of a value. Who has also said no may say yes.
        key = maker_of_object(value), action
        self.opinions.setdefault(key, set()).add(bool(answer))
        if anything:
            self.doubtful.add(key)

    def all_alike(self):
        # Whether a class of which the tests believe that objects are equal takes all for equal. They may be so, however
        # they were made, and one more that is made of something else is not.
        for (maker, action), said in self.opinions.items():
            made = self.made.get(maker, [])[:ASKED]
            if action != 'eq' or said != {True} or len({text_of(given) for _, given in made}) < 2:
                continue
            pairs = itertools.combinations([Remote(n) for n, _ in made], 2)
            if all(says('eq', *pair) for pair in pairs) and all(says('eq', Remote(made[0][0]), o) for o in strangers(maker, made)):
                return True
        return False

    def undecided(self):
        self.settle()
        if self.odd - self.mappings:
            unsure(PLACES)
        if self.doubt:
            return self.doubt
        if any(False not in self.opinions[key] for key in self.doubtful):
            return RELATED
        if self.all_alike():
            return RELATED
        for name, said in self.answers.items():
            if len(said) == 1 and None not in said:
                if name == TAKEN and True in said:
                    return 'the tests believe a context manager of the program that takes their errors'
                if name != TAKEN:
                    return (f'the tests believe what {name} of an object of the program says; '
                            'let them name its class, or ask also what is not so')
        return None


def parts_of(value, depth=0):
    # The numbers and texts in a value. What differs by little from nothing, or from one, is no other number.
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)) or full_name(type(value)) == 'collections.deque':
        for part in value if depth < 20 else ():
            yield from parts_of(part, depth + 1)
    elif value is None or isinstance(value, bool):
        yield value
    elif isinstance(value, (int, float)) and abs(value) <= 1:
        yield bool(value)
    elif type(value) in OPAQUE:
        yield value._number, 'object'
    else:
        yield str(value)


class Seen:
    # What the tests have seen of one object.
    def __init__(self):
        # Values by what was asked; what the methods of a dictionary gave; what was asked of values of the tests.
        self.facts, self.views, self.queries = {}, {}, []
        # The items as far as they are known, where the next ones come from, and whether these are all.
        self.items, self.source, self.done, self.backwards = [], None, False, None
        # Whether places and items disagree, whether the tests compared it with a value, and whether they went into it.
        self.odd = self.compared = self.contains = self.long = False
        self.numbers, self.text, self.data, self.stamp, self.number = {}, None, None, None, None


def unsure(why='the tests do not say whether a name with a capital letter is a class; give the reference a solution'):
    evidence.doubt = evidence.doubt or why


def seen_of(remote):
    return evidence.seen.setdefault(remote._number, Seen())


def text_of(value):
    try:
        return json.dumps(encode(value, link.send))
    except TooDeep:
        return 'deep'


def as_seen(value):
    return seen_of(value) if type(value) in OPAQUE else text_of(value)


def matches(known, value):
    # Whether a value is the one that is known. An object that nobody has looked at is taken for the one in its place, and
    # both have to agree from now on.
    if type(value) not in OPAQUE:
        return known == text_of(value)
    return isinstance(known, Seen) and evidence.seen.setdefault(value._number, known) is known


def see(remote, key, value):
    # One thing that an object gave, the same each time.
    if remote._standing in OWN:
        return value
    facts = seen_of(remote).facts
    if key not in facts:
        facts[key] = as_seen(value)
    elif not matches(facts[key], value):
        unsure(CHANGES)
    return value


def see_face(remote, action, value, *args):
    # As a number and as a text it is one value.
    if remote._standing in OWN:
        return value
    see(remote, ('as', action, text_of(args)), value)
    seen = seen_of(remote)
    if action in NUMBERS and isinstance(value, (int, float, complex)) and not args:
        seen.numbers[action] = value
    elif action in TEXTS and isinstance(value, str):
        seen.text = value
    elif action in ('abs', 'neg', 'pos', 'invert', 'bytes'):
        seen.numbers[action] = None
    faces(seen)
    return value


def faces(seen):
    numbers = list(seen.numbers.values())
    if len(numbers) > 1 and (None in numbers or any(abs(n - numbers[0]) >= 1 for n in numbers)):
        unsure(FACES)
    if numbers and seen.text is not None and seen.text not in [str(n) for n in numbers]:
        unsure(FACES)
    if numbers and seen.contains or seen.compared and (numbers or seen.contains or seen.text is not None):
        unsure(FACES)


def see_compared(remote):
    # By the tests with a plain value, to which no object is equal.
    if remote._standing not in FREE:
        seen_of(remote).compared = True
        faces(seen_of(remote))
        if remote._number in evidence.handed:
            unsure(FACES)


def handed(values):
    # Objects that are given back to the program carry more than a value that only differs from another one.
    for value in values:
        if type(value) is Remote and value._standing not in FREE:
            evidence.handed.add(value._number)
            if value._number in evidence.seen and seen_of(value).compared:
                unsure(FACES)


def see_length(remote, size):
    if remote._standing not in OWN and type(size) is int and 0 <= size < 2**63:
        seen = seen_of(remote)
        see(remote, 'len', size)
        seen.contains = True
        fits(seen)
        if seen.number is not None:
            has_no_items(seen.number, seen)
    return size


def see_truth(remote, truth):
    if remote._standing not in OWN:
        seen = seen_of(remote)
        see(remote, 'bool', bool(truth))
        fits(seen)
        if seen.number is not None:
            has_no_items(seen.number, seen)
    return truth


def size_of(seen):
    size = json.loads(seen.facts.get('len', 'null'))
    return size if type(size) is int else None


def fits(seen):
    # Whether the number of items is one number.
    faces(seen)
    size = size_of(seen)
    if size is not None and (len(seen.items) > size or seen.done and len(seen.items) != size):
        unsure(LENGTH)
    if size is not None and any(len(view) != size for view in seen.views.values()):
        unsure(LENGTH)
    empty = not size if size is not None else not seen.items if seen.done else False if seen.items else None
    truth = json.loads(seen.facts.get('bool', 'null'))
    if truth is not None and empty is truth:
        unsure('an object of the program is true and empty, or false and not')
    if seen.numbers and truth is not None and any(n is not None and bool(n) != truth for n in seen.numbers.values()):
        unsure(FACES)


def by_places(seen):
    # The items where the tests have looked at each place.
    size = size_of(seen)
    if size is None or size > KEPT or any(type(seen.facts.get(('at', i))) is not str for i in range(size)):
        return None
    return [seen.facts['at', i] for i in range(size)]


def place_of(key):
    return key if type(key) is int else f'{key.start}:{key.stop}:{key.step}' if type(key) is slice else text_of(key)


def see_item(remote, key, value):
    if remote._standing in OWN:
        return value
    seen = seen_of(remote)
    seen.contains = True
    see(remote, ('at', place_of(key)), value)
    if type(key) not in (int, slice):
        evidence.mappings.add(remote._number)
    elif type(key) is slice and type(value) in OPAQUE:
        seen.odd = True
    elif type(key) is int and key >= 0:
        if key < len(seen.items):
            seen.odd = seen.odd or not matches(seen.facts['at', key], seen.items[key])
        else:
            seen.odd = seen.odd or seen.done
        size = size_of(seen)
        seen.odd = seen.odd or size is not None and key >= size
    elif type(key) is int and size_of(seen) is not None:
        return see_item(remote, key + size_of(seen), value) if key + size_of(seen) >= 0 else value
    else:
        try:
            seen.queries.append((key, value if type(key) is int else list(value), None))
        except TypeError:
            seen.odd = True
        answer_queries(seen)
    if seen.views:
        fits_views(seen)
    return value


def answer_queries(seen):
    # What rests on all items, once these are known.
    if not seen.done:
        return
    queries, seen.queries = seen.queries, []
    for key, value, _ in queries:
        try:
            if callable(key):
                there = key(seen.items)
            else:
                there = seen.items[key]
        except (ValueError, IndexError):
            there = -1 if callable(key) else seen
        if there is seen or not matches(as_seen(there), value):
            seen.odd = True


def settle(seen):
    for key, value, name in seen.queries:
        if name and name != 'index' and not seen.contains:
            evidence.answered(name, value)
        elif name or seen.items or 'len' in seen.facts:
            unsure('the tests believe where an object of the program says that a value is')


def arrived(seen, item):
    i = len(seen.items)
    seen.items.append(item)
    if ('at', i) in seen.facts and not matches(seen.facts['at', i], item):
        seen.odd = True
    if not i:
        fits(seen)
    elif 'len' in seen.facts and i >= size_of(seen):
        unsure(LENGTH)


def completed(seen, n=None):
    # The number is none of an iterator of its own, which may have ended before.
    seen.done, seen.stamp = True, suspicion.changes
    size = len(seen.items)
    if any(key[0] == 'at' and type(key[1]) is int and key[1] >= size for key in seen.facts if type(key) is tuple):
        seen.odd = True
    if seen.backwards is not None and not alike(seen.items, seen.backwards[::-1]):
        unsure(PLACES)
        compare_backwards(seen.items, seen.backwards)
    answer_queries(seen)
    fits_views(seen)
    fits(seen)
    if n is not None:
        evidence.held_before(n, seen.items)
        seen.number = n
        has_no_items(n, seen)


def alike(items, others):
    return len(items) == len(others) and all(matches(as_seen(a), b) for a, b in zip(items, others))


def items_by(remote):
    # The items as the object gives them. It gives the same again: an object that is asked twice cannot be in order the
    # first time and complete the second time.
    seen = seen_of(remote)
    seen.contains = True
    faces(seen)
    if seen.source is None:
        iterator = link.do('iter', remote)
        if same(iterator, remote):
            return once(remote, seen)
        source = items_of(iterator, 1024)
        if seen.long:
            return source
        seen.source = source
    return again(remote, seen)


def again(remote, seen):
    i = 0
    while True:
        if i == len(seen.items):
            if seen.done:
                return
            if i >= KEPT:
                unsure('an object of the program has more items than are kept')
                source, seen.source, seen.long = seen.source, None, True
                yield from source
                return
            try:
                arrived(seen, next(seen.source))
                suspicion.gave.add(remote._number)
            except StopIteration:
                completed(seen, remote._number)
                return
        yield seen.items[i]
        i += 1


def once(remote, seen):
    # An iterator of its own. Once it has ended it gives nothing more, or the same from the beginning.
    items = []
    for item in items_of(remote, 1):
        if len(items) < KEPT:
            items.append(item)
        else:
            unsure('an object of the program has more items than are kept')
        yield item
    if seen.done:
        if items and not alike(seen.items, items):
            unsure(CHANGES)
    elif not seen.done:
        for item in items:
            arrived(seen, item)
        completed(seen)


def viewed(remote, name, view):
    # The method for keys, values or items. They belong to each other, and there are as many as items.
    def method(*args, **kwargs):
        result = asked_quietly(view, args, kwargs)
        if args or kwargs or type(result) not in OPAQUE and not hasattr(type(result), '__iter__'):
            return result
        its_own = type(result) in OPAQUE and same(link.do('iter', result), result)
        content = list(itertools.islice(iter(result), KEPT))
        seen = seen_of(remote)
        if name == 'items' and not all(isinstance(pair, tuple) and len(pair) == 2 for pair in content):
            # No pairs: it is something else that has this name.
            if seen.contains or seen.views:
                unsure(PLACES)
            return result if type(result) not in OPAQUE else iter(content) if its_own else content
        evidence.mappings.add(remote._number)
        seen.contains = True
        seen.views[name] = content
        fits_views(seen)
        fits(seen)
        if not content:
            has_no_items(remote._number, seen)
        else:
            suspicion.gave.add(remote._number)
        return result if type(result) not in OPAQUE else iter(content) if its_own else content
    return method


def fits_views(seen):
    if not seen.views:
        return
    pairs = seen.views.get('items')
    try:
        columns = [[k for k, _ in pairs], [v for _, v in pairs]] if pairs is not None else [None, None]
    except (TypeError, ValueError):
        return unsure(PLACES)
    all_keys = [keys for keys in (seen.views.get('keys'), columns[0], seen.items if seen.done else None) if keys is not None]
    all_values = [values for values in (seen.views.get('values'), columns[1]) if values is not None]
    for lists in (all_keys, all_values):
        if any(not alike(lists[0], other) for other in lists[1:]):
            return unsure(PLACES)
    for keys in all_keys[:1]:
        for values in all_values:
            if len(keys) != len(values):
                return unsure(LENGTH)
            for key, value in zip(keys, values):
                known = seen.facts.get(('at', place_of(key)))
                if known is not None and not matches(known, value):
                    return unsure(PLACES)


def queried(remote, name, method):
    # A method that a list has, too: where a value is, and how often. The items say the same, or it is not believed.
    def asked(*args):
        result = asked_quietly(method, args, {})
        if len(args) == 1 and type(result) not in OPAQUE:
            value, seen = args[0], seen_of(remote)
            seen.queries.append((lambda items: QUERIES[name](items, value), result, name))
            answer_queries(seen)
        elif args:
            unsure('the tests believe where an object of the program says that a value is')
        return result
    return asked


def backwards(remote):
    if remote._standing in OWN:
        return link.do('reversed', remote)
    seen = seen_of(remote)
    if remote._base:
        return reversed(data_of(remote))
    items = list(itertools.islice(items_of(link.do('reversed', remote), 1024), KEPT + 1))
    if len(items) > KEPT:
        unsure('an object of the program has more items than are kept')
    if seen.done and not alike(seen.items, items[::-1]) or seen.backwards is not None and not alike(seen.backwards, items):
        unsure(PLACES)
        compare_backwards(seen.items if seen.done else seen.backwards, items)
    seen.backwards, seen.contains = items, True
    if size_of(seen) not in (None, len(items)):
        unsure(LENGTH)
    return iter(items)


def trusted(value):
    # A function may return any object that the tests made, such as the last one. It counts as one of theirs where a method
    # of its class gave it or where they gave it to the program.
    if value._standing in FREE:
        return True
    return value._number in evidence.named and (value._maker is not None or value._number in evidence.given)


def between(action, one, other):
    # How two objects of the program compare, which only they say. It decides where the tests made them of a class that
    # they name, or one of them, and its own method the other one.
    if same(one, other) and not {one._standing, other._standing} & OWN:
        if {one._standing, other._standing} & POSSIBLE and not (trusted(one) and trusted(other)):
            unsure(RELATED)
        return action in ('eq', 'le', 'ge')
    related(action, one, other)
    result = link.do(action, one, other)
    if action in ('eq', 'ne') and result is not NotImplemented and not same(one, other):
        evidence.says(one, 'eq', bool(result) == (action == 'eq'), False)
    if not are_kin(one, other):
        unsure(RELATED)
    elif result is not NotImplemented and result and evidence.twice > 0:
        evidence.twice -= 1
        if says_anything(action, one, other):
            unsure(RELATED)
    return result


def opinion(action, remote, other):
    # What an object that the tests made says of a value. Who says yes to everything, or both, has to have said no as well.
    result = link.do(action, remote, other)
    if result is NotImplemented or evidence.twice <= 0:
        return result
    anything = False
    if result and number_of(other) is None:
        evidence.twice -= 1
        against = OPPOSITE.get(action)
        anything = (says(action, remote, another(other)) if action in ('eq', 'contains') else says(against, remote, other))
    evidence.says(remote, *(('eq', not result, False) if action == 'ne' else (action, result, anything)))
    return result


def says_anything(action, one, other):
    # Whether what is so is not so as well, or holds of what it cannot hold of.
    if says(OPPOSITE[action], one, other):
        return True
    if action == 'eq':
        return says('eq', one, 'another')
    if action in ('ne', 'lt', 'gt'):
        return says(action, one, one) or action != 'ne' and says(action, other, one)
    return says(action, other, one) and not says('eq', one, other)


def known_class(*values):
    # Whether none of these is only possibly of a class.
    return not any(type(v) is Remote and v._standing in ('possible', 'possible class') for v in values)


def are_kin(one, other):
    if type(one) is not Remote or type(other) is not Remote:
        return False
    if trusted(one) and trusted(other):
        return True
    maker = maker_of_object(one)
    return (trusted(one) or trusted(other)) and maker is not None and maker == maker_of_object(other)


def strangers(maker, made):
    # An object of the class that is made of what no test has.
    try:
        given = [another(value) for value in made[0][1]]
        yield call(maker, given, {})
    except Exception:
        pass


def is_theirs(value, maker):
    # Whether it is an object of the tests of this class.
    known = type(value) is Remote and maker is not None and value._standing not in POSSIBLE
    return known and trusted(value) and maker_of_object(value) == maker


def maker_of_object(remote):
    return evidence.named.get(remote._number, remote._maker) if trusted(remote) else remote._maker


def doubtful(action, remote, other):
    # What an object of a class answers, where its name may as well be the one of a function. What says yes to everything
    # is no class that anybody means.
    stands_against(action, remote, other)
    result = link.do(action, remote, other)
    if result is NotImplemented:
        return result
    against = OPPOSITE.get(action)
    if result and (says(action, remote, another(other)) if action in ('eq', 'contains') else says(against, remote, other)):
        return NotImplemented
    if action not in ('eq', 'ne') or bool(result) == (action == 'eq'):
        unsure()
    return result


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
        return Remote(value._number, value._base, 'unheard', value._maker)
    return value


def weigh(remote, result):
    # What is said by an object that was told a value of the tests: by an operator, or as the answer of a method.
    kind, _, name = (remote._standing or '').partition(' ')
    if type(result) in OPAQUE or remote._standing == 'unheard':
        return result
    if kind in ('answer', 'said'):
        evidence.answered(name, False if is_little(result) else result)
        if remote._told:
            unsure(TOLD)
    elif remote._told and remote._standing not in FREE:
        unsure(TOLD)
    elif remote._told and is_little(result) and remote._standing != 'derived':
        unsure(DIFFERENCE)
    return result


def is_little(value):
    # What a difference without difference gives.
    return type(value) not in OPAQUE and (not value or value in ('0', '0.0', '[]', 'set()', '{}'))


evidence = Evidence()
