# What the tests say without being run: which names are the candidate's, and what must not be taken for an end.
import ast, builtins, importlib.util, symtable, sys

OLD_MODULES = 'bisect collections copy datetime functools heapq itertools json math operator random re string'
# What tests replace in their own process.
REDIRECTIONS = {'patch', 'redirect_stdout', 'redirect_stderr'}
STREAMS = {'stdin', 'stdout', 'stderr', 'argv'}
# Modules of which tests get values only, and what reaches further.
VALUES_ONLY = set(
    'array bisect calendar cmath collections copy datetime decimal enum fractions functools heapq itertools json math '
    'numbers operator random re solution statistics string time typing unittest uuid __future__'.split())
REACHING = {'open', 'getcontext', 'setcontext', 'localcontext', 'assertWarns', 'assertWarnsRegex', 'assertLogs',
            'assertNoLogs', '__code__', '__globals__', 'globals', 'locals', 'callable', 'setattr', 'patch'}
# What makes something empty of nothing.
EMPTY = {'dict', 'list', 'set', 'tuple'}
MODULES = getattr(sys, 'stdlib_module_names', OLD_MODULES.split())


class Survey:
    # The names of one piece of the tests.
    def __init__(self, source, name, mode='exec'):
        self.tree = ast.parse(source, name, mode)
        # Read but not bound by it; bound by it; defined or imported by it.
        self.free, self.bound, self.own = set(), set(), set()
        # Read by the body of a class, for which Python does not ask what a space of names finds.
        self.in_classes = set()
        self.walk(symtable.symtable(source, name, mode), True)
        nodes = list(ast.walk(self.tree))
        self.called = {n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        # All names with the attributes that are read of them; none among these where more is done with one.
        self.attributes = {}
        bare = {id(n) for n in nodes if isinstance(n, ast.Name)}
        for n in nodes:
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name):
                self.attributes.setdefault(n.value.id, set()).add(n.attr)
                bare.discard(id(n.value))
        for n in nodes:
            if id(n) in bare:
                self.attributes.setdefault(n.id, set()).add(None)
        imports = [n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))]
        self.imported = {(a.asname or a.name).split('.')[0] for n in imports for a in n.names}
        for n in getattr(self.tree, 'body', []) if mode == 'exec' else []:
            if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                self.own.add(n.name)
            elif n in imports:
                self.own.update((a.asname or a.name).split('.')[0] for a in n.names)

    def walk(self, table, top):
        for symbol in table.get_symbols():
            bound = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
            if top or symbol.is_global():
                if bound:
                    self.bound.add(symbol.get_name())
                if symbol.is_referenced():
                    self.free.add(symbol.get_name())
                    if table.get_type() == 'class':
                        self.in_classes.add(symbol.get_name())
        for child in table.get_children():
            self.walk(child, False)

    def program(self, theirs=frozenset()):
        missing = self.missing()
        if missing:
            raise ImportError(f'the tests import {missing}, which is not there')
        for node in ast.walk(self.tree):
            name, root = getattr(node, 'attr', getattr(node, 'id', None)), node
            while isinstance(root, ast.Attribute):
                root = root.value
            replaces = name in REDIRECTIONS or name in STREAMS and root is not node and isinstance(node.ctx, ast.Store)
            if replaces and getattr(root, 'id', None) in self.imported:
                raise ValueError(f'the tests use {name}, which does not reach the process of the program')
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith('test_') and node.name not in self.called:
                if len(node.args.args) > len(node.args.defaults):
                    raise ValueError(f'{node.name} needs arguments')
        tree = Rewrite(self.bound | theirs).visit(self.tree)
        return compile(ast.fix_missing_locations(tree), 'test', 'exec')

    def classes(self, entry):
        # Names that the tests use as classes. A capital letter alone says nothing: functions have them, too. But the value
        # of a function has no attributes that no plain type has, and nothing that is called without arguments gives a
        # value that is then changed by a method, unless to bring it into order.
        nodes = list(ast.walk(self.tree))
        found, makers = set(), {}
        for n in nodes:
            if maker_of(n) in ('isinstance', 'issubclass') and len(n.args) == 2:
                kinds = n.args[1].elts if isinstance(n.args[1], ast.Tuple) else [n.args[1]]
                found.update(k.id for k in kinds if isinstance(k, ast.Name))
            if isinstance(n, ast.AugAssign):
                continue
            value = n.context_expr if isinstance(n, ast.withitem) else getattr(n, 'value', None)
            targets = getattr(n, 'targets', None) or [getattr(n, 'optional_vars', getattr(n, 'target', None))]
            for target in targets:
                pairs = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
                for t, v in zip(target.elts, value.elts) if pairs else [(target, value)]:
                    makers.setdefault(path_of(t), []).append(v if isinstance(v, ast.Call) else None)
        makers.pop(None, None)
        # The names that imported ones have in the program.
        aliases = {a.asname: a.name for n in nodes if isinstance(n, ast.ImportFrom) and n.module == 'solution'
                   for a in n.names if a.asname}
        changed = {id(n.value.func) for n in nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)
                   and getattr(n.value.func, 'attr', None) not in ('reverse', 'sort')}
        for n in nodes:
            if isinstance(n, ast.Attribute):
                calls = [n.value] if isinstance(n.value, ast.Call) else makers.get(path_of(n.value), ())
                made_by, bare = {maker_of(c, aliases) for c in calls}, not any(c.args or c.keywords for c in calls if c)
                name = entry if made_by == {'candidate'} else next(iter(made_by), None)
                if len(made_by) == 1 and name and name.lstrip('_')[:1].isupper():
                    if id(n) in changed and bare or not is_plain_attribute(n.attr):
                        found.add(name)
        return found

    def reaches(self):
        # Whether more than values may pass between these tests and a program in the same process: files, variables of the
        # system, settings of modules.
        for n in ast.walk(self.tree):
            if isinstance(n, ast.Import) and any(a.name.split('.')[0] not in VALUES_ONLY for a in n.names):
                return True
            if isinstance(n, ast.ImportFrom) and (n.module or '').split('.')[0] not in VALUES_ONLY:
                return True
            if getattr(n, 'id', getattr(n, 'attr', None)) in REACHING:
                return True
            root = n
            while isinstance(root, (ast.Attribute, ast.Subscript)):
                root = root.value
            if root is not n and isinstance(n.ctx, ast.Store) and getattr(root, 'id', None) in self.imported:
                return True
        return False

    def expects_nothing(self):
        # Whether something is compared with what is empty, or is to be so: then a length without items may be meant.
        for n in ast.walk(self.tree):
            if isinstance(n, ast.Compare) and any(is_empty(part) for part in [n.left, *n.comparators]):
                return True
            if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.Not) and maker_of(n.operand) in EMPTY | {'any'}:
                return True
        return False

    def missing(self):
        # A module that is imported and not there, unless the tests themselves look whether it is.
        guarded = {id(n) for t in ast.walk(self.tree) if isinstance(t, ast.Try) and t.handlers for n in ast.walk(t)}
        for n in ast.walk(self.tree):
            names = [a.name for a in n.names] if isinstance(n, ast.Import) else []
            names += [n.module] if isinstance(n, ast.ImportFrom) and not n.level and n.module else []
            for root in {name.split('.')[0] for name in names} - {'solution'}:
                if id(n) not in guarded and root not in sys.modules and importlib.util.find_spec(root) is None:
                    return root
        return None


