//! Programs that attack the sandbox or the judge: none is accepted, and none leaves a process or a file behind.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use rlvr_rewards::code::{Code, CodeConfig, Language};
use rlvr_rewards::sandbox::{End, Isolation, Limits, Program, Sandbox, run};
use rlvr_rewards::{Outcome, Response, Task, Verdict, score_one};
use serde_json::{Value, json};

/// Stands in the code for a number that no other process has as a sleeping time.
const MARK: &str = "86397.25";

/// System calls that no program may make, whatever their arguments.
#[rustfmt::skip]
const CALLS: [libc::c_long; 62] = [
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd, libc::SYS_pidfd_send_signal, libc::SYS_kcmp, libc::SYS_kill, libc::SYS_tkill,
    libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo, libc::SYS_setsid, libc::SYS_setpgid, libc::SYS_unshare,
    libc::SYS_setns, libc::SYS_clone3, libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root,
    libc::SYS_chroot, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick,
    libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_mount_setattr, libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at, libc::SYS_setuid, libc::SYS_setresuid, libc::SYS_setgroups, libc::SYS_capset,
    libc::SYS_seccomp, libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_io_uring_setup,
    libc::SYS_io_setup, libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_inotify_init1,
    libc::SYS_fanotify_init, libc::SYS_memfd_create, libc::SYS_memfd_secret, libc::SYS_shmget, libc::SYS_shmat,
    libc::SYS_msgget, libc::SYS_semget, libc::SYS_mq_open, libc::SYS_socket, libc::SYS_sendmsg,
    libc::SYS_fchmodat, libc::SYS_fchownat, libc::SYS_mknodat, libc::SYS_setxattr, libc::SYS_quotactl,
    libc::SYS_personality, libc::SYS_sethostname, libc::SYS_clock_settime, libc::SYS_reboot,
];

