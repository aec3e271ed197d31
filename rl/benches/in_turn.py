"""Times two commands that print a line after each unit of work, in turn: one runs for a slice while the other is stopped.

usage: python rl/benches/in_turn.py SLICE_S SKIP 'COMMAND A' 'COMMAND B'

On a host whose speed changes within seconds both meet the same speeds. A unit is charged the time in which its process
was allowed to run; the first SKIP units of each are left out. Ends when one of them has ended.
"""
import os, shlex, signal, statistics, subprocess, sys, threading, time

slice_s, skip = float(sys.argv[1]), int(sys.argv[2])
commands = sys.argv[3:5]


class Side:
    def __init__(self, command):
        self.process = subprocess.Popen(
            shlex.split(command), stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.active, self.since, self.units, self.lock = 0.0, time.monotonic(), [], threading.Lock()
        self.last = 0.0
        self.stop()
        threading.Thread(target=self.read, daemon=True).start()

    def used(self):
        return self.active + (time.monotonic() - self.since if self.since is not None else 0.0)

    def read(self):
        for _ in self.process.stdout:
            with self.lock:
                now = self.used()
                self.units.append((now - self.last, self.cpu()))
                self.last = now

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            fields = f.read().rsplit(") ")[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        os.killpg(self.process.pid, signal.SIGSTOP)
        with self.lock:
            self.active, self.since = self.used(), None

    def go(self):
        with self.lock:
            self.since = time.monotonic()
        os.killpg(self.process.pid, signal.SIGCONT)


sides = [Side(c) for c in commands]
while all(s.process.poll() is None for s in sides):
    for side in sides:
        side.go()
        try:
            side.process.wait(slice_s)
        except subprocess.TimeoutExpired:
            side.stop()
medians = []
for side, command in zip(sides, commands):
    if side.process.poll() is None:
        os.killpg(side.process.pid, signal.SIGKILL)
    walls = [w for w, _ in side.units[skip:]]
    cpus = [b - a for (_, a), (_, b) in zip(side.units[skip - 1 :], side.units[skip:])]
    medians.append(statistics.median(walls))
    print(
        f"{len(walls)} units, median {medians[-1]:.2f} s, mean {statistics.mean(walls):.2f}, fastest {min(walls):.2f}, "
        f"slowest {max(walls):.2f}, processor {statistics.median(cpus):.2f} s: {command}"
    )
print(f"B takes {medians[1] / medians[0]:.2f} times as long as A")