def is_empty(node):
    if isinstance(node, (ast.List, ast.Tuple)):
        return not node.elts
    return isinstance(node, ast.Dict) and not node.keys or maker_of(node) in EMPTY and not node.args


def path_of(node):
    # A name, or the attribute of one, as text; none for anything else.
    if isinstance(node, ast.Attribute):
        path = path_of(node.value)
        return path and f'{path}.{node.attr}'
    return getattr(node, 'id', None)


def maker_of(node, aliases={}):
    # The name that is called, if this is the call of a name.
    path = path_of(node.func) if isinstance(node, ast.Call) else None
    name = path and path.replace('solution.', '', 1)
    return aliases.get(name, name) if name and '.' not in name else None


def is_plain_attribute(name):
    kinds = [getattr(__import__(module), cls) for module, cls in (n.split('.') for n in STANDARD)]
    return any(hasattr(t, name) for t in (*PLAIN, *kinds))


def is_builtin(name):
    return hasattr(builtins, name)


def is_module(name, surveys):
    # Named like a module of the library, and used as one in all places.
    if name not in MODULES:
        return False
    used = set().union(*(s.attributes.get(name, set()) for s in surveys))
    try:
        return None not in used and all(hasattr(__import__(name), a) for a in used)
    except ImportError:
        return False


