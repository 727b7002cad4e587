#!/usr/bin/python3
"""A guest checks its processor: the programs of tests/guest, on the host and in a guest of each engine.

The host shows that the checks are right; the engines have to give the same answers. Names as arguments choose
groups: `selfcheck.t signals trace`.
"""
import os
import re
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "lib"))
import tap
from host import program

GROUPS = sys.argv[1:]
TIMEOUT = 1800
# How far a guest's clock may be off the host's over the stretch of two seconds that it tells of; a line may also
# reach us late.
STRETCH_TOLERANCE = 0.3
# What a host that is itself a virtual machine may not do right: debug registers, and where a program goes on after INT1.
HOST_MAY_LACK = (r"trace: (a watched|a breakpoint register|after it was done|before the instruction|and DR6 tells|"
                 r"with its value|a second breakpoint)|patch: .*watched|signals: icebp: RIP")


class Stretch:
    """Two lines of the guest with its time, and when they came."""

    def __init__(self):
        self.guest, self.host, self.wall_error = [], [], None

    def line(self, text):
        match = re.match(r"# stretch (?:begins|ends): (\d+) ns(?:, (\d+) s of the epoch)?", text)
        if match:
            self.guest.append(int(match.group(1)) / 1e9)
            self.host.append(time.monotonic())
            if match.group(2):
                self.wall_error = abs(time.time() - int(match.group(2)))

    def check(self, where):
        if len(self.guest) != 2:
            tap.ok(False, f"{where}: the guest tells its time")
            return
        guest, host = self.guest[1] - self.guest[0], self.host[1] - self.host[0]
        tap.ok(abs(guest - host) < STRETCH_TOLERANCE, f"{where}: its clock goes as fast as the host's",
               f"guest {guest:.3f} s, host {host:.3f} s")
        tap.ok(self.wall_error < 3, f"{where}: and shows the same time", f"off by {self.wall_error:.1f} s")


def run(where, argv):
    """Passes the points of one run on, under names that tell where they come from. Its exit status, which does not count
    where the host lacks something."""
    stretch, plan, complaints, tail = Stretch(), None, [], []
    with subprocess.Popen(["timeout", str(TIMEOUT), *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          text=True, errors="replace") as process:
        points = lacking = 0
        for line in process.stdout:
            line = line.strip()
            tail = tail[-20:] + [line]
            stretch.line(line)
            point = re.match(r"(ok|not ok) \d+ - (.*)", line)
            if point:
                points += 1
                if where == "host" and point.group(1) != "ok" and re.match(HOST_MAY_LACK, point.group(2)):
                    tap.skip(f"{where}: {point.group(2)}: this host does not do it itself")
                    lacking += 1
                else:
                    tap.ok(point.group(1) == "ok", f"{where}: {point.group(2)}")
            elif line.startswith("# "):
                tap.note(f"{where}: {line[2:]}")
            elif line.startswith("1.."):
                plan = int(line[3:])
            elif line.startswith("complaint: ") or "Kernel panic" in line:
                complaints.append(line)
    tap.ok(plan == points and points, f"{where}: all of it ran", f"plan {plan}, points {points}\n" + "\n".join(tail))
    tap.equal(complaints, [], f"{where}: the kernel has no complaint")
    if not GROUPS or "time" in GROUPS:
        stretch.check(where)
    return 0 if lacking else process.returncode


engines = subprocess.run([program("domus-hv"), "run", "--engine", "help"], check=True, stdout=subprocess.PIPE,
                         text=True).stdout.split()
tap.ok(engines, "domus-hv lists its engines")
with tempfile.TemporaryDirectory(prefix="domus-selfcheck-") as folder:
    subprocess.run([os.path.join(HERE, "guest", "guest.sh"), folder], check=True)
    tap.equal(run("host", [f"{folder}/selfcheck", *GROUPS]), 0, "host: all is well")
    for engine in engines:
        for vcpus in (1, 2):
            status = run(f"{engine}, {vcpus} vCPU{'s' * (vcpus > 1)}",
                         [program("domus-hv"), "run", "--engine", engine, "--kernel", f"{folder}/vmlinuz",
                          "--ramdisk", f"{folder}/initrd", "--memory", "256", "--vcpus", str(vcpus), "--cmdline",
                          "console=hvc0 rdinit=/selfcheck-init check=" + ",".join(GROUPS)])
            tap.equal(status, 0, f"{engine}, {vcpus} vCPU(s): powers off")
tap.done()
