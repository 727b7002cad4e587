#!/usr/bin/python3
"""bench.py HV: times the same programs on the host, in each of our engines and in QEMU's TCG, and prints a table.

HV is domus-hv. The subjects run in turn, round after round, for a machine's speed drifts by tens of per cent
within minutes; figures are medians over the rounds, without those samples that other processes disturbed.
Settings, from the environment:
  BENCH_RUNS     rounds (5)
  BENCH_VCPUS    numbers of vCPUs, each a table of its own ("1 2")
  BENCH_ENGINES  of: native, the names that `domus-hv run --engine help` prints, tcg (all)
  BENCH_ONLY     workloads, as guestbench's --only: "int_*,str_rep" (all)
  BENCH_RAW      a file to which each sample is appended as a line of JSON (none)

All figures of workloads are nanoseconds per operation. A slow engine does a fraction of the work; its checksums are
compared with those of the host for that fraction. A checksum that differs is printed as WRONG, and the exit status
is 1 then.
"""
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys

from console_run import ConsoleRun

HERE = os.path.dirname(os.path.abspath(__file__))
MEMORY_MIB = 512
IDLE_SECONDS = 3
# How much of the work an engine does, where all of it takes longer than one wants to wait.
SCALE = {"interp": 0.01}
QUIET = 0.25  # CPUs that others may use during a sample
CLASSES = [
    ("integer, memory, calls, shell", r"int_|mem_|call_|ind_|code_cold|sh_loop"),
    ("floating point, vector, crypto, strings", r"fp_|simd_|aes_|pclmul|sha_|str_"),
    ("the kernel's work", r"sys_|proc_|ctxsw_|tlb_"),
    ("code that changes", r"jit_"),
    ("atomics and threads", r"atom_|mutex_|par_"),
    ("disk", r"disk_"),
]
# The fastest flags of QEMU 7.2 that were found. TCG runs REP MOVSB by bytes, so a guest that is told of ERMS
# suffers; less state in XSAVE makes signals faster; without an invariant TSC to see, a guest with two vCPUs
# would read the HPET.
TCG = ("qemu-system-x86_64 -accel tcg,thread=multi -cpu max,erms=off,mpx=off,pku=off -M q35 -display none -nodefaults "
       "-serial stdio -monitor none -no-reboot").split()


class Subject:
    """Something that runs guestbench; how is argv()."""

    def __init__(self, engine, vcpus, files, hv):
        self.engine, self.vcpus, self.files, self.hv = engine, vcpus, files, hv
        self.scale = SCALE.get(engine, 1)
        self.samples, self.skipped, self.marks, self.errors = {}, {}, {}, []

    def argv(self, *words):
        """The command that boots with more words on the kernel's command line, or for the host runs guestbench."""
        if self.engine == "native":
            return [f"{self.files}/guestbench", "--busybox", f"{self.files}/busybox"]
        kernel, ramdisk = f"{self.files}/vmlinux", f"{self.files}/initrd.cpio"
        line = " ".join(["rdinit=/gbinit", "panic=-1", *words])
        if self.engine == "tcg":
            line += " console=ttyS0" + (" tsc=reliable" if self.vcpus > 1 else "")
            return TCG + ["-m", str(MEMORY_MIB), "-smp", str(self.vcpus), "-kernel", kernel, "-initrd", ramdisk,
                          "-append", line]
        return [self.hv, "run", "--engine", self.engine, "--memory", str(MEMORY_MIB), "--vcpus", str(self.vcpus),
                "--kernel", kernel, "--ramdisk", ramdisk, "--cmdline", line + " console=hvc0"]

    def bench_argv(self, only):
        options = (["--only", only] if only else []) + (["--scale", str(self.scale)] if self.scale != 1 else [])
        if self.engine == "native":
            return self.argv() + options
        return self.argv("gb.mode=bench", "gb.args=" + "+".join(options))

    def collect(self, run):
        for name, sample in run.samples.items():
            self.samples.setdefault(name, []).append(sample)
        for name, value in run.marks.items():
            self.marks.setdefault(name, []).append(value)
        self.skipped.update(run.skipped)
        self.errors += run.errors
        raw = os.environ.get("BENCH_RAW")
        if raw:
            with open(raw, "a") as f:
                f.write(json.dumps({"engine": self.engine, "vcpus": self.vcpus, "samples": run.samples,
                                    "marks": run.marks, "errors": run.errors}) + "\n")

    def round(self, only):
        if self.engine != "native":
            self.collect(ConsoleRun(self.argv("gb.mode=idle"), MEMORY_MIB, IDLE_SECONDS, 300).run())
        self.collect(ConsoleRun(self.bench_argv(only), MEMORY_MIB).run())

    def median(self, name):
        """The median of a workload's quiet samples, of all if there are fewer than three; None if there is none."""
        samples = self.samples.get(name, [])
        quiet = [s[0] for s in samples if s[2] <= QUIET]
        values = quiet if len(quiet) >= min(3, len(samples)) else [s[0] for s in samples]
        return statistics.median(values) if values else None

    def sums(self, name):
        return {s[1] for s in self.samples.get(name, [])}


