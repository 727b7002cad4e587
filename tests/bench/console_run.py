"""Runs a command whose standard output is a guest's console, or guestbench itself, and times it by the host's clock."""
import os
import re
import select
import signal
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
# Workloads whose printed time is all of the time between BEGIN and BENCH: they tell how true the guest's clock runs.
WHOLE = {"int_sieve", "int_collatz", "int_muldiv", "call_fib", "sys_getppid", "sh_loop"}


def _host_busy():
    """Seconds that all CPUs were busy or taken by a hypervisor below, since the host's boot."""
    with open("/proc/stat") as f:
        value = [int(x) for x in f.readline().split()[1:]]
    return (value[0] + value[1] + value[2] + value[5] + value[6] + value[7]) / TICK


def _process_cpu(pid):
    """Seconds of CPU of a process and of its children that ended."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return sum(int(x) for x in f.read().rsplit(")", 1)[1].split()[11:15]) / TICK
    except OSError:
        return 0.0


def _mappings(pid):
    """(size in bytes, resident KiB, flags) of each mapping of a process."""
    with open(f"/proc/{pid}/smaps") as f:
        for line in f:
            head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
            if head:
                size = int(head.group(2), 16) - int(head.group(1), 16)
            elif line.startswith("Rss:"):
                resident = int(line.split()[1])
            elif line.startswith("VmFlags:"):
                yield size, resident, line.split()[1:]


def _rss_beyond(pid, memory_mib):
    """KiB resident besides the guest's RAM; None if that cannot be told apart."""
    bytes_wanted = memory_mib << 20
    try:
        mappings = list(_mappings(pid))
    except OSError:
        return None
    # QEMU's RAM is one mapping. Ours may be several, and is where huge pages are asked for.
    ram = [m for m in mappings if m[0] == bytes_wanted] or [m for m in mappings if "hg" in m[2]]
    if not 0.95 * bytes_wanted <= sum(m[0] for m in ram) <= 1.05 * bytes_wanted:
        return None
    return sum(m[1] for m in mappings) - sum(m[1] for m in ram)


class ConsoleRun:
    """One run. After run(): samples {workload: (ns per operation, checksum, CPUs taken by others)}, skipped
    {workload: reason}, marks {what: value}, errors [text]."""

    def __init__(self, argv, memory_mib=0, idle_seconds=None, timeout=900):
        self.argv, self.memory_mib, self.idle_seconds, self.timeout = argv, memory_mib, idle_seconds, timeout
        self.samples, self.skipped, self.marks, self.errors = {}, {}, {}, []
        self.tail = []
        self._begin = None
        self._clock = [0.0, 0.0]

    def _snap(self):
        return time.monotonic(), _host_busy() - _process_cpu(self.pid) - _process_cpu(os.getpid())

    def _bench(self, text):
        words = text.split()
        values = dict(w.split("=", 1) for w in words[4:] if "=" in w)
        now, others = self._snap()
        taken = 0.0
        if self._begin:
            passed = max(now - self._begin[0], 1e-6)
            # Others are counted in ticks; two of them say nothing about a short interval.
            taken = max(0.0, others - self._begin[1] - 2 / TICK) / passed
            if words[1] in WHOLE and 0.2 < passed < 1.5 * float(words[2]):
                self._clock[0] += float(words[2])
                self._clock[1] += passed
        self.samples[words[1]] = (float(values["ns_op"]), values.get("sum"), taken)
        self._begin = None

    def _line(self, text):
        """True at the last line that matters."""
        self.tail = self.tail[-19:] + [text]
        if text.startswith("GB: init"):
            self.marks["boot to init, s"] = time.monotonic() - self.start
            self.marks["CPU until init, s"] = _process_cpu(self.pid)
        elif text.startswith("BEGIN "):
            self._begin = self._snap()
        elif text.startswith("BENCH "):
            self._bench(text)
        elif text.startswith("SKIP "):
            self.skipped[text.split()[1]] = text.split(None, 2)[2]
        elif text.startswith("ERROR ") or "Kernel panic" in text:
            self.errors.append(text)
        return text.startswith("GBDONE") or text.startswith("GB: idle")

    def _read(self, fd):
        """Lines until the last that matters, the end or the time-out. True for the first of these."""
        part, end = b"", self.start + self.timeout
        while time.monotonic() < end:
            if not select.select([fd], [], [], 1.0)[0]:
                continue
            data = os.read(fd, 65536)
            if not data:
                self.errors.append("ended early: " + " | ".join(self.tail[-5:]))
                return False
            *lines, part = (part + data).split(b"\n")
            if any([self._line(line.decode(errors="replace").strip()) for line in lines]):
                return True
        self.errors.append(f"not done after {self.timeout} s")
        return False

    def _watch_idle(self):
        before = _process_cpu(self.pid)
        time.sleep(self.idle_seconds)
        self.marks[f"CPU in {self.idle_seconds} s idle, s"] = _process_cpu(self.pid) - before
        beyond = _rss_beyond(self.pid, self.memory_mib)
        if beyond is not None:
            self.marks["memory beyond RAM, MiB"] = beyond / 1024

    def _stop(self, process, done):
        try:
            process.wait(3 if done and self.idle_seconds is None else 0)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def run(self):
        self.start = time.monotonic()
        process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        self.pid = process.pid
        done = False
        try:
            done = self._read(process.stdout.fileno())
            if done and self.idle_seconds is not None:
                self._watch_idle()
        finally:
            self._stop(process, done)
        if self._clock[1]:
            self.marks["guest seconds per second"] = self._clock[0] / self._clock[1]
        return self