/// Attacks on a program that reads and writes. Each prints YES where it got what it must not get, and YES is the expected
/// output: an accepted program is a hole.
const REACH: &[(&str, &str)] = &[
    ("internet socket", "import socket\nsocket.socket()\nprint('YES')"),
    (
        "datagram",
        "import socket\ns = socket.socket(type=socket.SOCK_DGRAM)\ns.sendto(b'x', ('127.0.0.1', 9))\nprint('YES')",
    ),
    ("name server", "import socket\nsocket.getaddrinfo('example.com', 80)\nprint('YES')"),
    ("local socket", "import socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0rlvr')\nprint('YES')"),
    (
        "pair to elsewhere",
        "import socket\na, b = socket.socketpair(type=socket.SOCK_DGRAM)\na.sendto(b'x', '/dev/log')\nprint('YES')",
    ),
    ("passwords", "print('YES' if open('/etc/passwd').read() else '')"),
    ("home", "import os\nos.listdir('@HOME@')\nprint('YES')"),
    ("outside file", "print('YES' if open('@OUTSIDE@').read() else '')"),
    ("other directories", "import os\nos.listdir('..')\nprint('YES')"),
    ("a link outside", "import os\nos.symlink('@OUTSIDE@', 'l')\nprint('YES' if open('l').read() else '')"),
    ("a hard link outside", "import os\nos.link('@OUTSIDE@', 'l')\nprint('YES' if open('l').read() else '')"),
    ("write outside", "open('@DIR@/new', 'w').write('x')\nprint('YES')"),
    ("write over", "open('@OUTSIDE@', 'a').write('x')\nprint('YES')"),
    ("remove outside", "import os\nos.remove('@OUTSIDE@')\nprint('YES')"),
    ("truncate outside", "import os\nos.truncate('@OUTSIDE@', 0)\nprint('YES')"),
    ("mode outside", "import os\nos.chmod('@OUTSIDE@', 0)\nprint('YES')"),
    ("times outside", "import os\nos.utime('@OUTSIDE@', (0, 0))\nprint('YES')"),
    ("shared memory", "open('/dev/shm/rlvr-code', 'w').write('x')\nprint('YES')"),
    ("own environment", "print('YES' if open('/proc/self/environ', 'rb').read() else '')"),
    ("parent's environment", "import os\nopen(f'/proc/{os.getppid()}/environ', 'rb').read()\nprint('YES')"),
    ("parent's descriptors", "import os\nos.listdir(f'/proc/{os.getppid()}/fd')\nprint('YES')"),
    ("parent's memory", "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb').read(1)\nprint('YES')"),
    (
        "inherited environment",
        "import os\nprint('YES' if any(k.startswith(('CARGO', 'RUST')) or k == 'USER' for k in os.environ) else '')",
    ),
    (
        "inherited descriptors",
        "import os\nopen_ = []\nfor i in range(3, 256):\n    try:\n        os.fstat(i); open_.append(i)\n    except OSError: pass\nprint('YES' if open_ else '')",
    ),
    ("kill the parent", "import os\nos.kill(os.getppid(), 0)\nprint('YES')"),
    ("kill all", "import os\nos.kill(-1, 0)\nprint('YES')"),
    ("signal by descriptor", "import fcntl, os\nfcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())\nprint('YES')"),
    (
        "raw signal",
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nassert libc.syscall(@TGKILL@, os.getppid(), os.getppid(), 0) == 0\nprint('YES')",
    ),
    (
        "trace the parent",
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nassert libc.ptrace(16, os.getppid(), 0, 0) == 0\nprint('YES')",
    ),
    (
        "limit of the parent",
        "import os, resource\nassert os.getppid() > 0\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU)\nprint('YES')",
    ),
    ("namespaces", "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0\nprint('YES')"),
    (
        "own session",
        "import os\nos.setpgid(0, 0) if os.getpid() != os.getpgid(0) else os.setsid()\nprint('YES')",
    ),
    ("new process", "import os\nos.fork()\nprint('YES')"),
    ("program", "import subprocess\nsubprocess.run(['/bin/true'], check=True)\nprint('YES')"),
    (
        "more memory",
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))\nprint('YES')",
    ),
    ("memory", "x = []\nwhile True:\n    x.append(bytearray(1 << 24))"),
    ("one huge block", "x = bytearray(1 << 40)\nprint('YES')"),
    (
        "large file",
        "f = open('x', 'wb')\nfor _ in range(64):\n    f.write(bytes(1 << 20))\n    f.flush()\nprint('YES')",
    ),
    ("many files", "for i in range(100000):\n    open(str(i), 'w').close()\nprint('YES')"),
    ("endless output", "while True:\n    print('YES' * 1000)"),
    ("endless errors", "import sys\nwhile True:\n    sys.stderr.write('x' * 10000)"),
    ("endless loop", "print('YES', flush=True)\nwhile True: pass"),
    ("sleep", "import time\nprint('YES', flush=True)\ntime.sleep(@MARK@)"),
    (
        "closed pipes and sleep",
        "import os, time\nprint('YES', flush=True)\nos.closerange(0, 64)\ntime.sleep(@MARK@)",
    ),
    (
        "ignored signals",
        "import signal, time\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nprint('YES', flush=True)\ntime.sleep(@MARK@)",
    ),
    ("recursion", "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): return f()\nf()"),
    ("exit status", "import os\nprint('YES', flush=True)\nos._exit(3)"),
    ("abort", "import os\nprint('YES', flush=True)\nos.abort()"),
    (
        "deep directories",
        "import os\nfor _ in range(400):\n    os.mkdir('d')\n    os.chdir('d')\nos.chdir('/nowhere')",
    ),
    ("binary", "import sys\nsys.stdout.buffer.write(b'YES\\xff\\0')"),
    ("other unicode", "print('ＹＥＳ')"),
    // Space that has no name, and names without space.
    (
        "unlinked files",
        "import os\nf = []\nfor i in range(12):\n    f.append(os.open('u', os.O_CREAT | os.O_RDWR))\n    os.unlink('u')\n    os.write(f[-1], bytes(1 << 20))\nprint('YES')",
    ),
    (
        "mapped files",
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nfor i in range(12):\n    f = os.open('u', os.O_CREAT | os.O_RDWR)\n    os.unlink('u')\n    os.write(f, bytes(1 << 20))\n    libc.mmap(None, 4096, 1, 1, f, 0)\n    os.close(f)\nprint('YES')",
    ),
    (
        "files in removed directories",
        "import os\nf = []\nfor i in range(12):\n    os.mkdir('d')\n    f.append(os.open('d/u', os.O_CREAT | os.O_RDWR))\n    os.unlink('d/u')\n    os.rmdir('d')\n    os.write(f[-1], bytes(1 << 20))\nprint('YES')",
    ),
    (
        "allocated files",
        "import os\nfor i in range(12):\n    os.posix_fallocate(os.open(str(i), os.O_CREAT | os.O_RDWR), 0, 1 << 20)\nprint('YES')",
    ),
    ("sparse file", "import os\nos.truncate(os.open('s', os.O_CREAT | os.O_RDWR), 1 << 40)\nprint('YES')"),
    (
        "mapped growth",
        "import mmap, os\nf = os.open('s', os.O_CREAT | os.O_RDWR)\nfor i in range(12):\n    f = os.open(str(i), os.O_CREAT | os.O_RDWR)\n    os.truncate(f, 1 << 20)\n    m = mmap.mmap(f, 1 << 20)\n    m[:] = b'x' * (1 << 20)\nprint('YES')",
    ),
    (
        "many links",
        "import os\nopen('l', 'w').close()\nfor i in range(5000): os.link('l', str(i))\nprint('YES')",
    ),
    ("many symbolic links", "import os\nfor i in range(5000): os.symlink('x' * 900, str(i))\nprint('YES')"),
    ("many directories", "import os\nfor i in range(5000): os.mkdir(str(i))\nprint('YES')"),
    ("memory file", "import os\nos.memfd_create('m')\nprint('YES')"),
    (
        "named shared memory",
        "from multiprocessing import shared_memory\nshared_memory.SharedMemory(create=True, size=1 << 20)\nprint('YES')",
    ),
    (
        "shared memory of System V",
        "import ctypes\nassert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) >= 0\nprint('YES')",
    ),
    ("message queue", "import ctypes\nassert ctypes.CDLL(None).msgget(0, 0o1600) >= 0\nprint('YES')"),
    ("larger pipe", "import fcntl, os\nfcntl.fcntl(os.pipe()[1], 1031, 1 << 20)\nprint('YES')"),
    (
        "many full pipes",
        "import os\nfor i in range(64):\n    r, w = os.pipe()\n    os.set_blocking(w, False)\n    os.write(w, bytes(1 << 16))\nprint('YES')",
    ),
    (
        "many full sockets",
        "import socket\ns = []\nfor i in range(64):\n    a, b = socket.socketpair()\n    a.setblocking(False)\n    a.send(bytes(1 << 16))\n    s += [a, b]\nprint('YES')",
    ),
    (
        "descriptors in flight",
        "import array, os, socket\na, b = socket.socketpair()\nsocket.send_fds(a, [b'x'], [0])\nprint('YES')",
    ),
    (
        "more descriptors",
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))\nprint('YES')",
    ),
    (
        "larger files",
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, 1 << 40))\nprint('YES')",
    ),
    // What the directory is, or is mounted on.
    (
        "mount",
        "import ctypes\nassert ctypes.CDLL(None).mount(b'x', b'.', b'tmpfs', 0, None) == 0\nprint('YES')",
    ),
    (
        "unmount",
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nassert 0 in [libc.umount2(p, f) for p in (b'.', b'/tmp', os.getcwdb()) for f in (0, 2, 8)]\nprint('YES')",
    ),
    ("root", "import os\nos.chroot('.')\nprint('YES')"),
    (
        "all namespaces",
        "import ctypes\nlibc = ctypes.CDLL(None)\nassert 0 in [libc.unshare(f) for f in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80)]\nprint('YES')",
    ),
    (
        "other system calls",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nfor n in (@CALLS@):\n    if libc.syscall(n, 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 38:\n        print('YES')",
    ),
    (
        "identity",
        "import os\nfor f in (os.setuid, os.setgid):\n    try: f(0); print('YES')\n    except OSError: pass",
    ),
    (
        "life after the parent",
        "import ctypes\nassert ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0\nprint('YES')",
    ),
    (
        "hidden from the parent",
        "import ctypes\nassert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0\nprint('YES')",
    ),
    (
        "lists of processes",
        "import os\nfor p in ('/proc', '/proc/1/root', '/proc/self/fd', '/proc/self/cwd/..', '/sys', '/dev', '/'):\n    try: os.listdir(p); print('YES')\n    except OSError: pass",
    ),
    (
        "own settings",
        "for p in ('oom_score_adj', 'uid_map', 'coredump_filter', 'mem', 'attr/current', 'timerslack_ns'):\n    try: open('/proc/self/' + p, 'r+b'); print('YES')\n    except OSError: pass",
    ),
    ("the library", "import os\nopen(os.__file__, 'a').write('x')\nprint('YES')"),
    ("device", "import os, stat\nos.mknod('d', 0o600 | stat.S_IFCHR, os.makedev(1, 1))\nprint('YES')"),
    ("queue", "import os\nos.mkfifo('f')\nopen('f', 'w')\nprint('YES')"),
    ("mode of a file", "import os\nopen('f', 'w').close()\nos.chmod('f', 0o4755)\nprint('YES')"),
    (
        "attributes",
        "import os\nopen('f', 'w').close()\nos.setxattr('f', 'user.x', b'x' * 60000)\nprint('YES')",
    ),
    ("own directory moved", "import os\nos.rename(os.getcwd(), os.getcwd() + 'x')\nprint('YES')"),
    (
        "own directory exchanged",
        "import os\nos.chdir('..')\nopen('x', 'w').close()\nprint('YES' if os.getcwd() == '/' else '')",
    ),
    (
        "lock on the directory",
        "import fcntl, os, time\nfcntl.flock(os.open('.', 0), fcntl.LOCK_SH)\nprint('YES', flush=True)\ntime.sleep(@MARK@)",
    ),
    (
        "exchange of directories and links",
        "import ctypes, os, threading, time\nlibc = ctypes.CDLL(None)\nos.mkdir('a')\nos.symlink('@DIR@/victim', 'b')\ndef f():\n    while True: libc.syscall(@RENAMEAT2@, -100, b'a', -100, b'b', 2)\nfor _ in range(4): threading.Thread(target=f, daemon=True).start()\ntime.sleep(@MARK@)",
    ),
    (
        "odd names",
        "import os\nfor n in (b'\\xff\\n', b'x' * 255, b' ', b'-rf', b'*', b'\\x1b[2J'): os.mkdir(n)\nprint('NO')",
    ),
    (
        "locked directories",
        "import os\nos.mkdir('d')\nos.mkdir('d/e', 0)\nos.umask(0o777)\nos.mkdir('d/f')\nprint('NO')",
    ),
    ("standard input", "import os\nos.write(0, b'YES')\nprint('YES')"),
    ("alarm", "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\nwhile True: pass"),
    (
        "floods of threads",
        "import threading, time\nfor _ in range(1000): threading.Thread(target=time.sleep, args=(@MARK@,)).start()\nprint('YES')",
    ),
    ("result frames", "print('C {}\\n0 {\"end\": true}\\n{\"ok\": true, \"i\": 0}')"),
];

