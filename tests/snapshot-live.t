#!/usr/bin/python3
"""Live snapshots: the guest runs on while its memory is written, and what is written is of one moment with its disks.

Stock virsh, and a guest that changes memory and disk all the time; going back compares both.
"""
import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from disks import define, disk, good, make, refused
from host import Host, wait_for

# A file in memory is copied over another and compared, and the number of the round goes to the disk, which has to have
# the one of the round before until then: memory and disk of two moments would tell here.
ON_DISK = "dd if=/dev/xvda bs=512 count=1 iflag=direct 2>/dev/null | tr -d '\\0'"
TO_DISK = "echo $n | dd of=/dev/xvda bs=512 count=1 conv=sync,fsync 2>/dev/null"
DIRTY = (f"(n=0; {TO_DISK}; while :; do cp /tmp/still /tmp/copy; cmp /tmp/still /tmp/copy || echo memory >>/tmp/wrong; "
         f"[ \"$({ON_DISK})\" = $n ] || echo moment >>/tmp/wrong; "
         f"n=$((n+1)); {TO_DISK} || echo disk >>/tmp/wrong; echo $n >/tmp/round; done) >/dev/null 2>&1 & true")
TICKS = "(while :; do cut -d. -f1 /proc/uptime >>/tmp/ticks; sleep 0.1; done) >/dev/null 2>&1 & true"
SECONDS = 600  # a bound for what ends by itself, on any machine


def run(console, command, seconds=120):
    return (console.run(command, seconds) or "").strip()


def attach(host, name):
    console = host.console(name)
    tap.ok(console.prompt(), f"{name}: the guest answers", console.text[-2000:])
    run(console, "dmesg -n 1")
    return console


def number(text):
    match = re.search(r"\d+", text)
    return int(match.group()) if match else -1


def boot(host):
    path = make(host, "l.qcow2", "qcow2")
    define(host, "l", disk(path, "xvda", "qcow2"))
    good(host, "start l")
    console = attach(host, "l")
    # what does not change, and is compared after going back
    run(console, "dd if=/dev/urandom of=/tmp/still bs=1M count=8 2>/dev/null; md5sum /tmp/still >/tmp/sum")
    run(console, DIRTY)
    run(console, TICKS)
    tap.ok(wait_for(lambda: number(run(console, "cat /tmp/round")) > 1, 120), "it changes memory and disk")
    return console


def snapshot(host, name, folder=None):
    folder = folder or host.root
    return (f"snapshot-create-as l {name} --live --memspec file={folder}/{name}.mem,snapshot=external "
            f"--diskspec xvda,file={host.root}/{name}.qcow2")


def ticks(console):
    return number(run(console, "wc -l </tmp/ticks"))


class Taking(threading.Thread):
    """A snapshot that is being taken."""

    def __init__(self, host, command):
        super().__init__()
        self.host, self.command, self.result = host, command, None
        self.start()

    def run(self):
        self.result = self.host.virsh(self.command, seconds=SECONDS)


def consistent(console, what):
    """What the guest found wrong with memory and disk, and that it goes on."""
    tap.equal(run(console, "cat /tmp/wrong 2>/dev/null"), "", f"{what}: nothing was wrong")
    tap.contains(run(console, "md5sum -c /tmp/sum"), "OK", f"{what}: memory that did not change is what it was")
    noted = number(run(console, "cat /tmp/round"))
    tap.ok(wait_for(lambda: number(run(console, "cat /tmp/round")) > noted, 120), f"{what}: it goes on")


def taking(host, console):
    before = ticks(console)
    good(host, snapshot(host, "s1"), "snapshot-create-as --live")
    tap.equal(host.state("l"), "running", "it runs on")
    stats = good(host, "domjobinfo l --completed")
    down, all_ms = (re.search(rf"{word}: +(\d+)", stats) for word in ("Total downtime", "Time elapsed"))
    part = down and all_ms and int(down.group(1)) < int(all_ms.group(1))
    tap.ok(part, "it stood still for a part of the time", stats)
    tap.note(f"elapsed {all_ms and all_ms.group(1)} ms, stopped {down and down.group(1)} ms")
    tap.ok(re.search(r"Iteration: +([2-9]|\d\d)", stats), "memory was gone through more than once", stats)
    tap.ok(wait_for(lambda: ticks(console) > before, 60), "the guest ticks")
    there = [os.path.exists(f"{host.root}/s1{end}") for end in (".mem", ".qcow2")]
    tap.equal(there, [True, True], "there are memory and overlay")
    tap.contains(good(host, "domblklist l"), "s1.qcow2", "the disk is on the overlay")
    consistent(console, "after it")


