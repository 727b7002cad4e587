#!/usr/bin/python3
"""Live migration between two hosts on one machine, by stock virsh: the guest, its disk and its connections go on, and of a
guest whose migration fails exactly one copy runs.

As root, in a network namespace of its own, as tests/devices.t; the hosts share the machine's file system and a bridge.
"""
import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from host import Host, wait_for
from traveller import BRIDGE, HOST_IP, MIB, Ticks, boot, check


def migrate(source, target, options="--live --verbose --persistent --undefinesource", seconds=300):
    return source.virsh(f"migrate {options} g1 {target.uri} --migrateuri tcp://127.0.0.1", seconds=seconds)


def hop(source, target, ticks, what, more=""):
    ticks.reset()
    start = time.monotonic()
    result = migrate(source, target, f"--live --verbose --persistent --undefinesource {more}")
    took = time.monotonic() - start
    tap.equal(result.status, 0, f"{what}: migrate --live") or tap.note(result)
    tap.ok(re.search(r"100(\.00)? %", result.out + result.err), f"{what}: progress is shown", result)
    tap.equal(target.state("g1"), "running", f"{what}: it runs there")
    tap.contains(source.virsh("domstate g1").err, "failed to get domain", f"{what}: and is gone here")
    check(target, ticks, what)
    tap.note(f"{what}: {took:.2f} s, silence of {1000 * ticks.gap:.0f} ms")
    tap.equal(target.virsh("dominfo g1").out.count("Persistent:     yes"), 1, f"{what}: it is persistent there")


def refused(source, target, ticks):
    text = target.xml(name="g1", uuid="11111111-2222-3333-4444-555555555555")
    target.virsh_args("define", target.write_xml(text, "clash.xml"))
    result = migrate(source, target)
    tap.ok(result.status != 0 and "g1" in result.err, "a name that is taken there", result)
    target.virsh("undefine g1")
    for option, why in (("--postcopy --tls", "post-copy"),
                        ("--compressed --comp-methods xbzrle", "xbzrle"), ("--comp-methods zstd", "not compressed")):
        result = migrate(source, target, f"--live {option}")
        tap.ok(result.status != 0 and why in result.err, f"refused: {option}", result)
    tap.equal(source.state("g1"), "running", "the source goes on")
    tap.equal(target.virsh("list --all --name").out.strip(), "", "nothing is left at the destination")
    check(source, ticks, "after refusals")


def slow(source, target):
    source.virsh("migrate-setspeed g1 2")
    tap.contains(source.virsh("migrate-getspeed g1").out, "2", "migrate-getspeed")
    thread = threading.Thread(target=lambda: results.append(migrate(source, target, "--live")), daemon=True)
    results = []
    thread.start()
    tap.ok(wait_for(lambda: "Unbounded" in source.virsh("domjobinfo g1").out, 30), "domjobinfo tells of it")
    return thread, results


def aborted(source, target, ticks):
    thread, results = slow(source, target)
    info = source.virsh("domjobinfo g1").out
    tap.ok("Memory remaining" in info and "Outgoing migration" in info, "with what there is to do", info)
    tap.equal(source.virsh("domjobabort g1").status, 0, "domjobabort")
    thread.join(60)
    tap.ok(results and results[0].status != 0 and "canceled by client" in results[0].err, "ends it", results)
    tap.equal(source.state("g1"), "running", "the guest goes on")
    tap.equal(target.virsh("list --all --name").out.strip(), "", "nothing is left at the destination")
    check(source, ticks, "after an abort")


def number_kept(source, target, ticks):
    """A guest keeps its number, where that is free: nobody else gets it while it is coming."""
    thread, results = slow(source, target)
    result = target.virsh_args("create", "--paused", target.write_xml(target.xml(name="g2"), "g2.xml"))
    numbers = [source.virsh("domid g1").out.strip(), target.virsh("domid g2").out.strip()]
    tap.ok(result.status == 0 and numbers[0] == "1" and numbers[1] == "2", "the number of a guest that is coming is taken", numbers)
    target.virsh("destroy g2")
    source.virsh("domjobabort g1")
    thread.join(60)
    source.virsh("migrate-setspeed g1 0")
    check(source, ticks, "after another's start")


def unplugged():
    """Interfaces of the bridge without a carrier."""
    links = subprocess.run(["ip", "-o", "link", "show", "master", BRIDGE], stdout=subprocess.PIPE, text=True).stdout
    return links.count("NO-CARRIER")


def nodes(host, number):
    return host.client("xenstore-ls", f"/local/domain/{number}").out


def changed_meanwhile(source, target, ticks):
    """What the guest has beside it is there before it comes, and follows what changes until then."""
    what = "while memory is sent"
    number = int(source.virsh("domid g1").out)
    base = f"/local/domain/{number}/data"
    source.client("xenstore-write", f"{base}/changes", "early", f"{base}/stays", "1", f"{base}/goes/below", "1")
    thread, results = slow(source, target)
    there = nodes(target, number)
    tap.ok('changes = "early"' in there and "goes" in there and "vif" in there, f"{what}: its nodes are at the destination", there)
    tap.ok(wait_for(lambda: unplugged() == 1, 5), f"{what}: so is an interface, without a carrier")
    tap.equal(target.virsh("list --all --name").out.strip(), "", f"{what}: nobody sees it")
    source.client("xenstore-write", f"{base}/changes", "late", f"{base}/new/one", "1")
    source.client("xenstore-rm", f"{base}/goes")
    source.virsh("migrate-setspeed g1 0")
    thread.join(120)
    tap.ok(results and results[0].status == 0, f"{what}: it goes there", results)
    there = nodes(target, number)
    tap.ok('changes = "late"' in there and 'stays = "1"' in there and "one =" in there and "goes" not in there,
           f"{what}: nodes that changed", there)
    tap.ok(wait_for(lambda: unplugged() == 0, 5), f"{what}: its interface has a carrier then")
    check(target, ticks, what)


def killed_destination(source, target, ticks):
    thread, results = slow(source, target)
    for pid in target.hv_pids():
        os.kill(pid, signal.SIGKILL)
    thread.join(60)
    tap.ok(results and results[0].status != 0, "the destination's hypervisor is killed", results)
    tap.equal(source.state("g1"), "running", "the guest goes on")
    check(source, ticks, "after the destination's end")
    source.virsh("migrate-setspeed g1 0")


netns.enter()
netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
with Host() as a, Host() as b:
    image = f"{a.root}/shared.img"
    with open(image, "wb") as f:
        f.truncate(64 * MIB)
    boot(a, image)
    ticks = Ticks()
    refused(a, b, ticks)
    number_kept(a, b, ticks)
    hop(a, b, ticks, "there")
    hop(b, a, ticks, "and back")
    hop(a, b, ticks, "there again", "--compressed")
    tap.contains(b.virsh("domjobinfo g1 --completed").out, "Job type", "domjobinfo --completed answers")
    aborted(b, a, ticks)
    killed_destination(b, a, ticks)
    hop(b, a, ticks, "after all that")
    changed_meanwhile(a, b, ticks)
    tap.equal(b.virsh("destroy g1").status, 0, "destroy")
tap.done()
