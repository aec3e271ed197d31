# What stands in the tests for objects of the candidate, which stay in its process.


def number_of(value):
    # The number of an object of the candidate; none for what belongs to the tests.
    if type(value) in OPAQUE:
        return object.__getattribute__(value, '_number')
    if isinstance(value, (Shadow, BaseException)):
        return value.__dict__.get('_number')
    return value.__dict__.get('_class') if type(value) is Kind else None


def same(value, other):
    # Whether both are one object. There may be several stand-ins for one.
    number = number_of(value)
    return value is other if number is None else number == number_of(other)


# What a value of a plain type is asked for to learn whether it is the expected one, and what it makes of an expected set.
# An object that a program returns in the place of such a value would be told what is expected and could say yes.
TELLING = {name for t in PLAIN for name in vars(t) if name.startswith(('is', 'startswith', 'endswith'))}
MAKING = {'difference', 'intersection', 'symmetric_difference', 'union'}
# Calling a class that the tests name, or may name, makes an object of it.
MAKES = {'class': 'made', 'possible class': 'possible'}
# Names of Python's own that a test reads of an object.
SHOWN = {f'__{name}__' for name in (
    'name', 'qualname', 'dict', 'annotations', 'wrapped', 'members', 'mro', 'bases', 'defaults', 'kwdefaults', 'slots')}
COMPARING = {f'__{name}__' for name in ('eq', 'ne', 'lt', 'le', 'gt', 'ge', 'contains')}

# What the data of an object of a class that extends a plain type answers, and not the object.
UNCHANGING = {*TELLING, *MAKING, *VIEWS, 'index', 'count', 'get', 'copy', 'most_common', 'elements', 'total', 'decode', 'find'}
PLAINLY = {name: getattr(operator, name) for name in (
    'add', 'sub', 'mul', 'truediv', 'floordiv', 'mod', 'and_', 'or_', 'xor')}