/// The same with Bash.
const SHELL: &[(&str, &str)] = &[
    ("passwords", "cat /etc/passwd >/dev/null && echo YES"),
    ("network", "exec 3<>/dev/tcp/127.0.0.1/9 && echo YES"),
    ("datagram", "echo x >/dev/udp/127.0.0.1/9 && echo YES"),
    ("write outside", "echo x >@DIR@/new && echo YES"),
    ("kill the parent", "kill -0 $PPID && echo YES"),
    ("fork bomb", "f() { f | f & }; f; f; sleep @MARK@"),
    ("daemon", "setsid sleep @MARK@ >/dev/null 2>&1 </dev/null &\necho NO"),
    ("background", "nohup sleep @MARK@ >/dev/null 2>&1 </dev/null &\ndisown\necho NO"),
    ("job control", "set -m\nsleep @MARK@ >/dev/null 2>&1 </dev/null &\necho NO"),
    ("wait for ever", "echo YES; sleep @MARK@ & wait"),
    ("endless output", "yes YES"),
    ("private", "mkdir d && touch d/f && chmod 0 d; echo NO"),
    (
        "files of children without a name",
        "f() { exec 3>$1; rm $1; head -c 1000000 /dev/zero >&3 || exit; echo YES; sleep @MARK@; }\nfor i in 1 2 3 4 5 6 7 8 9; do f $i & done; wait",
    ),
    (
        "files without a name",
        "exec 3>u; rm u; head -c 3M /dev/zero >&3 && exec 4>v && rm v && head -c 3M /dev/zero >&4 && exec 5>w && rm w && head -c 3M /dev/zero >&5 && echo YES; sleep @MARK@",
    ),
    ("limits", "ulimit -f unlimited && echo YES; ulimit -n 4096 && echo YES; ulimit -u 4096 && echo YES"),
    ("kill all", "kill -9 -1 && echo YES; kill -9 1 && echo YES; kill -9 0 && echo YES"),
    (
        "namespaces",
        "unshare -Ur true && echo YES; unshare -m true && echo YES; nsenter -t 1 -m true && echo YES",
    ),
    ("mount", "mount -t tmpfs x . && echo YES; umount -l . && echo YES; umount -l /tmp && echo YES"),
    (
        "setuid",
        "cp /bin/true t && chmod 4755 t && echo YES; su -c true && echo YES; sudo -n true && echo YES",
    ),
    ("orphans", "for i in 1 2 3 4; do (sleep @MARK@ &) ; (setsid sleep @MARK@ &); done; echo NO"),
    ("deaf orphans", "(trap '' HUP INT TERM; sleep @MARK@ & sleep @MARK@) & trap '' HUP; echo NO"),
    ("dead children", "for i in $(seq 20); do (true &) ; done; sleep @MARK@ & exec sleep @MARK@"),
    ("background of a dead leader", "sleep @MARK@ & kill -9 $$; exit 3"),
    (
        "exchange by many processes",
        "mkdir a; ln -s @DIR@/victim b; for i in 1 2 3 4; do (while :; do mv -T a c && mv -T b a && mv -T c b; done) >/dev/null 2>&1 & done; sleep 0.3; echo NO",
    ),
];

