#!/usr/bin/python3
"""Tunnelled migration by stock virsh: the guest comes through the connection between the daemons, so that no other port is needed;
what becomes of it when that breaks.

As root, in a network namespace of its own.
"""
import os
import signal
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from host import wait_for
from traveller import BRIDGE, HOST_IP, MIB, Peer, Ticks, boot, check

# Whether it is the same host cannot be seen in a tunnel.
TUNNEL = "--p2p --tunnelled --live --unsafe"
HOP = f"{TUNNEL} --persistent --undefinesource"


def migrate(source, target, options, seconds=180):
    return source.virsh(f"migrate {options} g1 {target.peer}", seconds=seconds)


def listeners():
    """Ports of this network namespace that somebody listens at."""
    ports = set()
    for name in ("tcp", "tcp6"):
        with open(f"/proc/net/{name}") as f:
            for line in list(f)[1:]:
                words = line.split()
                if words[3] == "0A":
                    ports.add(int(words[1].rsplit(":", 1)[1], 16))
    return ports


def begin(source, target, options=TUNNEL):
    """One that takes long, and what comes of it."""
    source.virsh("migrate-setspeed g1 4")
    results = []
    thread = threading.Thread(target=lambda: results.append(migrate(source, target, options)))
    thread.start()
    tap.ok(wait_for(lambda: "Memory remaining" in source.virsh("domjobinfo g1").out, 60), "it is under way")
    return thread, results


def hop(source, target, ticks, what, options=""):
    before, seen = listeners(), set()
    results = []
    thread = threading.Thread(target=lambda: results.append(migrate(source, target, f"{HOP} --verbose {options}")))
    thread.start()
    while thread.is_alive():
        seen |= listeners() - before
        thread.join(0.02)
    tap.equal(results[0].status, 0, f"{what}: migrate --p2p --tunnelled {options}") or tap.note(results[0])
    tap.equal(target.state("g1"), "running", f"{what}: it runs there")
    tap.contains(source.virsh("domstate g1").err, "failed to get domain", f"{what}: and is gone here")
    tap.equal(seen, set(), f"{what}: nobody listened for it")
    check(target, ticks, what)
    tap.ok(not source.processes("domus-migrate"), f"{what}: nothing is left of what moved it")


def refused(source, target, options, text):
    result = migrate(source, target, options)
    tap.ok(result.status != 0 and text in result.err, f"refused: {options}", result)
    tap.equal(source.state("g1"), "running", "the guest goes on")
    tap.equal(target.virsh("list --all --name").out.strip(), "", "nothing is left at the destination")


def refusals(source, target):
    refused(source, target, "--p2p --tunnelled --live --tls --unsafe", "not supported with TLS")
    refused(source, target, f"{TUNNEL} --postcopy", "post-copy migration is not supported with a tunnel")
    refused(source, target, f"{TUNNEL} --copy-storage-all", "disks that are copied")
    refused(source, target, "--p2p --tunnelled --live", "on no shared file system")
    text = target.xml(name="g1", uuid="11111111-2222-3333-4444-555555555555")
    target.virsh_args("define", target.write_xml(text, "clash.xml"))
    result = migrate(source, target, TUNNEL)
    tap.ok(result.status != 0 and "already exists" in result.err, "refused: a name that is taken there", result)
    target.virsh("undefine g1")


def aborted(source, target, ticks):
    thread, results = begin(source, target)
    tap.equal(source.virsh("domjobabort g1").status, 0, "domjobabort")
    thread.join(60)
    tap.ok(results and "canceled by client" in results[0].err, "ends it", results)
    tap.ok(wait_for(lambda: source.state("g1") == "running", 30), "the guest goes on")
    tap.ok(wait_for(lambda: not target.virsh("list --all --name").out.strip(), 30), "nothing is left at the destination")
    source.virsh("migrate-setspeed g1 0")
    check(source, ticks, "after an abort")


def killed(source, target, victim, ticks, what):
    thread, results = begin(source, target)
    victim.stop(signal.SIGKILL)
    thread.join(120)
    victim.start()
    tap.ok(results and results[0].status != 0, f"{what}: it fails", results)
    tap.ok(wait_for(lambda: source.state("g1") == "running", 60), f"{what}: the guest goes on", source.virsh("domstate g1 --reason"))
    tap.ok(wait_for(lambda: not target.virsh("list --all --name").out.strip(), 60), f"{what}: it is nowhere else")
    source.virsh("migrate-setspeed g1 0")
    check(source, ticks, what)


netns.enter()
netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
with Peer() as a, Peer() as b:
    image = f"{a.root}/shared.img"
    with open(image, "wb") as f:
        f.truncate(64 * MIB)
    boot(a, image)
    ticks = Ticks()
    refusals(a, b)
    hop(a, b, ticks, "there")
    hop(b, a, ticks, "and back", "--compressed")
    aborted(a, b, ticks)
    killed(a, b, b, ticks, "the destination's daemon is killed")
    killed(a, b, a, ticks, "the source's daemon is killed")
    hop(a, b, ticks, "there again")
    tap.equal(b.virsh("destroy g1").status, 0, "destroy")
    b.virsh("undefine g1")
tap.done()
