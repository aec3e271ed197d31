# Runs solution.py as the main program.
import builtins, os, sys, types
builtins.exit = builtins.quit = sys.exit
main = sys.modules['__main__'] = types.ModuleType('__main__')
# As of a script that is started by its name.
main.__builtins__, main.__file__ = builtins, os.path.abspath('solution.py')
sys.path.insert(0, os.getcwd())
sys.argv = ['solution.py'] + sys.argv[1:]
with open('solution.py', encoding='utf-8') as f:
    source = f.read()
exec(compile(source, 'solution.py', 'exec'), main.__dict__)