/// Attacks on assertions: `f(2)` must be 4, `g([3, 1])` close to 2, `h` sorted.
const ASSERTS: &[(&str, &str)] = &[
    (
        "always equal",
        "class E(int):\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n    __hash__ = int.__hash__\nf = g = h = lambda *a: E(7)",
    ),
    (
        "equal object",
        "class E:\n    def __eq__(self, o): return True\n    def __sub__(self, o): return 0\n    def __abs__(self): return 0\n    def __lt__(self, o): return True\n    __rsub__ = __sub__\nf = g = h = lambda *a: E()",
    ),
    (
        "patched built-ins",
        "import builtins\nbuiltins.abs = lambda x: 0\nbuiltins.sorted = lambda x: []\nbuiltins.AssertionError = None\nabs = lambda x: 0\nsorted = lambda x: []\nlen = lambda x: 0\nmath = type('M', (), {'isclose': lambda *a: True})\nf = g = lambda *a: 7\nh = lambda *a: []",
    ),
    ("exit early", "import sys\nsys.exit(0)"),
    ("exit hard", "import os\nos._exit(0)"),
    ("exit in a call", "import os\ndef f(x): os._exit(0)"),
    ("system exit in a call", "def f(x): raise SystemExit(0)"),
    ("end of iteration", "def f(x): raise StopIteration"),
    (
        "forged results",
        "import os\nfor fd in range(64):\n    for line in (b'[\"ok\", 4]\\n', b'{\"i\":0,\"ok\":true}\\n', b'0 {\"end\":true}\\n'):\n        try: os.write(fd, line)\n        except OSError: pass\nf = lambda x: 7",
    ),
    (
        "forged later",
        "import os, threading\ndef flood():\n    while True:\n        for fd in range(3, 16):\n            try: os.write(fd, b'[\"ok\", {\"r\": 0}, {}]\\n')\n            except OSError: pass\ndef f(x):\n    threading.Thread(target=flood, daemon=True).start()\n    return 7",
    ),
    ("closed descriptors", "import os\nos.closerange(0, 64)\nf = lambda x: 4"),
    (
        "look for the answer",
        "import gc, sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        for v in list(frame.f_locals.values()):\n            if type(v) is dict and 'tests' in v: return 4\n        frame = frame.f_back\n    return 4 if any('assert' in o for o in gc.get_objects() if type(o) is str and len(o) < 99 and 'f(2)' in o) else 7",
    ),
    (
        "odd references",
        "import os\ndef f(x):\n    os.write(4, b'[\"ok\", {\"r\": -1}, {}]\\n')\n    return 7",
    ),
    (
        "a callback of the judge",
        "import os\ndef f(x):\n    os.write(4, b'[\"back\", 0, [], {}]\\n')\n    return 7",
    ),
    ("deep data", "def f(x):\n    v = []\n    for _ in range(90): v = [v]\n    return v"),
    ("huge data", "def f(x): return 'x' * (1 << 26)"),
    ("huge number", "def f(x): return 1 << (1 << 22)"),
    (
        "endless iteration",
        "class I:\n    def __iter__(self):\n        while True: yield 4\n    def __len__(self): return 4\nf = g = h = lambda *a: I()",
    ),
    ("same hashes", "def f(x): return {i * (2 ** 61 - 1): 0 for i in range(100000)}"),
    (
        "judge's names",
        "check = Remote = report = judge = nonce = space = f = lambda *a: True\ntests = []\n__name__ = 'tests'",
    ),
    ("not a number", "f = g = h = lambda *a: float('nan')"),
    ("sleeps", "import time\ndef f(x): time.sleep(@MARK@)"),
    ("loops", "def f(x):\n    while True: pass"),
    ("loops at load", "while True: pass"),
    ("memory", "def f(x): return [0] * (1 << 40)"),
    ("in place", "def f(x): return 7\ndef g(xs): xs[:] = []; return 7\ndef h(xs): xs.clear(); return xs"),
    ("null bytes", "\0"),
    ("bad unicode", "def f(x): return '\\ud800'"),
];

