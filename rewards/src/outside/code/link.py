# The judge's end of the conversation with the candidate's process. What comes from there is data, whatever it is.
import _thread, builtins, collections, itertools, operator, types, warnings


class Lost(BaseException):
    # The candidate's process does not keep to the protocol; nothing more is asked of it.
    pass


class Unsendable(BaseException):
    # A test wants to send what cannot be sent.
    pass


# Exceptions that Python itself takes for the end of an iteration or of a generator. What the candidate raises becomes one
# of these classes instead, which ends nothing; where a test names the real one it means both.
CONTROL = {name: type(name, (Exception,), {'value': property(lambda error: error.args[0] if error.args else None)})
           for name in ('StopIteration', 'StopAsyncIteration', 'GeneratorExit')}
# Modules whose classes an exception of the candidate never has: some end a test, or a task of an event loop, without
# failing it.
NOT_THEIRS = {'__main__', 'asyncio', 'bdb', 'concurrent', 'doctest', 'solution', 'tests', 'unittest'}


class Link:
    def __init__(self, lines, out):
        self.lines, self.out, self.turn = lines, out, _thread.RLock()
        # Why nothing more is asked; what a test could not send; whether anything was asked of the candidate's code.
        self.lost = self.unsendable = None
        self.used = False
        # Whether the data of the program is more than this process holds.
        self.full = False
        # Whether objects were on the other side than the ones who use them, so that only both together show what is meant;
        # the last exception of the candidate.
        self.involved = self.finding = False
        self.came = None
        # Errors of what the tests assert, and how many they have raised; whether the program has given them a class that
        # takes these.
        self.asserted, self.failures, self.catching = [], 0, False
        # Names that mean classes in the tests; with what the tests seeded their random numbers.
        self.classes, self.possible, self.seeded, self.loaded = set(), set(), None, False
        # What was sent and stays here, with its numbers; exceptions that left; what stands for objects of the candidate.
        self.kept, self.numbers, self.left, self.remotes = [], {}, [], {}
        self.shared = Shared()

    def ask(self, *message):
        with self.turn:
            if message[0] != 'put':
                try:
                    self.shared.write(self)
                except TooDeep:
                    self.refuse('tests nest data of the program too deeply')
            self.used |= message[0] not in ('setup', 'load', 'find', 'seed', 'put')
            evidence.asked(message)
            text = json.dumps(message)
            while True:
                if self.lost:
                    raise Lost(self.lost)
                write_line(self.out, 'C ' + text)
                reply = self.understand(lambda line: self.fields(json.loads(line)), self.lines.readline())
                if reply[0] == 'exc':
                    raise self.understand(self.raised, reply[1])
                if reply[0] == 'ok':
                    return reply[1:]
                text = json.dumps(['ret', self.called_back(*reply[1:4])])

    def value(self, *message):
        reply = self.ask(*message)
        return self.shared.add(self, self.understand(self.unpack, reply[0]), reply[1] if len(reply) > 1 else None)

    def do(self, action, *args):
        if action not in LOOKING:
            evidence.gives(args)
        if action == 'setitem':
            evidence.forget()
            evidence.before.pop(number_of(args[0]), None)
        return self.value('do', action, self.pack_all(args))

    def pack_all(self, args):
        return [self.pack(a) for a in args]

    def fields(self, reply):
        if type(reply) is list and reply[0] in ('ok', 'exc') and len(reply) > 1 or reply[0] == 'back' and len(reply) == 4:
            return reply
        raise ValueError('no reply')

    def understand(self, read, data):
        # Whatever goes wrong here is the doing of the process that sent the data.
        try:
            return read(data)
        except BaseException as error:
            self.full |= isinstance(error, MemoryError)
            self.lost = self.lost or f'the program sent what is no reply ({type(error).__name__})'
        raise Lost(self.lost)

    def called_back(self, k, args, kwargs):
        function, args, kwargs = self.understand(
            lambda data: (self.kept[data[0]], self.unpack(data[1]), dict(self.unpack(data[2]))), (k, args, kwargs))
        try:
            return ['ok', self.pack(function(*args, **kwargs))]
        except (Lost, Unsendable):
            raise
        except BaseException as error:
            return ['exc', self.leaving(error)]

    def leaving(self, error):
        self.left.append(error)
        return [len(self.left) - 1, type(error).__name__, brief(error, 100000), number_of(error)]

    def pack(self, value):
        try:
            return self.shared.named(value) or encode(value, self.send)
        except TooDeep:
            # That deep by what the tests built, unless the program has sent deep data itself.
            if deepest <= DEPTH // 4:
                self.refuse('tests send data that is nested too deeply')
            raise

    def refuse(self, why):
        self.unsendable = why
        raise Unsendable(why)

    def unpack(self, data):
        return decode(data, self.receive)

    def send(self, value, data):
        n = number_of(value)
        if n is not None:
            return {'r': n}
        if data is not None:
            # Of a class of the tests, such as a named tuple, only the data arrive.
            self.involved = True
            return data
        if isinstance(value, BaseException):
            return {'q': self.leaving(value)}
        if isinstance(value, type) and value in (getattr(builtins, value.__name__, None), CONTROL.get(value.__name__)):
            return {'f': value.__name__}
        if hasattr(type(value), '__next__'):
            key = 'g', id(value)
            if key not in self.numbers:
                self.numbers[key] = self.keep(lambda: list(itertools.islice(value, 1)))
            return {'g': self.numbers[key]}
        if callable(value):
            return {'k': [self.keep(value), self.looks(value)]}
        self.refuse(f'tests cannot send a {type(value).__name__} to the program')

    def looks(self, function):
        # What a decorator of the program sees of a function of the tests: names, annotations, and its parameters where all
        # are plain ones.
        if type(function) is not types.FunctionType:
            return self.pack({})
        code = function.__code__
        seen = {name: getattr(function, name) for name in ('__name__', '__qualname__', '__doc__')}
        try:
            seen['__annotations__'] = dict(function.__annotations__)
            self.pack(seen)
        except Exception:
            del seen['__annotations__']
        except Unsendable:
            self.unsendable = None
            del seen['__annotations__']
        if not (code.co_flags & 0xc or code.co_kwonlyargcount
                or code.co_posonlyargcount or function.__defaults__):
            seen['parameters'] = list(code.co_varnames[:code.co_argcount])
        return self.pack(seen)

    def keep(self, value):
        # Each access makes another object of the same method.
        key = (id(value.__self__), id(value.__func__)) if isinstance(value, types.MethodType) else id(value)
        self.involved = True
        k = self.numbers.setdefault(key, len(self.kept))
        if k == len(self.kept):
            self.kept.append(value)
        return k

    def receive(self, tag, content):
        if tag == 'k':
            return self.kept[content]
        if tag == 'x':
            return self.exception(content)
        if tag == 'y':
            kind = self.kind(content)
            # By these `except` takes what the tests raise themselves.
            self.catching |= kind in (AssertionError, Exception, BaseException)
            return kind
        n, data = content if tag == 'o' else (content, None)
        if type(n) is not int or tag not in ('r', 'o', 'a'):
            raise ValueError('no reference')
        if n not in self.remotes:
            self.remotes[n] = self.remote(n, tag, data)
        return self.remotes[n]

    def remote(self, n, tag, data):
        if tag == 'a':
            return Coroutine(n)
        self.involved |= not self.finding
        if data is None:
            return Remote(n)
        value = self.unpack(data)
        self.involved = True
        base = type(value)
        if base not in PLAIN and full_name(base) not in STANDARD:
            # A stand-in, for example, whose class says what it is taken for.
            raise ValueError('no plain data')
        if base not in PLAIN or base in (list, dict, set, bytearray):
            return Remote(n, base)
        # What cannot change is here as it is, with the attributes of the object that it was made of.
        shadow = SHADOWS.setdefault(base, type(base.__name__, (Shadow, base), {}))
        made = base.__new__(shadow, value)
        made._number = n
        return made

    def kind(self, described):
        # The class of an exception: Python's own where it has this name, otherwise one that stands for the candidate's.
        module, name = described[:2]
        if module == 'builtins' and name in CONTROL:
            return CONTROL[name]
        if module.split('.')[0] not in NOT_THEIRS:
            known = getattr(sys.modules.get(module), name, None)
            if isinstance(known, type) and issubclass(known, BaseException):
                return known
        n, bases = described[2:]
        if n not in self.remotes:
            fields = {'__module__': module, '_class': n}
            bases = tuple(self.kind(b) for b in bases)
            # A class of the program that has the name of one of Python's is caught by this name, too.
            real = CONTROL.get(name, getattr(builtins, name, None))
            if is_exception(real) and not any(issubclass(b, real) for b in bases):
                try:
                    self.remotes[n] = Kind(name, (*(b for b in bases if not issubclass(real, b)), real), fields)
                except TypeError:
                    # The two cannot be one.
                    self.remotes[n] = Kind(name, bases, fields)
            else:
                self.remotes[n] = Kind(name, bases, fields)
        return self.remotes[n]

    def raised(self, described):
        error = self.exception(described)
        # Data that is too deep to be sent may be right.
        self.involved |= type(error).__name__ == 'TooDeep'
        if isinstance(error, BaseException):
            if type(error) not in CONTROL.values():
                self.came = error
            elif 'local' not in described:
                # Not the end of an iterator of the tests, which only passed through.
                error._ends = True
            return error
        raise ValueError('no exception')

    def exception(self, described):
        if 'local' in described:
            error = self.left[described['local']]
            control = CONTROL.get(type(error).__name__)
            return control(*error.args) if control else error
        n, cls, text = described['id'], self.kind(described['kind']), str(described['text'])
        if type(n) is not int or not issubclass(cls, BaseException):
            raise ValueError('no exception')
        if n in self.remotes:
            return self.remotes[n]
        args = self.unpack(described.get('args', [text]))
        fields = dict(self.unpack(described['vars'])) if 'vars' in described else {}
        error = made(cls, args)
        if brief(error, len(text) + 1) != text:
            if type(cls) is not Kind:
                error = made(Kind(cls.__name__, (cls,), {'__module__': cls.__module__}), args)
            error._text = text
        error.__dict__.update(fields, _number=n)
        if 'cause' in described:
            error.__cause__ = self.exception(described['cause'])
        return self.remotes.setdefault(n, error)


def made(cls, args):
    try:
        return type.__call__(cls, *args)
    except Exception:
        error = cls.__new__(cls)
        error.args = tuple(args)
        return error


def brief(error, size=300):
    try:
        return str(error)[:size]
    except BaseException:
        return ''