class Remote:
    # Its operators are those of the candidate, as long as only objects of the candidate take part. It equals no plain
    # data, unless its class extends a plain type. An operator that gets a value of the tests tells the candidate what is
    # expected, so that what comes of it may only be another object, which is never taken for a number.
    #
    # A test that makes an object of a class which it names asks this class, also by values of its own: whether a Trie
    # contains a word is what it is for. This holds for the stand-in that the test got by calling the class, and not for
    # another one of the same object: what a function or a method returns may be in the place of an expected value.
    __slots__ = ('_number', '_base', '_told', '_standing', '_maker')

    def __init__(self, number, base=None, standing=None, maker=None):
        # The standing: none for what a function returned; 'class' and 'made'; 'possible class' and 'possible' where a name
        # may mean a class; 'derived' by operators of these; 'found' by a name; 'unheard' where no answer is used; and with
        # a name after it, 'method' of this name, 'answer' of it, and 'said' by its answer. The maker is the class that the
        # tests name, of which a method or an operator gave this.
        for name, value in (('_number', number), ('_base', base), ('_told', False), ('_standing', standing), ('_maker', maker)):
            object.__setattr__(self, name, value)

    def __call__(self, *args, **kwargs):
        given = [*args, *kwargs.values()]
        standing = self._standing or ''
        handed(given)
        evidence.gives(given)
        if standing != 'found' or not all(is_plain(a) for a in given):
            evidence.forget()
        known = len(link.remotes)
        result = call(self._number, args, kwargs)
        if standing in MAKES and type(result) is Remote:
            new = itertools.islice(reversed(link.remotes), len(link.remotes) - known)
            evidence.makes(self._number, result._number, given, result._number in new)
            return Remote(result._number, result._base, MAKES[standing], self._number)
        if standing in MAKES and isinstance(result, Shadow):
            evidence.named[number_of(result)] = self._number
        kind, _, name = standing.partition(' ')
        if kind == 'said' or kind == 'method' and any(number_of(a) is None for a in given):
            if type(result) is Remote:
                return Remote(result._number, result._base, f'answer {name}')
            evidence.answered(name, result, given)
        elif kind == 'method' and given and isinstance(result, bool) and not all(is_theirs(a, self._maker) for a in given):
            evidence.answered(name, result)
        if kind == 'method' and not given:
            evidence.took(evidence.owners.get(self._number), name, result)
        if kind == 'method' and name == 'copy' and type(result) is Remote:
            unsure(FACES)
        if self._maker is not None and type(result) is Remote and not result._standing:
            return Remote(result._number, result._base, None, self._maker)
        return result

    def __getattr__(self, name):
        link.involved = True
        if name.startswith('__') and name not in SHOWN:
            raise AttributeError(name)
        if self._base and self._standing not in OWN and name in UNCHANGING and hasattr(self._base, name):
            if name in TELLING or name in MAKING:
                said_yes(self, name)
            return getattr(data_of(self), name)
        asks = (name in TELLING or name in MAKING) and self._standing not in OWN | {'possible class'}
        value = link.do('getattr', self, name)
        if type(value) is Remote:
            # A method may change it.
            evidence.touched.add(self._number)
            evidence.owners[value._number] = self._number
        if self._standing in FREE and type(value) is Remote:
            maker = self._number if self._standing in MAKES else self._maker
            if self._standing in MAKES:
                # Such as a member of an enumeration, which functions return.
                evidence.named.setdefault(value._number, maker)
                evidence.given.add(value._number)
            value = Remote(value._number, value._base, value._standing, maker)
        if asks and type(value) is Remote:
            said_yes(self, name)
            return guarded(name, value, self._standing in POSSIBLE)
        if self._standing not in FREE:
            if self._standing not in ('found', 'unheard'):
                see(self, ('getattr', name), value)
            weigh(self, value)
            if name in VIEWS and type(value) is Remote and not self._told and ' ' not in (self._standing or ''):
                return viewed(self, name, value)
            if name in QUERIES and type(value) is Remote and not self._base and ' ' not in (self._standing or ''):
                return queried(self, name, value)
            own = not (self._base and hasattr(self._base, name))
            if type(value) is Remote and not value._standing and own and self._standing not in ('unheard', 'found'):
                known = (self._standing or '').partition(' ')
                told_before = A_DIFFERENCE if self._told else known[2] if known[0] in ('answer', 'said') else ''
                return Remote(value._number, value._base, f'said {told_before}' if told_before else f'method {name}', self._maker)
        if self._base and name in ('numerator', 'denominator') and not isinstance(value, int):
            # A Fraction of the tests computes with them, and with a stand-in it would ask the program for the result.
            raise TypeError(f'the {name} of an object of the program is no integer')
        return value

    def __iter__(self):
        if self._standing in OWN:
            iterator = link.do('iter', self)
            # An iterator of its own is asked for no more items than the tests take.
            return items_of(iterator, 1 if same(iterator, self) else 1024)
        weigh(self, False)
        return iter(data_of(self)) if self._base else items_by(self)

    def __next__(self):
        return next_of(self)

    def __contains__(self, item):
        if self._standing == 'made' or number_of(item) is not None and self._standing in FREE:
            return opinion('contains', self, item)
        if self._standing in ('possible', 'derived') and not self._base:
            held = doubtful('contains', self, item)
            if held is not NotImplemented:
                return held
        if number_of(item) is None:
            stands_against('contains', self, item)
        return any(same(item, own) or item == own for own in self)

    def __enter__(self):
        entered = link.value('enter', self._number)
        return self if same(self, entered) else entered

    def __exit__(self, kind, error, trace):
        taken = link.value('leave', self._number, link.pack(error))
        if error is None or number_of(error) is not None:
            return taken
        # An error of the tests. What they assert is not taken, and of others only some.
        if isinstance(error, AssertionError) or any(error is own for own in link.asserted):
            if taken and not getattr(error, '_own', False) and (isinstance(error, AssertionError) or takes_asserted(self)):
                suspicion.catch(SWALLOWS)
            return False
        if self._standing not in OWN:
            evidence.answered(TAKEN, bool(taken))
        return taken

    def __mro_entries__(self, bases):
        link.refuse('tests derive a class from one of the program')

    def __instancecheck__(self, value):
        return number_of(value) is not None and link.do('isinstance', value, self)

    def __subclasscheck__(self, value):
        return number_of(value) is not None and link.do('issubclass', value, self)

    __class__ = property(lambda self: looked_at(self)._base or type(self))
    __doc__ = property(lambda self: link.do('getattr', self, '__doc__'))


