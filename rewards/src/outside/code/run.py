# Runs solution.py as the main program.
import builtins, sys, types
builtins.exit = builtins.quit = sys.exit
main = sys.modules['__main__'] = types.ModuleType('__main__')
sys.argv = ['solution.py'] + sys.argv[1:]
with open('solution.py', encoding='utf-8') as f:
    source = f.read()
exec(compile(source, 'solution.py', 'exec'), main.__dict__)
