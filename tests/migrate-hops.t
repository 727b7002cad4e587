#!/usr/bin/python3
"""A guest under load goes back and forth between two hosts: each page it wrote holds what it wrote there last, its clock never goes
back, and it never stops for long.

HOPS of them (6), on 1, 2 and 4 vCPUs in turn, as `make check-long` has more; HOPS_VCPUS says which numbers. As root, in a network
namespace of its own, as tests/migrate.t.
"""
import os
import random
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from host import Host, guest_files
from worker import HOST_IP, Worker, make_ramdisk

HOPS = int(os.environ.get("HOPS", "6"))
VCPUS = [int(n) for n in os.environ.get("HOPS_VCPUS", "1 2 4").split()]
SEED = int(os.environ.get("HOPS_SEED", "1"))
BRIDGE, MAC = "domus0", "00:16:3e:12:34:61"
MEMORY_MIB, FILL_MIB, DIRTY_MIB = 256, 32, 64
RATES = (0, 20, 60, 150)  # MB/s that are written
# Not a measure: what a guest's connections do not outlive. The test's machine may be busy.
STOP_SECONDS = 10


def boot(host, worker, initrd, vcpus):
    nic = f"<interface type='bridge'><mac address='{MAC}'/><source bridge='{BRIDGE}'/></interface>"
    text = host.xml(name="g1", memory_mib=MEMORY_MIB, vcpus=vcpus, cmdline="console=hvc0 guest.modules", initrd=initrd)
    result = host.virsh_args("create", host.write_xml(text.replace("<console", nic + "<console", 1)))
    tap.equal(result.status, 0, f"{vcpus} vCPUs: create") or tap.note(result)
    tap.ok(worker.wait_for_tick(300), f"{vcpus} vCPUs: it works")


def hop(source, target, worker, dice, what):
    """Migrates it, or now and then saves and restores it; what is wrong afterwards, and for how long nothing came."""
    worker.ask(f"rate {dice.choice(RATES)}")
    time.sleep(dice.uniform(0, 1))
    worker.reset()
    if dice.random() < 0.1:
        result = source.virsh(f"save g1 {source.root}/saved")
        result = target.virsh(f"restore {source.root}/saved") if result.status == 0 else result
        if result.status == 0:
            os.unlink(f"{source.root}/saved")
    else:
        result = source.virsh(f"migrate --live g1 {target.uri} --migrateuri tcp://127.0.0.1", seconds=300)
    if result.status:
        return f"{what}: {result}", 0
    alive = worker.wait_for_tick(60)
    checked = worker.check() if alive else None
    if checked is None:
        return f"{what}: it does not answer: {target.virsh('domstate --reason g1').out}", 0
    wrong = [] if checked == (0, 0) else [f"{what}: {checked[0]} pages are wrong, the clock went back {checked[1]} times"]
    if target.state("g1") != "running" or source.virsh("domstate g1").status == 0:
        wrong.append(f"{what}: it is not there, or still here")
    return " ".join(wrong), worker.gap_ns / 1e6


def hops(hosts, worker, dice, vcpus, count):
    gaps, wrong = [], ""
    for number in range(count):
        source, target = hosts
        wrong, gap = hop(source, target, worker, dice, f"hop {number + 1}")
        if wrong:
            tap.note(source.log()[-2000:] + target.log()[-2000:])
            break
        gaps.append(gap)
        hosts.reverse()
    tap.equal(wrong, "", f"{vcpus} vCPUs: {count} hops: pages and clock are right")
    if gaps:
        gaps.sort()
        tap.note(f"{vcpus} vCPUs: {len(gaps)} hops, silence of {gaps[len(gaps) // 2]:.0f} ms (median), {gaps[-1]:.0f} ms at most")
        tap.ok(gaps[-1] < 1000 * STOP_SECONDS, f"{vcpus} vCPUs: it never stops for long", gaps[-5:])


netns.enter()
netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
with tempfile.TemporaryDirectory(prefix="domus-hops-") as folder, Host() as a, Host() as b:
    tap.note(f"HOPS_SEED={SEED}")
    dice, worker = random.Random(SEED), Worker()
    for vcpus in VCPUS:
        initrd = make_ramdisk(folder, f"{guest_files()}/initrd.gz", "hvc0", vcpus, FILL_MIB, DIRTY_MIB, f"{vcpus}.gz")
        hosts = [a, b]
        boot(a, worker, initrd, vcpus)
        hops(hosts, worker, dice, vcpus, max(HOPS // len(VCPUS), 1))
        for host in hosts:
            host.virsh("destroy g1")
tap.done()