def takes_asserted(manager):
    try:
        return link.value('leave', manager._number, link.pack(AssertionError('another 1013')))
    except Exception:
        return False


def asked_quietly(method, args, kwargs):
    # A call that is known to change nothing.
    return call(method._number, args, kwargs)


class Coroutine(Remote):
    # The call of an async function. It runs to its end when it is waited for.
    __slots__ = ()

    def __await__(self):
        return link.value('await', self._number)
        yield

    def send(self, value):
        raise StopIteration(link.value('await', self._number))

    def __next__(self):
        # For event loops only; the tests have another next.
        return self.send(None)

    def throw(self, *error):
        raise error[0]

    def close(self):
        pass


class Shadow:
    # Plain data of a class of the candidate, such as a named tuple.
    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        n = self.__dict__['_number']
        value = link.value('do', 'getattr', [{'r': n}, name])
        facts = evidence.seen.setdefault(n, Seen()).facts
        if not matches(facts.setdefault(('getattr', name), as_seen(value)), value):
            unsure(CHANGES)
        return value if n in evidence.named else as_method(value, name)


class Kind(type):
    # The class of exceptions of the candidate.
    def __new__(mcs, name, bases, fields):
        return super().__new__(mcs, name, bases, {'__str__': Kind.text, '__getattr__': Kind.field, **fields})

    def __call__(cls, *args, **kwargs):
        # A class that the tests derive from one is theirs.
        return call(cls._class, args, kwargs) if '_class' in cls.__dict__ else super().__call__(*args, **kwargs)

    def __getattr__(cls, name):
        if name.startswith('_'):
            raise AttributeError(name)
        return as_method(link.do('getattr', cls, name), name)

    def text(error):
        base = next(c for c in type(error).__mro__ if type(c) is not Kind)
        return error.__dict__['_text'] if '_text' in error.__dict__ else base.__str__(error)

    def field(error, name):
        if name.startswith('_') or '_number' not in error.__dict__:
            raise AttributeError(name)
        return as_method(link.do('getattr', error, name), name)


def as_method(value, name):
    # What data and exceptions of a class of the program say of a value is no more than what an object says.
    return Remote(value._number, value._base, f'method {name}') if type(value) is Remote else value


def looked_at(remote):
    # By what asks for its type. Functions of the library do, and find none.
    link.involved = True
    return remote


def is_plain(value):
    # Whether it is the tests' own and says nothing of objects.
    return value is None or type(value) in (bool, int, float, complex, str, bytes)


OPAQUE.update((Remote, Coroutine))
Remote.__reversed__ = backwards
SHADOWS = {}


def call(number, args, kwargs):
    def read(reply):
        result, changed, returned, n, held = reply
        given = [*args, *kwargs.values()]
        for i, after in changed.items():
            replace(given[int(i)], link.unpack(after))
            link.shared.changed(given[int(i)], link)
        for i, mine in held.items():
            link.shared.add(link, given[int(i)], mine)
        return link.shared.add(link, link.unpack(result), n) if returned is None else given[returned]
    named = {'d': [[name, link.pack(value)] for name, value in kwargs.items()]}
    return link.understand(read, link.ask('call', number, link.pack_all(args), named))