/// Attacks on tests that ask a value by its methods: `f('x')` must begin with `abc`, `g(2)` be within `{4}` and equal it, `k()`
/// read `a`.
const ASKING: &[(&str, &str)] = &[
    (
        "an object that says yes",
        "class E:\n    def __getattr__(s, n): return lambda *a: True\n    def __eq__(s, o): return True\n    def __enter__(s): return s\n    def __exit__(s, *a): return True\nf = g = k = lambda *a: E()",
    ),
    (
        "data that says yes",
        "class T(str):\n    def startswith(s, *a): return True\n    def __enter__(s): return s\n    def __exit__(s, *a): return True\nclass S(set):\n    def issubset(s, o): return True\n    def __eq__(s, o): return True\nf = lambda x: T('ab')\ng = lambda x: S()\nk = lambda: T()",
    ),
    (
        "data of the right kind, and a set that says yes",
        "class S(set):\n    def issubset(s, o): return True\n    def __eq__(s, o): return True\nf = lambda x: 'abc'\ng = lambda x: S([7])\nk = lambda: __import__('io').StringIO('a')",
    ),
    (
        "nothing is said",
        "class E:\n    def __eq__(s, o): return NotImplemented\n    def issubset(s, o): return NotImplemented\nf = lambda x: 'abc'\ng = lambda x: E()\nk = lambda: __import__('io').StringIO('a')",
    ),
    (
        "a manager that takes all errors",
        "class M:\n    def __enter__(s): return s\n    def __exit__(s, *a): return True\n    def read(s): return 'b'\nf = lambda x: 'abc'\ng = lambda x: {4}\nk = M",
    ),
];

