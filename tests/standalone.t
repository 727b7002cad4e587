#!/usr/bin/python3
"""domus-hv run: a guest with no daemon, on both of Debian's kernels and with several vCPUs."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Console, guest_files, program

COMPLAINT = r"fail|warn|bug:|oops|unchecked|unexpected|call trace"

with open("/proc/cpuinfo", encoding="ascii") as f:
    ON_AMD = re.search("AuthenticAMD|HygonGenuine", f.read())  # hv/machine/cpuid.c tells about that line


def boot(flavour, vcpus, *options):
    files = guest_files(flavour)
    return Console([program("domus-hv"), "run", "--kernel", f"{files}/vmlinuz", "--ramdisk", f"{files}/initrd.gz",
                    "--cmdline", "console=hvc0 guest.poweroff", "--memory", "256", "--vcpus", str(vcpus), *options])


for flavour, vcpus in [("generic", 1), ("generic", 2), ("cloud", 1), ("cloud", 4)]:
    with boot(flavour, vcpus, "--stats") as console:
        up = console.expect(r"guest: up after ([\d.]+) s, (\d+) vCPU")
        tap.ok(up, f"{flavour}, {vcpus} vCPUs: boots", console.text[-3000:])
        tap.equal(console.wait(120), 0, f"{flavour}, {vcpus} vCPUs: powers off with status 0")
        if up:
            tap.equal(up.group(2), str(vcpus), f"{flavour}, {vcpus} vCPUs: all are online")
            tap.note(f"boot to init {up.group(1)} s")
        complaints = [line for line in console.text.splitlines()
                      if re.search(COMPLAINT, line, re.I) and not (ON_AMD and "Fast TSC calibration" in line)]
        tap.equal(complaints, [], f"{flavour}, {vcpus} vCPUs: no complaint in the kernel's log")
        for rate in ("tlb_hit_percent", "return_hit_percent"):
            figures = re.findall(rf"^{rate} ([\d.]+)\s*$", console.text, re.M)
            tap.ok(len(figures) == vcpus and all(80 < float(f) < 100 for f in figures),
                   f"{flavour}, {vcpus} vCPUs: --stats tells {rate}", figures)
        for line in console.text.splitlines():
            if re.search(r"mips|instructions", line, re.I):
                tap.note(line)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f)


# What parses the guest's bytes may do little, and keeps none of the guest's memory.
with boot("generic", 1) as console:
    console.expect(r"Linux version")
    processes = {"the hypervisor": console.pid}
    for child in children(console.pid):
        processes["its store"] = child
    tap.equal(len(processes), 2, "a hypervisor and a store run")
    for name, pid in processes.items():
        about = status(pid)
        tap.equal((about["Seccomp"], about["NoNewPrivs"], about["CapEff"]), ("2", "1", "0" * 16), f"{name} is confined")
    tap.ok(int(status(processes["its store"])["VmRSS"].split()[0]) < 20000, "the store is small")
tap.done()
