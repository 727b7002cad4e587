#!/usr/bin/python3
"""Migration of a guest whose disks are qcow2 images that both hosts reach: a storage daemon has each of them locked, so only one
side can have it. It goes there and back, also when its storage daemon ends meanwhile, and a guest that comes back has its disks
again although the destination had taken some of them.

As root, in a network namespace of its own, as tests/migrate.t.
"""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from disks import disk, make
from host import wait_for
from traveller import BRIDGE, HOST_IP, Peer, Ticks, boot, check

SLOW_MIB = 2 # for longer than a busy host needs for a few commands


def storage_daemons(host):
    folder = f"{host.root}/run/domus"
    return sorted(name for name in os.listdir(folder) if name.endswith(".storage"))


def storage_pid(host, target):
    name = next(name for name in storage_daemons(host) if f".{target}." in name)
    with open(f"{host.root}/run/domus/{name}") as f:
        return int(f.read().split()[0])


def begin(source, target):
    return subprocess.Popen(["virsh", "-c", source.uri, "migrate", "--live", "--persistent", "--undefinesource", "g1", target.uri,
                             "--migrateuri", "tcp://127.0.0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(migration):
    out, err = migration.communicate(timeout=120)
    return migration.returncode, out + err


def settled(here, gone, ticks, what):
    tap.ok(wait_for(lambda: here.state("g1") == "running", 60), f"{what}: the guest runs where it should",
           f"{here.virsh('domstate --reason g1')}\n{here.log()[-1500:]}\n{gone.log()[-1500:]}")
    tap.ok(wait_for(lambda: not gone.hv_pids() and not storage_daemons(gone), 30), f"{what}: nothing of it is elsewhere",
           storage_daemons(gone))
    tap.equal(len(storage_daemons(here)), 2, f"{what}: both disks are served")
    check(here, ticks, what)


def hop(source, target, ticks, what):
    tap.equal(ended(begin(source, target))[0], 0, what)
    settled(target, source, ticks, what)


def begin_slowly(source, target):
    """One that sends memory, and will for a while."""
    source.virsh(f"migrate-setspeed g1 {SLOW_MIB}")
    migration = begin(source, target)
    wait_for(lambda: "Memory remaining" in source.virsh("domjobinfo g1").out, 30, 0.01)
    return migration


def is_locked(path):
    return subprocess.run(["qemu-img", "info", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0


def daemon_killed(source, target, ticks):
    """What would serve the disk again has to wait until it is known where the guest is."""
    what = "a storage daemon is killed while memory is sent"
    migration = begin_slowly(source, target)
    waiting = [storage_pid(target, name) for name in ("xvda", "xvdb")]
    os.kill(storage_pid(source, "xvda"), signal.SIGKILL)
    time.sleep(0.5)
    source.virsh("migrate-setspeed g1 0")
    result = ended(migration)
    tap.equal(result[0], 0, f"{what}: it goes all the same") or tap.note(result)
    settled(target, source, ticks, what)
    tap.equal([storage_pid(target, name) for name in ("xvda", "xvdb")], waiting, f"{what}: those that waited there serve it")


def client_killed(source, target, ticks, image):
    """The daemon of the second disk stands still there: until it goes on, its host has the first one."""
    what = "the client is killed while the destination takes the disks"
    migration = begin_slowly(source, target)
    tap.equal(len(storage_daemons(target)), 2, "(the destination's storage daemons wait)")
    pid = storage_pid(target, "xvdb")
    os.kill(pid, signal.SIGSTOP)
    source.virsh("migrate-setspeed g1 0")
    tap.ok(wait_for(lambda: "migrating" in source.virsh("domstate --reason g1").out, 60, 0.01), "(all was sent)")
    tap.ok(wait_for(lambda: is_locked(image), 10, 0.1), "(and it has one of them)")
    migration.kill()
    migration.communicate()
    time.sleep(1)
    os.kill(pid, signal.SIGCONT)
    settled(source, target, ticks, what)


netns.enter()
netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
with Peer() as a, Peer() as b:
    image = make(a, "first", mib=64)
    boot(a, image, "qcow2", disk(make(a, "second"), "xvdb"))
    ticks = Ticks()
    hop(a, b, ticks, "there")
    hop(b, a, ticks, "and back")
    client_killed(a, b, ticks, image)
    daemon_killed(a, b, ticks)
    b.virsh("destroy g1")
    b.virsh("undefine g1")
tap.done()