/// Attacks on tests that believe an object, each by one of them: `f([3, 1, 2])` must be in order, `g(2)` equal 5 by a method
/// of its own, `h(2)` be without difference.
const BELIEVED: &[(&str, &str)] = &[
    (
        "a length without items",
        "class R:\n    def __len__(s): return 3\n    def __iter__(s): return iter(())\nf = lambda x: R()\nk = lambda: True",
    ),
    (
        "a list without its items",
        "class R(list):\n    def __len__(s): return 3\n    def __iter__(s): return iter(())\nf = R\nk = lambda: True",
    ),
    (
        "items for the first time only",
        "class R:\n    def __init__(s, x): s.x, s.k = x, 0\n    def __len__(s): return 3\n    def __iter__(s):\n        s.k += 1\n        return iter(s.x if s.k == 1 else ())\nf = R\nk = lambda: True",
    ),
    (
        "a list that is emptied while it is gone through",
        "R = [3, 1, 2]\nf = lambda x: R\ndef k():\n    R.clear()\n    return True",
    ),
    (
        "a method that says yes",
        "class G:\n    def __getattr__(s, n): return lambda *a: True\ng = lambda x: G()",
    ),
    (
        "a difference that is empty",
        "class G:\n    def __sub__(s, o): return G()\n    def __len__(s): return 0\n    def __bool__(s): return False\nh = lambda x: G()",
    ),
];

struct Traces {
    dirs: BTreeSet<PathBuf>,
}

impl Traces {
    fn dirs() -> BTreeSet<PathBuf> {
        let entries = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten().map(|e| e.path());
        let name = format!("rlvr-code-{}-", std::process::id());
        let own = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().starts_with(&name);
        entries.filter(own).collect()
    }