class Names:
    # Where each name of the tests comes from.
    def __init__(self, entry, first, tests, solution, classes):
        surveys = [first] + tests + ([entry] if entry else [])
        read = set().union(*(s.free for s in surveys))
        bound = set().union(*(s.bound for s in [first] + tests))
        own = set().union(*(s.own for s in [first] + tests))
        # Only what the tests say decides, never the candidate: otherwise it would replace what it is judged with.
        free = {n for n in read - bound if not n.startswith('__')}
        known = {n for n in free if is_builtin(n)}
        functions = {n for n in known if not is_exception(getattr(builtins, n))}
        entry_names = entry.free if entry else set()
        self.modules = {n for n in free - known if n not in entry_names and n not in solution and is_module(n, surveys)}
        # Names of built-ins that mean the candidate's here.
        self.shadowed = set()
        # Whether the tests mean them, too, or only the entry point.
        self.everywhere = True
        from_solution = any(isinstance(n, ast.ImportFrom) and n.module == 'solution' or isinstance(n, ast.Import)
                            and any(a.name == 'solution' for a in n.names) for s in surveys for n in ast.walk(s.tree))
        if entry_names:
            self.shadowed = entry_names if entry_names <= known else set()
            self.everywhere = all('candidate' not in s.attributes for s in [first] + tests)
        elif functions & solution:
            self.shadowed = functions & solution
        elif functions and not from_solution and not free - known - self.modules:
            # Nothing else can be the candidate's: the built-in function that each test calls.
            called = set.intersection(*(s.called & functions for s in tests)) if tests else set()
            if len(called) != 1 and any(s.called & functions for s in tests):
                names = ', '.join(sorted(set().union(*(s.called & functions for s in tests))))
                raise ValueError(f'which of {names} is meant to be the program\'s? Give an entry_point')
            self.shadowed = called
        # Names that mean classes: by the reference's own program, or else by what the tests do.
        entry_name = entry.tree.body.id if entry and isinstance(entry.tree.body, ast.Name) else None
        by_use = set().union(*(s.classes(entry_name) for s in [first] + tests))
        self.classes = classes | by_use - solution
        self.possible = {n for n in read - solution if n.lstrip('_')[:1].isupper()}
        self.wanted = (read - own - known - self.modules | self.shadowed) - {'candidate' if entry else ''}
        # The entry point is the program's also where the tests have a `candidate` or a `check` of their own.
        self.entry = entry_names - first.bound - (known - self.shadowed) - self.modules


def is_exception(value):
    return isinstance(value, type) and issubclass(value, BaseException)


def defined_by(solution):
    # What the reference's own program defines, and which of it are classes.
    try:
        survey = Survey(solution or '', 'solution')
    except Exception:
        return set(), set()
    return survey.bound, {n.name for n in survey.tree.body if isinstance(n, ast.ClassDef)}


def fails_anyway(node):
    # A statement that says nothing of the program: `assert 1 == 2`, `raise AssertionError('x')`.
    if isinstance(node, ast.Assert):
        return not any(isinstance(n, (ast.Name, ast.NamedExpr)) for n in ast.walk(node.test))
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} if isinstance(node, ast.Raise) else None
    return names == {'AssertionError'}


