#!/usr/bin/python3
"""Boots guests over and over: a boot that hangs, crashes or makes the kernel complain is a failure.

Every engine, both of Debian's kernels and several numbers of vCPUs in turn, so that an early end has tried
everything. The console of a failed boot is kept in the current folder. Exit status 1 after any failure.
Settings, from the environment:
  SOAK_BOOTS    rounds (50)
  SOAK_ENGINES  engines (all that `domus-hv run --engine help` names)
  SOAK_KERNELS  kernels ("generic cloud")
  SOAK_VCPUS    numbers of vCPUs ("1 2 4")
  SOAK_SECONDS  after how long a boot counts as hung (120)
"""
import itertools
import os
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from host import guest_files, program

COMPLAINT = r"bug:|oops|warning:|call trace|lockup|stalls? on|hung task|kernel panic|unchecked"


def setting(name, default):
    return os.environ.get(f"SOAK_{name}", default)


def all_engines():
    return subprocess.run([program("domus-hv"), "run", "--engine", "help"], check=True, stdout=subprocess.PIPE,
                          text=True).stdout


class Kind:
    """One combination, and how its boots went."""

    def __init__(self, engine, kernel, vcpus):
        self.engine, self.kernel, self.vcpus = engine, kernel, vcpus
        self.name = f"{engine}-{kernel}-{vcpus}"
        self.seconds, self.failures = [], 0

    def argv(self):
        files = guest_files(self.kernel)
        return [program("domus-hv"), "run", "--engine", self.engine, "--kernel", f"{files}/vmlinuz", "--ramdisk",
                f"{files}/initrd.gz", "--memory", "256", "--vcpus", self.vcpus, "--cmdline",
                "console=hvc0 guest.poweroff"]

    def boot(self):
        """What went wrong with one boot, or None; and its console."""
        start = time.monotonic()
        with subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT) as process:
            try:
                out, _ = process.communicate(timeout=float(setting("SECONDS", "120")))
                problem = None
            except subprocess.TimeoutExpired:
                process.terminate()
                try:
                    out, _ = process.communicate(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    out, _ = process.communicate()
                problem = "hangs"
        text = out.decode(errors="replace")
        self.seconds.append(time.monotonic() - start)
        return problem or self.judge(process.returncode, text), text

    def judge(self, status, text):
        up = re.search(r"guest: up after [\d.]+ s, (\d+) vCPU", text)
        complaint = re.search(f".*({COMPLAINT}).*", text, re.I)
        if complaint:
            return f"complains: {complaint.group(0).strip()}"
        if status != 0:
            return f"ends with status {status}"
        if not up:
            return "never reaches init"
        if up.group(1) != self.vcpus:
            return f"has {up.group(1)} vCPU(s) online"
        return None

    def round(self, number):
        problem, text = self.boot()
        if problem:
            self.failures += 1
            log = f"boot-soak-{self.name}-{number}.log"
            with open(log, "w") as f:
                f.write(text)
            print(f"\nround {number}: {self.name} {problem}; console in {log}", flush=True)
        return problem is None


def main():
    kinds = [Kind(*combination) for combination in itertools.product(
        setting("ENGINES", all_engines()).split(), setting("KERNELS", "generic cloud").split(),
        setting("VCPUS", "1 2 4").split())]
    rounds = int(setting("BOOTS", "50"))
    for number in range(1, rounds + 1):
        good = sum(kind.round(number) for kind in kinds)
        print(f"round {number} of {rounds}: {good} of {len(kinds)} boots are good", flush=True)
    for kind in kinds:
        print(f"{kind.name}: {kind.failures} of {rounds} failed; {min(kind.seconds):.1f} to {max(kind.seconds):.1f} s, "
              f"median {statistics.median(kind.seconds):.1f} s")
    sys.exit(any(kind.failures for kind in kinds))


main()
