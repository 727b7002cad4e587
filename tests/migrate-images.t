#!/usr/bin/python3
"""Migration of a guest whose disks are qcow2 images that both hosts reach: a storage daemon has each of them locked, so only one
side can have it. It goes there and back, also when its storage daemon ends meanwhile, and a guest that comes back has its disks
again although the destination had taken some of them.

As root, in a network namespace of its own, as tests/migrate.t.
"""
import os
import shutil
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

SLOW_MIB = 16
PROGRAM = "qemu-storage-daemon"
# One for the second disk takes its time: until then its host has the first one.
SLOW = """#!/bin/sh
case "$*" in *second*) [ -e {flag} ] && touch {flag}.seen && sleep 3;; esac
exec {program} "$@"
"""


def slow_daemon(folder, flag):
    """Before all other programs of that name, from now on."""
    program = shutil.which(PROGRAM)
    os.mkdir(folder)
    with open(f"{folder}/{PROGRAM}", "w") as f:
        f.write(SLOW.format(flag=flag, program=program))
    os.chmod(f"{folder}/{PROGRAM}", 0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"


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


def daemon_killed(source, target, ticks):
    """What would serve the disk again has to wait until it is known where the guest is."""
    what = "a storage daemon is killed while memory is sent"
    source.virsh(f"migrate-setspeed g1 {SLOW_MIB}")
    migration = begin(source, target)
    wait_for(lambda: "Memory remaining" in source.virsh("domjobinfo g1").out, 30, 0.01)
    os.kill(storage_pid(source, "xvda"), signal.SIGKILL)
    time.sleep(0.5)
    source.virsh("migrate-setspeed g1 0")
    result = ended(migration)
    tap.equal(result[0], 0, f"{what}: it goes all the same") or tap.note(result)
    settled(target, source, ticks, what)


def client_killed(source, target, ticks, flag):
    what = "the client is killed while the destination takes the disks"
    open(flag, "w").close()
    migration = begin(source, target)
    tap.ok(wait_for(lambda: os.path.exists(f"{flag}.seen"), 60, 0.01), "(it has one of them)")
    migration.kill()
    migration.communicate()
    os.unlink(flag)
    settled(source, target, ticks, what)


netns.enter()
netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
with Peer() as a:
    flag = f"{a.root}/slow"
    slow_daemon(f"{a.root}/bin", flag)
    with Peer() as b:
        boot(a, make(a, "first", mib=64), "qcow2", disk(make(a, "second"), "xvdb"))
        ticks = Ticks()
        hop(a, b, ticks, "there")
        hop(b, a, ticks, "and back")
        client_killed(a, b, ticks, flag)
        daemon_killed(a, b, ticks)
        b.virsh("destroy g1")
        b.virsh("undefine g1")
tap.done()