def back(host, console):
    console.close()
    good(host, "snapshot-revert l s1", "snapshot-revert")
    console = attach(host, "l")
    consistent(console, "after going back")
    return console


def greedy(host, console):
    """Of a guest that changes memory as fast as it can, which no file takes: it ends all the same."""
    run(console, "dd if=/dev/urandom of=/tmp/big bs=1M count=48 2>/dev/null; "
                 "(while :; do cp /tmp/big /tmp/bigger; done) >/dev/null 2>&1 & echo $! >/tmp/greedy")
    good(host, snapshot(host, "g1"), "a live one of a greedy guest")
    stats = good(host, "domjobinfo l --completed")
    tap.note("\n".join(re.findall(r"(?:Time elapsed|Total downtime|Iteration|Auto converge throttle).*", stats)))
    run(console, "kill $(cat /tmp/greedy); rm /tmp/big /tmp/bigger")
    consistent(console, "after that")


def ballooning(host, console):
    """Of one that gives memory back and gets it again meanwhile: its pages move in the file."""
    take = Taking(host, snapshot(host, "b1"))
    while take.is_alive():
        for mib in (160, 256):
            host.virsh(f"setmem l {mib}M --live")
            take.join(0.3)
    tap.equal(take.result.status, 0, "a live one of a guest with a balloon") or tap.note(take.result)
    host.virsh("setmem l 256M --live")
    console.close()
    good(host, "snapshot-revert l b1", "going back to that")
    console = attach(host, "l")
    consistent(console, "after going back")
    return console


def job_runs(host):
    return "Unbounded" in host.virsh("domjobinfo l").out


def aborting(host, console):
    take = Taking(host, snapshot(host, "a1"))
    tap.ok(wait_for(lambda: job_runs(host) or take.result, 60, 0.001), "domjobinfo shows it")
    aborted = host.virsh("domjobabort l")
    take.join(SECONDS)
    if take.result.status == 0:  # it was faster
        tap.ok(aborted.status in (0, 1), "domjobabort came too late")
        good(host, "snapshot-delete l a1 --metadata")
        return
    tap.contains(take.result.err, "canceled by client", "domjobabort ends it")
    left = [name for name in os.listdir(host.root) if name.startswith("a1")]
    tap.equal(left, [], "nothing is left of it")
    tap.equal(host.state("l"), "running", "the guest runs on")
    consistent(console, "after the abort")


def no_space(host, console):
    small = f"{host.root}/small"
    os.mkdir(small)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", small], stderr=subprocess.DEVNULL).returncode:
        tap.skip("a disk that is full: cannot mount one")
        return
    try:
        refused(host, snapshot(host, "n1", small), "No space left", "a disk that is full")
        tap.equal(os.listdir(small), [], "no file is left")
    finally:
        # Who writes lets go of the file a moment after it is known that it failed.
        gone = wait_for(lambda: subprocess.run(["umount", small], stderr=subprocess.DEVNULL).returncode == 0, 60)
        tap.ok(gone, "and nobody has one open")
    tap.ok(not os.path.exists(f"{host.root}/n1.qcow2"), "nor an overlay")
    consistent(console, "after that")


def killed(host):
    take = Taking(host, snapshot(host, "k1"))
    wait_for(lambda: os.path.exists(f"{host.root}/k1.mem.part") or take.result, 60, 0.001)
    time.sleep(0.05)
    host.stop(signal.SIGKILL)
    take.join(SECONDS)
    host.start()
    tap.equal(host.state("l"), "running", "domusd is killed: the guest runs on")
    known = "k1" in host.virsh("snapshot-list l --name").out.split()
    there = [os.path.exists(f"{host.root}/k1{end}") for end in (".mem", ".qcow2")]
    tap.equal(there, [known, known], "the snapshot is whole, or nothing of it is left")
    tap.ok(not os.path.exists(f"{host.root}/k1.mem.part"), "no part of a file either")
    console = attach(host, "l")
    consistent(console, "after that")
    return console


def refusals(host):
    refused(host, "snapshot-create-as l x --live --disk-only", "mutually exclusive", "a live one without memory")
    good(host, "suspend l")
    good(host, snapshot(host, "p1"), "a live one of a paused domain")
    tap.equal(host.state("l"), "paused", "it stays paused")
    good(host, "resume l")
    good(host, "destroy l")
    refused(host, snapshot(host, "x"), "not running", "a live one of what is off")


with Host() as host:
    console = boot(host)
    taking(host, console)
    console = back(host, console)
    greedy(host, console)
    console = ballooning(host, console)
    aborting(host, console)
    no_space(host, console)
    console.close()
    killed(host).close()
    refusals(host)
tap.done()