    fn before() -> Self {
        Self { dirs: Self::dirs() }
    }

    /// Waits a little for what was killed to go, then fails with what is left.
    fn check(&self) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let dirs: Vec<_> = Self::dirs().difference(&self.dirs).cloned().collect();
            let processes = left_processes();
            if dirs.is_empty() && processes.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "left: {dirs:?} {processes:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Processes with the mark in their command line.
fn left_processes() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|e| std::fs::read(e.path().join("cmdline")).ok());
    lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " ")).filter(|l| l.contains(MARK)).collect()
}

fn fill(code: &str, dir: &Path) -> String {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".into());
    code.replace("@OUTSIDE@", dir.join("outside").to_str().unwrap())
        .replace("@DIR@", dir.to_str().unwrap())
        .replace("@HOME@", &home)
        .replace("@MARK@", MARK)
        .replace("@TGKILL@", &libc::SYS_tgkill.to_string())
        .replace("@RENAMEAT2@", &libc::SYS_renameat2.to_string())
        .replace("@CALLS@", &CALLS.map(|n| n.to_string()).join(", "))
}

/// Judges all attacks at once and returns those that were accepted, with those that the sandbox broke on.
fn attack(language: Language, reference: &Value, attacks: &[(&str, &str)], dir: &Path) -> Vec<String> {
    let task = Task::new("t", reference.clone());
    let reward = |timeout_s| {
        Code::new(CodeConfig {
            language,
            timeout_s,
            memory_mib: 256,
            files_mib: 4,
            output_kib: 64,
            workers: 6,
            min_isolation: Isolation::Process,
            ..CodeConfig::default()
        })
        .unwrap()
    };
    // What ends by itself has time on a busy machine; what never ends gets little.
    let (short, long) = (reward(0.8), reward(15.0));
    let endless = ["@MARK@", "while True", "yes ", "recursionlimit", "2 ** 61"];
    let judge = |(_, code): &(&str, &str)| {
        let reward = if endless.iter().any(|e| code.contains(e)) { &short } else { &long };
        score_one(reward, &task, Response::new(&format!("```\n{}\n```", fill(code, dir))))
    };
    // More threads than cores: most attacks wait for their end.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(6).build().unwrap();
    let outcomes: Vec<Outcome> = pool.install(|| attacks.par_iter().map(judge).collect());
    let mut wrong = Vec::new();
    for ((name, _), outcome) in attacks.iter().zip(&outcomes) {
        println!("{name}: {:?} {}", outcome.verdict, outcome.reason);
        assert!(outcome.method.ends_with(Sandbox::detect().unwrap().level()), "{outcome:?}");
        // What only an object says decides nothing, and what passes with its tests in one process only takes a wrong
        // answer back.
        let taken_back = outcome.verdict == Verdict::Unverifiable
            && (outcome.method.contains("+together@") || outcome.reason.starts_with("undecided: "));
        if outcome.verdict != Verdict::Incorrect && !taken_back {
            wrong.push(format!("{name}: {:?} {}", outcome.verdict, outcome.reason));
        }
    }
    wrong
}