class Rewrite(ast.NodeTransformer):
    # Where a test names StopIteration it means the one of the candidate, too. The end of an iterator that a test asks by
    # next does not end a loop around it.
    def __init__(self, bound):
        self.functions = {'next', 'type', 'id'} - bound
        self.inside_next = False

    def both(self, node):
        kinds = node.elts if isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) else [node]
        if not any(isinstance(k, ast.Name) and k.id in CONTROL for k in kinds):
            return node
        theirs = [ast.Name(f'{k.id} of the program', ast.Load()) for k in kinds if getattr(k, 'id', None) in CONTROL]
        return ast.Tuple(kinds + theirs, ast.Load())

    def visit_ExceptHandler(self, node):
        self.generic_visit(node)
        node.type = node.type and self.both(node.type)
        return node

    def visit_Call(self, node):
        self.generic_visit(node)
        node.args = [self.both(a) for a in node.args]
        if isinstance(node.func, ast.Name) and node.func.id == 'type' in self.functions and len(node.args) == 1:
            node.func = ast.Name('type of the tests', ast.Load())
        return node

    def visit_Name(self, node):
        if node.id == 'next' in self.functions and isinstance(node.ctx, ast.Load):
            return ast.Name('next inside of the tests' if self.inside_next else 'next of the tests', ast.Load())
        if node.id == 'id' in self.functions and isinstance(node.ctx, ast.Load):
            return ast.Name('id of the tests', ast.Load())
        return node

    def visit_Assert(self, node):
        self.generic_visit(node)
        return ast.With([ast.withitem(ast.Name('claim of the tests', ast.Load()))], [node])

    def visit_Raise(self, node):
        self.generic_visit(node)
        return node if node.exc is None else ast.With([ast.withitem(ast.Name('error of the tests', ast.Load()))], [node])

    def visit_With(self, node):
        bound = [fails_anyway(n) for n in node.body]
        self.generic_visit(node)
        failure = [ast.withitem(ast.Name('failure of the tests', ast.Load()))]
        node.body = [ast.With(failure, [n]) if own else n for n, own in zip(node.body, bound)]
        return node

    def visit_Expr(self, node):
        # What unittest asserts.
        name = getattr(node.value.func, 'attr', '') if isinstance(node.value, ast.Call) else ''
        self.generic_visit(node)
        if not name.startswith(('assert', 'fail')):
            if name and isinstance(node.value.func.value, (ast.Name, ast.Attribute, ast.Call)):
                func = node.value.func
                func.value = ast.Call(ast.Name('unheard of the tests', ast.Load()), [func.value], [])
            return node
        return ast.With([ast.withitem(ast.Name('claim of the tests', ast.Load()))], [node])

    def visit_Compare(self, node):
        # There may be several stand-ins for one object.
        self.generic_visit(node)
        if len(node.ops) > 1 and all(isinstance(n, (ast.Name, ast.Constant)) for n in node.comparators[:-1]):
            # A chain whose middle may be read twice.
            lefts = [node.left, *node.comparators]
            parts = [ast.Compare(a, [op], [b]) for a, op, b in zip(lefts, node.ops, node.comparators)]
            return ast.BoolOp(ast.And(), [self.identity(part) for part in parts])
        return self.identity(node)

    def identity(self, node):
        if len(node.ops) != 1 or not isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            return node
        same = ast.Call(ast.Name('is of the tests', ast.Load()), [node.left, *node.comparators], [])
        return same if isinstance(node.ops[0], ast.Is) else ast.UnaryOp(ast.Not(), same)

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if node.attr in COMPARING and isinstance(node.ctx, ast.Load):
            return ast.Call(ast.Name('method of the tests', ast.Load()), [node.value, ast.Constant(node.attr)], [])
        if node.attr == '__class__' and isinstance(node.ctx, ast.Load):
            return ast.Call(ast.Name('type of the tests', ast.Load()), [node.value], [])
        return node

    def visit_FunctionDef(self, node):
        outside, self.inside_next = self.inside_next, node.name == '__next__'
        self.generic_visit(node)
        self.inside_next = outside
        return node
