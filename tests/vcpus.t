#!/usr/bin/python3
"""vCPUs of a running guest: how many it has, as Linux takes them in and lets go of them."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for


def online(console):
    found = re.search(r"^([\d,-]+)$", console.run("cat /sys/devices/system/cpu/online") or "", re.M)
    return found.group(1) if found else None


def becomes(console, value, seconds=20):
    wait_for(lambda: online(console) == value, seconds, 0.3)
    return online(console)


def counts(host, name="g1"):
    """Maximum and current number, in the definition and live."""
    return [int(n) for n in re.findall(r"(\d+)$", host.virsh(f"vcpucount {name}").out, re.M)]


with Host() as host:
    text = host.xml(name="g1", vcpus=4).replace("<vcpu", "<vcpu current='2'", 1)
    tap.equal(host.virsh_args("define", host.write_xml(text)).status, 0, "two vCPUs of four")
    tap.equal(host.virsh("start g1").status, 0, "it starts")
    with host.console("g1") as console:
        if not tap.ok(console.expect(r"guest: up") and console.prompt(), "and boots", console.text[-3000:]):
            tap.done()
        tap.equal(becomes(console, "0-1"), "0-1", "the guest uses two")
        tap.equal(counts(host), [4, 4, 2, 2], "vcpucount says so")
        tap.equal(host.virsh("setvcpus g1 4 --live").status, 0, "setvcpus 4 --live")
        # A system with udev has a rule for this.
        tap.ok(wait_for(lambda: "is there" in (console.run(
            "[ -e /sys/devices/system/cpu/cpu2/online ] && [ -e /sys/devices/system/cpu/cpu3/online ] && echo is the''re")
            or ""), 20), "the guest finds two more", console.text[-1000:])
        console.run("for n in 2 3; do echo 1 >/sys/devices/system/cpu/cpu$n/online; done")
        tap.equal(becomes(console, "0-3"), "0-3", "and uses them")
        tap.equal(counts(host), [4, 4, 2, 4], "vcpucount --live tells them")
        tap.equal(len(re.findall(r"State:\s+(running|blocked|idle)", host.virsh("vcpuinfo g1").out)), 4, "vcpuinfo too")
        tap.equal(host.virsh("setvcpus g1 1 --live --config").status, 0, "setvcpus 1 --live --config")
        tap.equal(online(console), "0", "the guest has let go of three when it returns")
        tap.equal(host.virsh("vcpuinfo g1").out.count("VCPU:"), 1, "vcpuinfo tells one")
        tap.contains(host.virsh("domstats g1 --vcpu").out, "vcpu.3.state=0", "domstats tells the others offline")
        tap.equal(counts(host), [4, 4, 1, 1], "and vcpucount one")
        tap.ok("current='1'" in host.virsh("dumpxml g1 --inactive").out, "the definition has it")
        for _ in range(3):
            host.virsh("setvcpus g1 4 --live")
            wait_for(lambda: "is there" in (console.run("[ -e /sys/devices/system/cpu/cpu3/online ] && echo is the''re")
                                            or ""), 20)
            console.run("for n in 1 2 3; do echo 1 >/sys/devices/system/cpu/cpu$n/online; done")
            tap.equal(becomes(console, "0-3"), "0-3", "again all four")
            tap.equal(host.virsh("setvcpus g1 2 --live").status, 0, "and two")
        tap.ok("OK" in (console.run("cd /tmp; (md5sum /bin/busybox & md5sum /bin/busybox; wait) | uniq -c | grep -q '2 ' && echo O''K")
                        or ""), "which work", console.text[-800:])

        tap.equal(host.virsh("setvcpus g1 3 --live").status, 0, "three")
        wait_for(lambda: "is there" in (console.run("[ -e /sys/devices/system/cpu/cpu2/online ] && echo is the''re") or ""), 20)
        console.run("echo 1 >/sys/devices/system/cpu/cpu2/online")
        tap.equal(becomes(console, "0-2"), "0-2", "in use")
        tap.equal(host.virsh("suspend g1").status, 0, "a paused guest")
        result = host.virsh("setvcpus g1 2 --live")
        tap.ok(result.status == 1 and "cannot let go of a vCPU" in result.err, "cannot let go of one", result)
        tap.equal(host.virsh("resume g1").status, 0, "resumed")
        tap.equal(becomes(console, "0-2"), "0-2", "it has what it had")

        # What cannot be.
        for count, options, words in ((5, "--live", "greater than max"), (0, "--live", "0"), (65, "--config", "65"),
                                      (2, "--maximum --live --config", "live domain can't be modified"),
                                      (2, "--guest", "guest agent")):
            result = host.virsh(f"setvcpus g1 {count} {options}")
            tap.ok(result.status == 1 and words in result.err, f"setvcpus {count} {options} is refused", result)
        with host.unsaveable("g1"):
            tap.equal(host.virsh("setvcpus g1 4 --live --config").status, 1, "a definition that cannot be saved")
            tap.contains(host.client("xenstore-read", f"/local/domain/{host.virsh('domid g1').out.strip()}"
                                     "/cpu/3/availability").out, "offline", "gives the guest no vCPU")
        tap.equal(counts(host), [4, 4, 1, 3], "and nothing has changed")
        complaints = console.run("dmesg | grep -E 'BUG|Oops|Call Trace'; true") or ""
        tap.ok(not re.search(r"BUG|Oops|Call Trace", complaints), "the kernel has no complaint", complaints)
    host.virsh("destroy g1")
    tap.equal(host.virsh("setvcpus g1 2 --maximum --config").status, 0, "setvcpus --maximum --config")
    tap.equal(host.virsh("setvcpus g1 2 --config").status, 0, "setvcpus --config")
    tap.ok(">2</vcpu>" in host.virsh("dumpxml g1").out and "current=" not in host.virsh("dumpxml g1").out,
           "the definition has two of two", host.virsh("dumpxml g1").out)

    # A guest that does not listen keeps its vCPUs.
    host.define(name="g2", vcpus=2, cmdline="console=hvc0 initcall_blacklist=setup_vcpu_hotplug_event")
    host.virsh("start g2")
    with host.console("g2") as console:
        tap.ok(console.expect(r"guest: up") and console.prompt(), "a guest that knows nothing of it", console.text[-3000:])
        result = host.virsh("setvcpus g2 1 --live --config")
        tap.ok(result.status == 1 and "did not let go of vCPU 1" in result.err, "the user is told", result)
        tap.equal(counts(host, "g2"), [2, 2, 2, 2], "it has two as before")
        tap.equal(online(console), "0-1", "and uses them")
    host.virsh("destroy g2")
tap.done()
