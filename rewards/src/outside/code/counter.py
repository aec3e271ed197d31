# Whether a program cheats. When a test has failed on objects of the program, or what they say decides nothing, the program
# is asked once more, by values that no test has: what an honest object cannot answer decides against it. It is not asked
# before, and never by a value that a test expects.

STRANGERS = (7919_1013, 'another 1013', [1013, 'another'])
# Objects that are asked.
SUSPECTS = 50

ANY_VALUE = 'an object of the program equals values that no test has'
ANY_ORDER = 'an object of the program is before a value and not before it'
ANY_TEXT = 'an object of the program says yes to what no test asks'
ANY_DIFFERENCE = 'an object of the program differs from two values by the same'
ANY_PLACE = 'an object of the program has one item at all places, and gives others'
GIVEN_BACK = 'an object of the program holds what it was told'
SWALLOWS = 'a context manager of the program takes what the tests assert'
ENDS = 'the program ends an iteration of the tests'
STOPS = 'the program stops its tests'
NO_ITEMS = 'an object of the program has a length and no items'
NO_TRUTH = 'an object of the program says that it is true and has no items'
BACKWARDS = 'an object of the program has other items backwards'
SECOND_TIME = 'an object of the program gives other items after the first time'


class Suspicion:
    def __init__(self):
        # Why the program cheats for certain; what objects were compared with, and the questions that this leaves.
        self.caught, self.questions, self.asked = None, [], set()
        # Objects that have given items; requests that may have changed something.
        self.gave, self.changes = set(), 0
        # Whether the tests ask for something that holds nothing.
        self.nothing = False

    def catch(self, why):
        self.caught = self.caught or why

    def later(self, key, question):
        if len(self.questions) < SUSPECTS and key not in self.asked:
            self.asked.add(key)
            self.questions.append(question)

    def verdict(self, error=None):
        # Nothing that the program does now is the fault of a test.
        end = kind_of_end(error)
        if end:
            self.catch(end)
        for question in [*self.questions, *self.of_objects()]:
            if self.caught or link.lost:
                break
            unsendable = link.unsendable
            try:
                question()
            except (Exception, Lost, Unsendable):
                # An honest object may raise, and a dishonest one is not known as such by it.
                link.unsendable = unsendable
        return self.caught

    def of_objects(self):
        # A class, and what the tests made of one that they name, may be equal to whatever it likes.
        for remote in list(link.remotes.values())[:SUSPECTS]:
            n = number_of(remote)
            if type(remote) is not Coroutine and n is not None and n not in evidence.named:
                yield lambda remote=remote: equals_all(remote)
                if type(remote) is Remote:
                    yield lambda remote=remote: without_data(remote)
        for n, seen in list(evidence.seen.items())[:SUSPECTS]:
            yield lambda n=n, seen=seen: at_all_places(n, seen)
            yield lambda n=n, seen=seen: once_more(n, seen)


def kind_of_end(error):
    while error is not None:
        if getattr(error, '_ends', False):
            return ENDS
        if isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)) and error.__dict__.get('_number') is not None:
            return STOPS
        error = error.__cause__ if isinstance(error, AssertionError) else None
    return None


def plainly(action, remote, *args):
    # The answer where it is plain data: an object may be whatever, such as an expression.
    try:
        answer = link.do(action, remote, *args)
    except Exception:
        return None
    return None if type(answer) in OPAQUE else answer


def equals_all(remote):
    answers = [plainly('eq', remote, s) for s in STRANGERS]
    if all(a is True for a in answers) or answers[0] and answers[0] is not NotImplemented and all(
            type(a) in (int, float, str) and a == answers[0] for a in answers):
        suspicion.catch(ANY_VALUE)


def stands_against(action, remote, other):
    # An object stands where a test has a plain value.
    def question():
        equals_all(remote)
        values = [another(other), another(another(other))]
        if action in ('lt', 'le', 'gt', 'ge') and all(
                plainly(action, remote, v) is True and plainly(OPPOSITE[action], remote, v) is True for v in values):
            suspicion.catch(ANY_ORDER)
    suspicion.later((remote._number, action), question)