def items_of(iterator, most):
    if type(iterator) is not Remote:
        raise TypeError('iter() returned no iterator')
    size = 1
    while True:
        items, raised, last = link.understand(
            lambda reply: (link.unpack(list(reply[0])), reply[1], link.unpack(reply[2])),
            link.ask('next', iterator._number, size))
        yield from items
        if len(items) < size and not raised:
            return last
        size = min(2 * size, most)


def next_of(iterator, *default):
    # As next, but the end is none for a loop around it.
    if type(iterator) is Coroutine:
        raise TypeError('a coroutine is no iterator')
    if type(iterator) is Remote:
        evidence.forget()
    try:
        item = next(items_of(iterator, 1) if type(iterator) is Remote else iterator)
        if type(iterator) is Remote:
            suspicion.gave.add(iterator._number)
        return item
    except StopIteration as end:
        value = end.value
    if default:
        return default[0]
    end = CONTROL['StopIteration'](*[value][:value is not None])
    end._ends = type(iterator) is Remote and iterator._number not in suspicion.gave
    raise end


def next_inside(iterator, *default):
    # In an iterator of the tests, whose end may be the one of an honest iterator in it.
    if type(iterator) not in OPAQUE:
        return next(iterator, *default)
    try:
        return next_of(iterator, *default)
    except CONTROL['StopIteration'] as end:
        end._ends = False
        raise


def guarded(name, method, possible=False):
    # The method, unless it is called as the one of a plain type with values of the tests: then it is not asked whether
    # these are right, and may make only another object of them, as an operator.
    def asked(*args, **kwargs):
        if kwargs or any(number_of(a) is not None for a in args) or not is_plain_call(name, args):
            return method(*args, **kwargs)
        if possible:
            unsure()
            return method(*args)
        if name in TELLING:
            raise AttributeError(f'an object of the program has no {name}')
        return told(method(*args), name)
    return asked


def is_plain_call(name, args):
    if hasattr(set, name):
        return len(args) == 1 and hasattr(type(args[0]), '__iter__')
    if name in ('startswith', 'endswith'):
        return bool(args) and all(a is None or isinstance(a, int) for a in args[1:])
    return not args


def data_of(remote):
    # As often as it is asked, unless something may have changed it.
    if remote._standing in OWN:
        return link.value('data', remote._number)
    seen = seen_of(remote)
    if seen.data is None:
        seen.data = link.value('data', remote._number)
    return seen.data


def arithmetic(action, swapped=False):
    def operator(self, other, *more):
        pair = (other, self) if swapped else (self, other)
        if self._base and self._standing not in OWN and action in PLAINLY and not more:
            pair = [data_of(v) if type(v) is Remote and v._base else v for v in pair]
            if all(type(v) not in OPAQUE for v in pair):
                return PLAINLY[action](*pair)
        result = link.do(action, *pair, *more)
        if self._standing not in OWN and number_of(other) is None:
            computed(action, *pair, result)
        if self._standing in FREE:
            if type(result) is Remote:
                if same(result, self) and self._standing == 'made':
                    return self
                derived = 'derived' if self._standing in OWN | {'derived'} else 'possible'
                result = Remote(result._number, result._base, derived, self._maker)
                object.__setattr__(result, '_told', self._told or number_of(other) is None)
            elif number_of(other) is None or not known_class(self, other):
                unsure()
            elif not trusted(other) and not number_of(result) is not None:
                unsure(COMPUTED)
            return result
        if number_of(other) is not None and not self._told and not (type(other) is Remote and other._told):
            if number_of(result) is None:
                unsure(COMPUTED)
            elif type(result) is Remote and type(other) is Remote and trusted(self) and trusted(other):
                evidence.named.setdefault(result._number, maker_of_object(self))
                evidence.given.add(result._number)
            return result
        return told(result, action)
    return operator