class Report:
    """One table: the host, and the engines with one number of vCPUs."""

    def __init__(self, native, subjects, expected):
        self.native, self.subjects, self.expected = native, subjects, expected
        self.tcg = next((s for s in subjects if s.engine == "tcg"), None)
        self.wrong = 0

    def is_wrong(self, subject, name):
        expected = self.expected.get(subject.scale, {}).get(name)
        return expected is not None and bool(subject.sums(name)) and subject.sums(name) != {expected}

    def cells(self, subject, name):
        """Its figure, its ratio to the host's, and for our engines how many times faster than TCG it is."""
        value, base = subject.median(name), self.native.median(name)
        ours = self.tcg is not None and subject is not self.tcg
        if value is None:
            return [subject.skipped.get(name, "-"), None] + [None] * ours
        if self.is_wrong(subject, name):
            self.wrong += 1
            return ["WRONG", None] + [None] * ours
        peer = self.tcg.median(name) if ours else None
        return [value, value / base if base else None] + ([peer / value if peer else None] if ours else [])

    def columns(self):
        """(heading, whether it is a ratio) of all but the first column."""
        columns = [("native", False)]
        for s in self.subjects:
            columns += [(s.engine, False), ("/native", True)]
            if self.tcg and s is not self.tcg:
                columns.append(("TCG/it", True))
        return columns

    def print_class(self, title, names):
        rows = [[self.native.median(n), *(c for s in self.subjects for c in self.cells(s, n))] for n in names]
        for name, row in zip(names, rows):
            print(f"| {name} | " + " | ".join(map(number, row)) + " |")
        means = [mean([row[i] for row in rows]) if ratio else "" for i, (_, ratio) in enumerate(self.columns())]
        print(f"| **{title}**, geometric mean | " + " | ".join(map(number, means)) + " |")

    def print(self):
        heads = ["workload", *(head for head, _ in self.columns())]
        print("| " + " | ".join(heads) + " |\n|---|" + "---:|" * (len(heads) - 1))
        names = list(dict.fromkeys(n for s in [self.native, *self.subjects] for n in s.samples))
        for title, pattern in CLASSES:
            members = [n for n in names if re.match(pattern, n)]
            if members:
                self.print_class(title, members)
        self.print_marks()

    def print_marks(self):
        for mark in dict.fromkeys(m for s in self.subjects for m in s.marks):
            row = [""]
            for s in self.subjects:
                value = statistics.median(s.marks[mark]) if mark in s.marks else None
                peer = self.tcg and self.tcg.marks.get(mark)
                row += [value, ""]
                if self.tcg and s is not self.tcg:
                    row.append(statistics.median(peer) / value if peer and value else None)
            print(f"| {mark} | " + " | ".join(map(number, row)) + " |")


def number(value):
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def mean(values):
    logs = [math.log(v) for v in values if isinstance(v, float) and v > 0]
    return math.exp(sum(logs) / len(logs)) if logs else None


def expected_sums(native, scales, only):
    """{scale: {workload: checksum}} of the host."""
    expected = {}
    for scale in scales:
        argv = native.argv() + ["--scale", str(scale)] + (["--only", only] if only else [])
        run = ConsoleRun(argv).run()
        expected[scale] = {name: sample[1] for name, sample in run.samples.items()}
    return expected


def engines(hv):
    ours = subprocess.run([hv, "run", "--engine", "help"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    known = ["native", *ours, "tcg"]
    wanted = os.environ.get("BENCH_ENGINES", "").split() or known
    for name in wanted:
        if name not in known:
            sys.exit(f"bench.py: there is no engine {name!r}; there are: {' '.join(known)}")
    if "tcg" in wanted and not shutil.which(TCG[0]):
        print(f"bench.py: no {TCG[0]} here (examples/packages.sh bench): going without", file=sys.stderr)
        wanted.remove("tcg")
    return [name for name in wanted if name != "native"]


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    hv, only = os.path.abspath(sys.argv[1]), os.environ.get("BENCH_ONLY", "")
    files = subprocess.run([os.path.join(HERE, "guest.sh")], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    native = Subject("native", os.cpu_count(), files, hv)
    subjects = [Subject(engine, int(vcpus), files, hv)
                for vcpus in os.environ.get("BENCH_VCPUS", "1 2").split() for engine in engines(hv)]
    runs = int(os.environ.get("BENCH_RUNS", "5"))
    for k in range(runs):
        for subject in [native, *subjects]:
            print(f"round {k + 1} of {runs}: {subject.engine}, {subject.vcpus} CPU(s)", file=sys.stderr)
            subject.round(only)
    expected = expected_sums(native, {s.scale for s in subjects}, only)
    bad = 0
    for vcpus in dict.fromkeys(s.vcpus for s in subjects):
        print(f"\n{vcpus} vCPU(s), {MEMORY_MIB} MiB, medians of {runs}; ns per operation but where stated\n")
        report = Report(native, [s for s in subjects if s.vcpus == vcpus], expected)
        report.print()
        bad += report.wrong
    for subject in [native, *subjects]:
        for text in subject.errors:
            print(f"{subject.engine}, {subject.vcpus} CPU(s): {text}", file=sys.stderr)
            bad += 1
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