def related(action, one, other):
    # Two objects of the program compare with each other.
    def question():
        if plainly(action, one, other) is True and plainly(OPPOSITE[action], one, other) is True:
            suspicion.catch(ANY_ORDER)
    suspicion.later(('related', number_of(one), number_of(other), action), question)


def computed(action, one, other, result):
    # A difference between an object and a number, which the program has told.
    value = one if type(other) in OPAQUE else other
    if action not in ('sub', 'add') or type(value) not in (int, float) or type(result) in OPAQUE:
        return

    def question():
        # Large and small, odd and even: sums may stop at a bound, or begin again.
        strange = [value + by for by in (1013, 7918, -1013, -7918)]
        pairs = [(v, other) if value is one else (one, v) for v in strange]
        answers = [plainly(action, *pair) for pair in pairs]
        if answers[0] is not None and answers[0] is not NotImplemented and len(set(map(text_of, answers))) == 1:
            suspicion.catch(ANY_DIFFERENCE)
    suspicion.later(('computed', number_of(one), number_of(other), action), question)


def said_yes(remote, name):
    # A method that says whether its object is a value, or makes something of one.
    def ask(*args):
        method = link.do('getattr', remote, name)
        return call(method._number, args, {}) if type(method) is Remote else None

    def question():
        if name in ('startswith', 'endswith'):
            if all(ask(s) is True for s in ('another 1013', '7919 1013')):
                suspicion.catch(ANY_TEXT)
        elif name in MAKING:
            ask({1013})
            if 1013 in itertools.islice(items_of(link.do('iter', remote), 1024), 1000):
                suspicion.catch(GIVEN_BACK)
        elif name == 'issubset' and remote._base in (set, frozenset) and data_of(remote) and ask({1013, 'another'}) is True:
            suspicion.catch(ANY_TEXT)
    suspicion.later((remote._number, name), question)


def without_data(remote):
    # An object that is an empty list and more.
    if remote._base in (list, dict, set) and not data_of(remote) and not suspicion.nothing:
        size = plainly('len', remote)
        if type(size) is int and size > 0 and not next(items_of(link.do('iter', remote), 1), None):
            suspicion.catch(NO_ITEMS)


def has_no_items(n, seen):
    # Asked again at once: what is emptied by looking at it says so.
    if n in suspicion.gave or seen.items or suspicion.nothing:
        return
    remote = Remote(n)
    if 'len' in seen.facts and size_of(seen) and (plainly('len', remote) or 0) > 0:
        suspicion.catch(NO_ITEMS)
    elif seen.facts.get('bool') == 'true' and plainly('bool', remote) is True:
        # What has no say in it is always true.
        own = plainly('dir', remote)
        if isinstance(own, list) and '__bool__' in own:
            suspicion.catch(NO_TRUTH)


def at_all_places(n, seen):
    places = [fact for key, fact in seen.facts.items() if type(key) is tuple and key[0] == 'at' and type(key[1]) is int]
    if len(places) < 2 or len(seen.items) < 2 or any(p != places[0] or isinstance(p, Seen) for p in places):
        return
    answers = [plainly('getitem', Remote(n), k) for k in (7919_1013, 'another 1013')]
    if all(text_of(a) == places[0] for a in answers) and any(text_of(i) != places[0] for i in seen.items):
        suspicion.catch(ANY_PLACE)


def once_more(n, seen):
    # What gives one thing the first time and another one ever after has two faces. What is dealt anew each time has not.
    if not seen.done or seen.stamp != suspicion.changes or not seen.items:
        return
    rounds = []
    for _ in range(2):
        iterator = link.do('iter', Remote(n))
        if number_of(iterator) == n:
            return
        rounds.append([text_of(i) for i in itertools.islice(items_of(iterator, 1024), KEPT)])
    first = [text_of(i) for i in seen.items]
    if rounds[0] == rounds[1] and len(first) == len(rounds[0]) and sorted(first) != sorted(rounds[0]):
        suspicion.catch(SECOND_TIME)


def compare_backwards(items, others):
    # In whatever order, they are the same items.
    items, others = [sorted(text_of(i) for i in side) for side in (items, others)]
    if len(items) == len(others) and items != others:
        suspicion.catch(BACKWARDS)


suspicion = Suspicion()