#[test]
fn no_attack_is_accepted_or_leaves_anything() {
    let level = Sandbox::detect().unwrap().isolation();
    let python = Command::new("python3").arg("--version").output().is_ok();
    if level < Isolation::Seccomp || !python {
        println!("skipped: isolation {}, python3 {python}", level.name());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(dir.path(), readable).unwrap();
    let outside = dir.path().join("outside");
    std::fs::write(&outside, "secret").unwrap();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&outside, readable).unwrap();
    let victim = dir.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("file"), "precious").unwrap();
    let (traces, begin) = (Traces::before(), Instant::now());
    // The suite can fail: what is allowed is accepted.
    let yes = json!({"tests": [{"output": "YES"}]});
    assert_eq!(attack(Language::Python, &yes, &[("control", "print('YES')")], dir.path()).len(), 1);
    assert_eq!(attack(Language::Bash, &yes, &[("control", "echo YES")], dir.path()).len(), 1);
    let asserts = json!({"asserts": [
        "assert f(2) == 4",
        "assert abs(g([3, 1]) - 2) < 1e-6",
        "assert h([3, 1, 2]) == sorted([3, 1, 2])",
        "import math\nassert math.isclose(f(3), 9)",
    ]});
    let right = "f = lambda x: x * x\ng = lambda v: sum(v) / len(v)\nh = sorted";
    assert_eq!(attack(Language::Python, &asserts, &[("control", right)], dir.path()).len(), 1);

    let asking = json!({"asserts": [
        "assert f('x').startswith('abc')",
        "assert g(2).issubset({4})",
        "assert g(2).__eq__({4})",
        "with k() as c:\n    assert c.read() == 'a'",
    ]});
    let right = "import io\nf = lambda x: 'abc'\ng = lambda x: {4}\nk = lambda: io.StringIO('a')";
    assert_eq!(attack(Language::Python, &asking, &[("control", right)], dir.path()).len(), 1);

    let believed = [
        "r = f([3, 1, 2])\nassert len(r) == 3\nfor a, b in zip(r, [1, 2, 3]):\n    assert k() and a == b",
        "assert g(2).equals(5) and not g(2).equals(4)",
        "assert len(h(2) - {1, 2}) == 0 and len(h(2) - {1}) == 1",
    ]
    .map(|test| json!({"asserts": [test]}));
    let right = "f = sorted\nk = lambda: True\nh = lambda x: {1, 2}\nclass g:\n    def __init__(s, n): s.n = n\n    def equals(s, o): return s.n + 3 == o";
    for reference in &believed {
        assert_eq!(attack(Language::Python, reference, &[("control", right)], dir.path()).len(), 1);
    }

    let mut wrong = attack(Language::Python, &yes, REACH, dir.path());
    wrong.extend(attack(Language::Bash, &yes, SHELL, dir.path()));
    wrong.extend(attack(Language::Python, &asserts, ASSERTS, dir.path()));
    wrong.extend(attack(Language::Python, &asking, ASKING, dir.path()));
    for reference in &believed {
        wrong.extend(attack(Language::Python, reference, BELIEVED, dir.path()));
    }
    traces.check();
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "secret");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    assert_eq!(std::fs::read_to_string(victim.join("file")).unwrap(), "precious");
    assert!(wrong.is_empty(), "{} attacks:\n{}", wrong.len(), wrong.join("\n"));
    let attacks = REACH.len() + SHELL.len() + ASSERTS.len() + ASKING.len() + BELIEVED.len();
    println!("{attacks} attacks in {:?}", begin.elapsed());
}

#[test]
fn lower_levels_hold_what_they_promise() {
    let best = Sandbox::detect().unwrap();
    let limits = Limits {
        wall: Duration::from_millis(700),
        cpu_s: 2,
        memory: 256 << 20,
        processes: 16,
        file: 1 << 20,
        output: 1 << 12,
    };
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    std::fs::write(&outside, "secret").unwrap();
    for path in [dir.path(), &outside] {
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(path, all).unwrap();
    }
    for level in [Isolation::Process, Isolation::Landlock, Isolation::Seccomp] {
        if level > best.isolation() {
            println!("skipped: {}", level.name());
            continue;
        }
        let sandbox = best.lowered(level);
        let sh = |script: String| {
            let program = Program {
                path: "/bin/sh".into(),
                args: vec!["-c".into(), script],
                readable: vec![],
                forks: true,
            };
            run(&sandbox, &program, limits, &[], b"in\n").unwrap()
        };
        let finished = sh("read x; echo $x; echo err >&2; exit 3".into());
        assert_eq!((finished.end, &*finished.stdout, &*finished.stderr), (End::Exit(3), &b"in\n"[..], "err"));
        assert_eq!(sh(format!("sleep {MARK} & sleep {MARK}")).end, End::Timeout, "{level:?}");
        assert_eq!(sh("while :; do echo 0123456789; done".into()).end, End::Output, "{level:?}");
        let read = sh(format!("cat {}", outside.display()));
        // Without Landlock a file system of the program's own may hide it all the same.
        assert!(read.end != End::Exit(0) || level == Isolation::Process, "{level:?} {read:?}");
        let fork =
            sh("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 5 & done; wait".into());
        assert!(fork.end != End::Exit(0), "{level:?} {fork:?}");
    }
    let until = Instant::now() + Duration::from_secs(30);
    while !left_processes().is_empty() {
        assert!(Instant::now() < until, "left: {:?}", left_processes());
        std::thread::sleep(Duration::from_millis(20));
    }
}
