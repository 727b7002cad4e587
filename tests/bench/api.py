#!/usr/bin/python3
"""api.py: libvirt's calls answered by domusd and by libvirt's own daemon with its QEMU driver, side by side, in a table.

Both keep their definitions on disk. They run in turn, round after round; figures are medians of the rounds. As root, in
namespaces of its own. Settings, from the environment:
  API_ROUNDS   rounds (5)
  API_DOMAINS  domains (1000)
"""
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
from host import Host
from libvirt_daemon import LibvirtDaemon, enter_namespaces

ROUNDS, DOMAINS = int(os.environ.get("API_ROUNDS", "5")), os.environ.get("API_DOMAINS", "1000")
QEMU = 'user = "root"\ngroup = "root"\n'


def add_qemu_user(folder):
    """libvirt's driver does not start without one; seen in these namespaces only."""
    for name, line in (("passwd", "libvirt-qemu:x:64055:64055::/nonexistent:/bin/false\n"), ("group", "libvirt-qemu:x:64055:\n")):
        with open(f"/etc/{name}") as there, open(f"{folder}/{name}", "w") as ours:
            ours.write(there.read() + line)
        subprocess.run(["mount", "--bind", f"{folder}/{name}", f"/etc/{name}"], check=True)


def build(folder):
    program = f"{folder}/api"
    subprocess.run(f"gcc -O2 -Wall -Wextra -o {program} {HERE}/api.c -lvirt -pthread", shell=True, check=True)
    return program


def resident_kib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return int(re.search(r"Pss: +(\d+)", f.read()).group(1))


def run_once(program, uri, kind, pid, rows):
    run = subprocess.Popen([program, uri, kind, DOMAINS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for line in run.stdout:
        if line == "READY\n":
            rows.setdefault("memory of the daemon, all defined", ("KiB", []))[1].append(resident_kib(pid))
            run.stdin.write("\n")
            run.stdin.flush()
            continue
        name, value, unit = line.rstrip("\n").split("\t")
        rows.setdefault(name, (unit, []))[1].append(float(value))
    if run.wait():
        sys.exit(f"{uri}: the calls failed")


def main():
    enter_namespaces(__file__)
    ours, theirs = {}, {}
    folder = tempfile.mkdtemp(prefix="domus-bench-")
    add_qemu_user(folder)
    program = build(folder)
    with LibvirtDaemon("qemu", "qemu", on_disk=True, settings=[("qemu.conf", QEMU)]) as libvirt, Host(options=()) as host:
        for number in range(ROUNDS):
            run_once(program, host.uri, "xen", host.daemon.pid, ours)
            run_once(program, libvirt.uri, "qemu", libvirt.processes[0].pid, theirs)
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
    shutil.rmtree(folder)
    print(f"{'':36}{'':>8}{'domusd':>12}{'libvirtd':>12}{'ratio':>8}")
    for name, (unit, values) in ours.items():
        mine, other = statistics.median(values), statistics.median(theirs[name][1])
        ratio = mine / other if unit == "calls/s" else other / mine
        print(f"{name:36}{unit:>8}{mine:12.1f}{other:12.1f}{ratio:8.2f}{'' if ratio >= 1 else '  BEHIND'}")


main()
