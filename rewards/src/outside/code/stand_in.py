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

class Remote:
    # Its operators are those of the candidate, as long as only objects of the candidate take part. It equals no plain
    # data, unless its class extends a plain type. An operator that gets a value of the tests tells the candidate what is
    # expected, so that what comes of it may only be another object, which is never taken for a number.
    #
    # A test that makes an object of a class which it names asks this class, also by values of its own: whether a Trie
    # contains a word is what it is for. This holds for the stand-in that the test got by calling the class, and not for
    # another one of the same object: what a function or a method returns may be in the place of an expected value.
    __slots__ = ('_number', '_base', '_told', '_standing')

    def __init__(self, number, base=None, standing=None):
        # The standing: none for what a function returned; 'class' and 'made'; 'possible class' and 'possible' where a name
        # may mean a class; 'derived' by operators of these; 'found' by a name; 'unheard' where no answer is used; and with
        # a name after it, 'method' of this name, 'answer' of it, and 'said' by its answer.
        for name, value in (('_number', number), ('_base', base), ('_told', False), ('_standing', standing)):
            object.__setattr__(self, name, value)

    def __call__(self, *args, **kwargs):
        result = call(self._number, args, kwargs)
        standing = self._standing or ''
        if standing in MAKES and type(result) is Remote:
            return Remote(result._number, result._base, MAKES[standing])
        kind, _, name = standing.partition(' ')
        if kind == 'said' or kind == 'method' and any(number_of(a) is None for a in (*args, *kwargs.values())):
            if type(result) is Remote:
                return Remote(result._number, result._base, f'answer {name}')
            evidence.answered(name, result)
        return result

    def __getattr__(self, name):
        if name.startswith('__') and name not in SHOWN:
            raise AttributeError(name)
        asks = (name in TELLING or name in MAKING) and self._standing not in OWN | {'possible class'}
        if asks and self._base and hasattr(self._base, name):
            return getattr(data_of(self), name)
        value = link.do('getattr', self, name)
        if asks and type(value) is Remote:
            return guarded(name, value, self._standing in POSSIBLE)
        if self._standing not in FREE:
            weigh(self, value)
            if name in VIEWS and type(value) is Remote and 'len' in traits_of(self):
                return counted(self, value)
            if type(value) is Remote and not value._standing and not self._base and self._standing not in ('unheard', 'found'):
                known = (self._standing or '').partition(' ')
                told_before = 'a difference' if self._told else known[2] if known[0] == 'answer' else ''
                return Remote(value._number, value._base, f'said {told_before}' if told_before else f'method {name}')
        if self._base and name in ('numerator', 'denominator') and not isinstance(value, int):
            # A Fraction of the tests computes with them, and with a stand-in it would ask the program for the result.
            raise TypeError(f'the {name} of an object of the program is no integer')
        return value

    def __iter__(self):
        tape = None if self._standing in OWN else tape_of(self)
        if tape is not None:
            return iter(tape)
        weigh(self, False)
        iterator = link.do('iter', self)
        # An iterator of its own is asked for no more items than the tests take.
        return items_of(iterator, 1 if iterator is self else 1024)

    def __next__(self):
        return next_of(self)

    def __contains__(self, item):
        if number_of(item) is not None or self._standing == 'made':
            return link.do('contains', self, item)
        if self._standing in ('possible', 'derived') and not self._base:
            held = doubtful('contains', self, item)
            if held is not NotImplemented:
                return held
        return any(item is own or item == own for own in self)

    def __enter__(self):
        entered = link.value('enter', self._number)
        return self if same(self, entered) else entered

    def __exit__(self, kind, error, trace):
        taken = link.value('leave', self._number, link.pack(error))
        return taken and all(error is not own for own in link.asserted)

    def __mro_entries__(self, bases):
        link.refuse('tests derive a class from one of the program')

    def __instancecheck__(self, value):
        return number_of(value) is not None and link.do('isinstance', value, self)

    def __subclasscheck__(self, value):
        return number_of(value) is not None and link.do('issubclass', value, self)

    __class__ = property(lambda self: self._base or type(self))
    __doc__ = property(lambda self: link.do('getattr', self, '__doc__'))


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
        return link.value('do', 'getattr', [{'r': self.__dict__['_number']}, name])


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
        return link.do('getattr', cls, name)

    def text(error):
        base = next(c for c in type(error).__mro__ if type(c) is not Kind)
        return error.__dict__['_text'] if '_text' in error.__dict__ else base.__str__(error)

    def field(error, name):
        if name.startswith('_') or '_number' not in error.__dict__:
            raise AttributeError(name)
        return link.do('getattr', error, name)


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
    try:
        return next(items_of(iterator, 1) if type(iterator) is Remote else iterator)
    except StopIteration as end:
        value = end.value
    if default:
        return default[0]
    raise CONTROL['StopIteration'](*[value][:value is not None])


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
    return link.value('data', remote._number)


def arithmetic(action, swapped=False):
    def operator(self, other, *more):
        pair = (other, self) if swapped else (self, other)
        result = link.do(action, *pair, *more)
        if self._standing in FREE:
            if type(result) is Remote:
                if same(result, self) and self._standing == 'made':
                    return self
                result = Remote(result._number, result._base, 'derived' if self._standing in OWN | {'derived'} else 'possible')
                object.__setattr__(result, '_told', self._told or number_of(other) is None)
            elif number_of(other) is None:
                unsure()
            return result
        if number_of(other) is not None and not self._told and not (type(other) is Remote and other._told):
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
        if number_of(other) is not None or self._standing == 'made' and not self._base:
            return link.do(action, self, other)
        if self._base:
            return getattr(data_of(self), f'__{action}__')(other)
        return doubtful(action, self, other) if self._standing in ('possible', 'derived') else NotImplemented
    return operator


def plain(action):
    def operator(self, *args):
        if self._told and self._standing not in FREE:
            raise TypeError(f'{action} of an object of the program')
        result = link.do(action, self, *args)
        if self._told:
            unsure()
        weigh(self, result)
        return is_true(self, result) if action == 'bool' else result
    return operator


def left_to_them(compare):
    return lambda self, other: NotImplemented if type(other) in OPAQUE else compare(self, other)


def asked(action):
    def operator(self, *args):
        result = link.do(action, self, *args)
        weigh(self, result)
        if action == 'getitem':
            return item_of(self, args[0], result)
        return measured(self, result) if action == 'len' else result
    return operator


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