def told(result, action):
    if type(result) is not Remote or result._base:
        raise TypeError(f'{action} with an object of the program')
    object.__setattr__(result, '_told', True)
    return result


def comparison(action):
    def operator(self, other):
        link.involved = True
        if number_of(other) is not None and not isinstance(other, (Shadow, BaseException)):
            if self._base and getattr(other, '_base', None) and self._standing not in OWN:
                return getattr(data_of(self), f'__{action}__')(data_of(other))
            return between(action, self, other)
        if self._standing == 'made' and not self._base:
            return opinion(action, self, other)
        stands_against(action, self, other)
        if self._base:
            return getattr(data_of(self), f'__{action}__')(other)
        if self._standing in ('possible', 'derived'):
            return doubtful(action, self, other)
        if other is not None and action in ('eq', 'ne'):
            see_compared(self)
        return NotImplemented
    return operator


def plain(action):
    def operator(self, *args):
        if action == 'bool' and self._base and self._standing not in OWN:
            return bool(data_of(self))
        if self._told and self._standing not in FREE:
            raise TypeError(f'{action} of an object of the program')
        result = link.do(action, self, *args)
        if self._told:
            unsure()
        weigh(self, result)
        if type(result) is Remote and self._standing in FREE:
            return Remote(result._number, result._base, 'derived', self._maker)
        return see_truth(self, result) if action == 'bool' else see_face(self, action, result, *args)
    return operator


def left_to_them(compare):
    return lambda self, other: NotImplemented if type(other) in OPAQUE else compare(self, other)


def asked(action):
    def operator(self, *args):
        if self._standing in OWN:
            return link.do(action, self, *args)
        if action == 'hash' and not trusted(self):
            # Which of them are one is not for them to say.
            if self._standing != 'found' and type(self) is Remote:
                unsure(RELATED)
            return hash(('object of the program', self._number))
        if action == 'len' and self._base:
            return len(data_of(self))
        if action == 'getitem' and self._base:
            return of_data(self, *args)
        result = link.do(action, self, *args)
        weigh(self, result)
        if action in ('copy', 'deepcopy'):
            # A copy is for the program to make.
            unsure(FACES)
        if action == 'getitem':
            return see_item(self, args[0], result)
        return see_length(self, result) if action == 'len' else see_face(self, action, result, *args) if action in TEXTS else result
    return operator


def of_data(remote, key):
    # An item of plain data of a class of its own. What only the class knows is what an object says.
    data = data_of(remote)
    try:
        if type(key) is slice or not isinstance(data, dict) or key in data:
            return data[key]
    except (IndexError, TypeError):
        pass
    value = link.do('getitem', remote, key)
    unsure(PLACES)
    return value


for _name in 'add sub mul truediv floordiv mod matmul and_ or_ xor lshift rshift divmod pow'.split():
    _short = _name.rstrip('_')
    setattr(Remote, f'__{_short}__', arithmetic(_name))
    setattr(Remote, f'__r{_short}__', arithmetic(_name, swapped=True))
    if _short != 'divmod':
        setattr(Remote, f'__i{_short}__', arithmetic('i' + _short))
for _name in 'eq ne lt le gt ge'.split():
    setattr(Remote, f'__{_name}__', comparison(_name))
for _name in 'bool int float complex index bytes abs neg pos invert round trunc floor ceil'.split():
    setattr(Remote, f'__{_name}__', plain(_name))
for _name in 'len hash str repr dir format getitem setitem delitem setattr delattr copy deepcopy'.split():
    setattr(Remote, f'__{_name}__', asked(_name))
# A Counter of the tests would compare item by item and so tell a Counter of the program which items are expected.
for _name in 'eq ne lt le gt ge'.split():
    setattr(collections.Counter, f'__{_name}__', left_to_them(getattr(collections.Counter, f'__{_name}__')))
