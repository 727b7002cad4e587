#!/usr/bin/python3
"""Looks into a guest's memory by physical and by virtual address, and how fast the guest changes it."""
import os
import re
import sys
import time

import libvirt

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for

MARK = b"peek-at-domus-" * 8
MIB = 1 << 20


def failure(call, *args):
    try:
        call(*args)
    except libvirt.libvirtError as e:
        return e.get_error_code(), str(e)
    return None, ""


def peeks(console, domain):
    console.run("i=0; while [ $i -lt 8 ]; do printf 'peek-at-''domus-'; i=$((i + 1)); done > /mark")
    found = [at for at in range(0, 250, 1) if MARK in domain.memoryPeek(at * MIB, MIB, libvirt.VIR_MEMORY_PHYSICAL)]
    tap.ok(found, "what the guest has written is found by physical address")
    two = domain.memoryPeek(16 * MIB - 100, 4 * MIB, libvirt.VIR_MEMORY_PHYSICAL)
    tap.equal(len(two), 4 * MIB, "as many bytes as a call may ask for")
    line = console.run("grep -m 1 ' linux_banner$' /proc/kallsyms", 240) or ""
    if not tap.ok(line.split(), "the kernel tells where it has some words", console.text[-1000:]):
        return
    banner = int(line.split()[0], 16)
    text = domain.memoryPeek(banner, 60, libvirt.VIR_MEMORY_VIRTUAL)
    tap.ok(text.startswith(b"Linux version 6."), "the kernel's words are found by virtual address", text)
    console.send("sleep 3; echo wo''ken\n")
    for _ in range(8):  # each makes an idle guest stand still for a moment
        time.sleep(0.2)
        domain.memoryPeek(banner, 60, libvirt.VIR_MEMORY_VIRTUAL)
    tap.ok(console.expect("woken", 40), "and a guest that was looked into while it was idle wakes when it should", console.text[-500:])
    for what, args in (("beyond its memory", (1 << 40, 16, libvirt.VIR_MEMORY_PHYSICAL)),
                       ("at its end", (256 * MIB - 8, 16 * MIB // 16, libvirt.VIR_MEMORY_PHYSICAL)),
                       ("where nothing is mapped", (0x1000, 16, libvirt.VIR_MEMORY_VIRTUAL)),
                       ("that wraps around", ((1 << 64) - 8, 16, libvirt.VIR_MEMORY_VIRTUAL))):
        code, message = failure(domain.memoryPeek, *args)
        tap.ok(code == libvirt.VIR_ERR_INVALID_ARG and "memory" in message, f"a look {what} is refused", message)
    code, message = failure(domain.memoryPeek, 0, 16, 3)
    tap.ok(code == libvirt.VIR_ERR_INVALID_ARG and "VIR_MEMORY_VIRTUAL" in message, "and one both ways at once", message)


def rate(host):
    out = host.virsh("domstats --dirtyrate g1").out
    return dict(re.findall(r"dirtyrate\.(\w+)=(\S+)", out))


def measure(host, seconds):
    tap.equal(host.virsh(f"domdirtyrate-calc g1 --seconds {seconds}").status, 0, "a measurement begins")
    if seconds > 1:
        tap.equal(rate(host)["calc_status"], "1", "it is under way")
        again = host.virsh("domdirtyrate-calc g1 --seconds 1")
        tap.ok(again.status == 1 and "'g1'" in again.err and "watched already" in again.err, "there is one at a time", again)
    tap.ok(wait_for(lambda: rate(host)["calc_status"] == "2", 60), "it ends", rate(host))
    return int(rate(host)["megabytes_per_second"])


def rates(host, console):
    tap.equal(rate(host)["calc_status"], "0", "nothing has been measured yet")
    console.run("dd if=/dev/zero of=/x bs=1M count=40 2>/dev/null")
    console.run("while :; do dd if=/dev/zero of=/x bs=1M count=40 conv=notrunc 2>/dev/null; done & echo $! > /tmp/busy")
    busy = measure(host, 8)
    tap.ok(4 <= busy < 40, "a guest that writes 40 MiB over and over changes as much, however often", busy)
    console.run("kill $(cat /tmp/busy)")
    idle = measure(host, 1)
    tap.ok(idle <= 2, "and one that is idle hardly any", idle)
    for options, words in (("--seconds 61", "seconds=61"), ("--seconds 0", "seconds"), ("--seconds 1 --mode dirty-ring", "dirty-ring")):
        result = host.virsh(f"domdirtyrate-calc g1 {options}")
        tap.ok(result.status == 1 and words in result.err, f"{options} is refused", result)


def main():
    with Host() as host:
        host.define(name="g1", memory_mib=256)
        conn = libvirt.open(host.uri)
        domain = conn.lookupByName("g1")
        code, message = failure(domain.memoryPeek, 0, 16, libvirt.VIR_MEMORY_PHYSICAL)
        tap.equal(code, libvirt.VIR_ERR_OPERATION_INVALID, "a domain that does not run has no memory")
        tap.equal(host.virsh("domdirtyrate-calc g1 --seconds 1").status, 1, "and does not change it")
        host.virsh("start g1")
        with host.console("g1") as console:
            tap.ok(console.expect("guest: up") and console.prompt(), "the guest is up")
            peeks(console, domain)
            rates(host, console)
        conn.close()
    tap.done()


libvirt.registerErrorHandler(lambda *_: None, None)
main()
