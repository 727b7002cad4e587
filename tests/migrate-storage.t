#!/usr/bin/python3
"""Migration that copies disks, by stock virsh: two hosts that share no image. What the guest wrote, while its disks
were copied too, is what it reads and what the images have in them; the source's images stay what they were; and whatever
is refused, aborted or killed meanwhile leaves one running copy with its own images, and nothing that was made for the
other.

As root, in a network namespace of its own, as tests/migrate.t.
"""
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from disks import disk, qemu_img
from host import wait_for
from remote import free_port
from traveller import BRIDGE, HOST_IP, MIB, Peer, Ticks, boot, run

SLOW_MIB = 1    # the disks are copied for seconds
MEMORY_MIB = 16 # or memory is


def folder(host):
    return f"{host.root}/disks"


def images(host):
    return sorted(os.listdir(folder(host)))


def digest(host, name):
    with open(f"{folder(host)}/{name}", "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def digests(host):
    return {name: digest(host, name) for name in images(host)}


def daemons(host):
    """Targets of the disks that a storage daemon serves."""
    return sorted(name.split(".")[1] for name in os.listdir(f"{host.root}/run/domus") if name.endswith(".storage"))


def xml_for(source, target, targets=("xvda", "xvdb")):
    """The running document, with those disks in the target's folder."""
    text = source.virsh("dumpxml --migratable g1").out
    for one in re.findall(r"<disk .*?</disk>", text, re.S):
        if any(f"dev='{name}'" in one for name in targets):
            text = text.replace(one, one.replace(folder(source), folder(target)))
    return source.write_xml(text, "there.xml")


def command(source, target, options, p2p=False, targets=("xvda", "xvdb")):
    uri = target.peer if p2p else target.uri
    return (f"migrate --live --persistent {options} {'--p2p' if p2p else ''} --xml {xml_for(source, target, targets)} "
            f"g1 {uri} --migrateuri tcp://127.0.0.1")


def migrate(source, target, options, p2p=False, targets=("xvda", "xvdb")):
    return source.virsh(command(source, target, options, p2p, targets))


class Migration(threading.Thread):
    """One that is under way."""

    def __init__(self, source, target, options, p2p=False):
        super().__init__(daemon=True)
        self.source, self.target, self.result = source, target, None
        self.virsh = subprocess.Popen(["virsh", "-c", source.uri, command(source, target, options, p2p)],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.start()

    def run(self):
        out, err = self.virsh.communicate()
        self.result = (self.virsh.returncode, out + err)

    def info(self):
        return self.source.virsh("domjobinfo g1").out

    def is_copying(self):
        """Some of the disks is there, and some is not."""
        wait_for(lambda: self.result or re.search(r"File processed: +[1-9]", self.info()), 60, 0.02)
        return not self.result

    def is_sending(self):
        wait_for(lambda: self.result or re.search(r"Memory total: +[1-9]", self.info()), 60, 0.02)
        return not self.result

    def is_sent(self):
        return wait_for(lambda: "migrating" in self.source.virsh("domstate --reason g1").out, 60, 0.02)

    def finished(self):
        self.join(120)
        return self.result


# ---- the guest: tests/lib/traveller.py's, and a file system that is written to all the time

def attach(host, name, target, form, more=""):
    text = disk(f"{folder(host)}/{name}", target, form, more)
    result = host.virsh_args("attach-device", "g1", host.write_xml(text, "disk.xml"), "--live", "--config")
    tap.equal(result.status, 0, f"{target} is attached") or tap.note(result)


def make_images(host):
    os.mkdir(folder(host))
    raw = f"{folder(host)}/raw"
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", raw, "32M"], check=True, stdout=subprocess.DEVNULL)
    qemu_img("convert", "-O", "qcow2", raw, f"{folder(host)}/base.qcow2")
    base, top = f"{folder(host)}/base.qcow2", f"{folder(host)}/top.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
    os.rename(raw, f"{folder(host)}/read-only.img")
    with open(f"{folder(host)}/xvda.img", "wb") as f:
        f.truncate(64 * MIB)


def start(host):
    make_images(host)
    boot(host, f"{folder(host)}/xvda.img")
    attach(host, "top.qcow2", "xvdb", "qcow2")
    attach(host, "read-only.img", "xvdc", "raw", "<readonly/>")
    console = host.console("g1")
    tap.ok(console.prompt(), "(the console)")
    tap.ok(wait_for(lambda: "there" in run(console, "[ -b /dev/xvdb ] && echo there"), 60), "the guest has the disk")
    tap.contains(run(console, "mkdir /m && mount -t ext4 /dev/xvdb /m && echo mounted"), "mounted", "a file system")
    # Before each write it is looked whether the one before is there: what a disk has lost meanwhile is missed.
    run(console, "(n=0; f=; while :; do echo 3 >/proc/sys/vm/drop_caches; [ -z $f ] || [ $(tail -n 1 $f) = $n ] || "
                 "echo file $n >>/tmp/wrong; n=$((n+1)); f=/m/$((n%20)); head -c 50000 /tmp/data >$f; echo >>$f; "
                 "echo $n >>$f; sync; echo $n >/tmp/n; sleep 0.1; done) >/dev/null 2>&1 & true")
    run(console, "(n=0; while :; do n=$((n+1)); echo $n | dd of=/dev/xvda bs=4096 seek=9999 conv=sync,fsync; sleep 0.05; "
                 "[ $(dd if=/dev/xvda bs=4096 skip=9999 count=1 iflag=direct | head -n 1) = $n ] || "
                 "echo block $n >>/tmp/wrong; done) >/dev/null 2>&1 & true")
    console.close()


def goes_on(host, ticks, what):
    """All at once: consoles take their time on a busy host."""
    console = host.console("g1")
    tap.ok(console.prompt(), f"{what}: the console goes on", console.text[-500:])
    before = run(console, "cat /tmp/alive /tmp/n").split()
    tap.ok(wait_for(lambda: not set(before) & set(run(console, "cat /tmp/alive /tmp/n").split()), 30),
           f"{what}: its programs go on, and both disks are written to")
    tap.contains(run(console, "cmp -n 8388608 /tmp/data /dev/xvda && cat /tmp/wrong 2>/dev/null || echo fine"), "fine",
                 f"{what}: what it reads is what it wrote")
    trouble = run(console, "dmesg | grep -E 'BUG: |detected stall|soft lockup -|blocked for more|Call Trace|I/O error|"
                           "EXT4-fs (error|warning)'")
    tap.equal(trouble, "", f"{what}: the kernel has nothing to complain about")
    console.close()
    seen = ticks.last
    tap.ok(wait_for(lambda: ticks.last > seen, 30) and not ticks.wrong and not ticks.ended,
           f"{what}: its connection goes on", f"{ticks.wrong} {ticks.ended}")


def moved(source, target, ticks, what, seen):
    """@seen: where the destination's log was before."""
    tap.equal(target.state("g1"), "running", f"{what}: it runs there")
    tap.equal(source.state("g1"), "shut off", f"{what}: and not here")
    blocks = target.virsh("domblklist g1").out
    tap.ok(f"{folder(target)}/xvda.img" in blocks and f"{folder(target)}/top.qcow2" in blocks,
           f"{what}: on its own images", blocks)
    tap.equal((daemons(source), daemons(target)), ([], ["xvdb"]), f"{what}: served as they are otherwise")
    tap.ok("served again" not in target.log()[seen:], f"{what}: and by those that it began with", target.log()[seen:])
    goes_on(target, ticks, what)


def stayed(source, target, ticks, what):
    """With its own images and no job, and with nothing at the other side."""
    tap.ok(wait_for(lambda: source.state("g1") == "running", 60), f"{what}: the guest goes on", source.log()[-3000:])
    tap.ok(wait_for(lambda: not target.hv_pids() and not daemons(target), 30), f"{what}: nobody is left there",
           f"{target.hv_pids()} {daemons(target)}")
    tap.ok(wait_for(lambda: not images(target), 30), f"{what}: and none of the images that were made", images(target))
    tap.ok(wait_for(lambda: daemons(source) == ["xvdb"], 30), f"{what}: the raw image is the guest's own again",
           daemons(source))
    tap.ok(wait_for(lambda: "No current block job" in source.virsh("blockjob g1 xvdb").out, 30),
           f"{what}: nothing is copied", source.virsh("blockjob g1 xvdb"))
    left = [name for name in os.listdir(f"{source.root}/run/domus") + os.listdir(f"{target.root}/run/domus")
            if name.endswith((".copy", ".images"))]
    tap.equal(left, [], f"{what}: no file is left of it")
    goes_on(source, ticks, what)


# ---- what is refused

def refused(source, target, ticks):
    port = free_port()
    for options, why in (("--copy-storage-all --migrate-disks xvdx", "disk target xvdx not found"),
                         ("--copy-storage-all --migrate-disks xvdc", "read-only"),
                         (f"--copy-storage-all --disks-port {port} --disks-uri tcp://127.0.0.1", "mutually exclusive"),
                         ("--copy-storage-all --disks-uri unix:///tmp/x", "tcp://HOST"),
                         ("--copy-storage-inc", "base.qcow2' of disk 'xvdb' is not there")):
        result = migrate(source, target, options)
        tap.ok(result.status != 0 and why in result.err, f"refused: {options.split(' --disks-port')[0]}", result)
        tap.equal(images(target), [], "and no image is made")
    result = migrate(source, target, "--copy-storage-all", targets=())
    tap.ok(result.status != 0 and "in use" in result.err, "refused: into the same images", result)
    result = source.virsh(f"migrate --offline --persistent --copy-storage-all g1 {target.uri}")
    tap.ok(result.status != 0 and "cannot handle non-shared storage" in result.err, "refused: --offline", result)
    qemu_img("create", "-q", "-f", "raw", f"{folder(target)}/xvda.img", "32M")
    result = migrate(source, target, "--copy-storage-all")
    tap.ok(result.status != 0 and "bytes and the source's has" in result.err, "refused: an image of another size",
           result)
    tap.equal(images(target), ["xvda.img"], "which stays, without the others")
    os.unlink(f"{folder(target)}/xvda.img")
    os.rmdir(folder(target))
    result = migrate(source, target, "--copy-storage-all")
    tap.ok(result.status != 0 and "cannot create image" in result.err, "refused: a folder that is not there", result)
    os.mkdir(folder(target))
    stayed(source, target, ticks, "after refusals")


# ---- what fails

def pids_of(host, who):
    return {"domusd": [host.daemon.pid], "hv": host.hv_pids(), "storage": storage_pids(host)}[who]


def storage_pids(host):
    """The processes, by the files that they wrote."""
    found = []
    for name in sorted(os.listdir(f"{host.root}/run/domus")):
        if name.endswith(".storage"):
            with open(f"{host.root}/run/domus/{name}") as f:
                found.append(int(f.read().split()[0]))
    return found


def kill(host, who, again=True):
    for pid in pids_of(host, who)[:1]:
        os.kill(pid, signal.SIGKILL)
    if who == "domusd":
        host.daemon.wait()
        if again:
            host.start()


def fails(source, target, ticks, what, act, phase, p2p=False):
    source.virsh(f"migrate-setspeed g1 {SLOW_MIB if phase == 'copying' else MEMORY_MIB}")
    migration = Migration(source, target, "--copy-storage-all", p2p)
    tap.ok(migration.is_copying() if phase == "copying" else migration.is_sending(), f"{what} (it is {phase})",
           migration.result)
    act(migration)
    result = migration.finished()
    tap.ok(result and result[0] != 0, f"{what}: the client is told", result)
    source.virsh("migrate-setspeed g1 0")
    stayed(source, target, ticks, what)
    return result


def abort(migration):
    info = migration.info()
    tap.ok(re.search(r"File remaining: +[1-9]", info) and re.search(r"File total: +[1-9]", info),
           "domjobinfo tells of disks", info)
    job = migration.source.virsh("blockjob g1 xvda")
    tap.contains(job.out + job.err, "Block Copy", "and blockjob of each")
    tap.equal(migration.source.virsh("domjobabort g1").status, 0, "domjobabort")


def abort_hanging(migration):
    """What is on its way there is not waited for."""
    stopped = storage_pids(migration.target)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    tap.equal(migration.source.virsh("domjobabort g1").status, 0, "domjobabort")
    tap.ok(wait_for(lambda: "None" in migration.info(), 20), "ends it at once", migration.info())
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


def failures(source, target, ticks):
    result = fails(source, target, ticks, "abort", abort, "copying")
    tap.ok("canceled by client" in result[1], "as what it is", result)
    for who, host, phase, p2p in (("storage", target, "copying", False), ("storage", source, "copying", False),
                                  ("domusd", target, "copying", True), ("domusd", source, "copying", False),
                                  ("hv", target, "sending", False), ("domusd", source, "sending", False)):
        side = "destination" if host is target else "source"
        what = f"the {side}'s {who} is killed while it is {phase}"
        fails(source, target, ticks, what, lambda m: kill(host, who), phase, p2p)
    fails(source, target, ticks, "the client is killed", lambda m: m.virsh.kill(), "copying")
    fails(source, target, ticks, "abort while the destination's disks stand still", abort_hanging, "copying")


@contextlib.contextmanager
def sent(source, target):
    """The client stands still when all was sent."""
    source.virsh(f"migrate-setspeed g1 {MEMORY_MIB}")
    migration = Migration(source, target, "--copy-storage-all")
    migration.is_sending()
    os.kill(migration.virsh.pid, signal.SIGSTOP)
    source.virsh("migrate-setspeed g1 0")
    tap.ok(migration.is_sent(), "(all was sent)", source.log()[-2000:])
    yield migration
    os.kill(migration.virsh.pid, signal.SIGCONT)


def failure_at_the_end(source, target, ticks):
    what = "the destination's domusd is killed when all was sent"
    with sent(source, target) as migration:
        kill(target, "domusd")
    tap.ok(migration.finished()[0] != 0, f"{what}: the client is told", migration.result)
    stayed(source, target, ticks, what)


def source_daemon_killed(source, target, ticks):
    """The hypervisors do without it."""
    seen = len(target.log())
    with sent(source, target) as migration:
        kill(source, "domusd", False)
    tap.equal(migration.finished()[0], 0, "the source's daemon is killed when all was sent: the client goes on") or \
        tap.note(migration.result)
    source.start()
    wait_for(lambda: source.state("g1") == "shut off", 30)
    moved(source, target, ticks, "so does the guest", seen)


# ---- what goes well

def with_late_disks(source, target, ticks, options, too_late=False):
    """The destination writes nothing from when memory is sent until the guest stands still: much is left to be written."""
    source.virsh(f"migrate-setspeed g1 {MEMORY_MIB}")
    migration = Migration(source, target, options)
    tap.ok(migration.is_sending(), "(memory is sent)", migration.result)
    stopped = storage_pids(target)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    source.virsh("migrate-setspeed g1 0")
    tap.ok(wait_for(lambda: time.monotonic() - ticks.stamp > 1.5, 60), "the guest stands still until its disks are there")
    tap.equal(migration.result, None, "and is at neither side")
    if too_late:
        tap.ok(wait_for(lambda: time.monotonic() - ticks.stamp < 0.5, 40), "or goes on here, since they do not come")
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    return migration.finished()


def disks_too_late(source, target, ticks):
    result = with_late_disks(source, target, ticks, "--copy-storage-all", True)
    tap.ok(result and result[0] != 0 and "does not end" in result[1], "disks that do not arrive: the client is told", result)
    stayed(source, target, ticks, "disks that do not arrive")


def copied(source, target, ticks, what, options, p2p=False, late=False):
    seen = len(target.log())
    if late:
        result = with_late_disks(source, target, ticks, options)
        status = result and result[0]
    else:
        result = migrate(source, target, f"{options} --verbose", p2p)
        status = result.status
    tap.equal(status, 0, f"{what}: migrate {options}") or tap.note(f"{result}\n{source.log()[-3000:]}")
    kept = digests(source)
    moved(source, target, ticks, what, seen)
    tap.equal(digests(source), kept, f"{what}: the source's images are what they were")
    info = source.virsh("domjobinfo g1 --completed").out
    tap.ok(re.search(r"File processed: +[1-9]", info) and re.search(r"File remaining: +0", info),
           f"{what}: what was copied", info)


def one_disk(source, target, ticks):
    """The other is reached by both."""
    result = migrate(source, target, "--copy-storage-inc --migrate-disks xvdb", targets=("xvdb",))
    tap.equal(result.status, 0, "one of the disks") or tap.note(result)
    blocks = target.virsh("domblklist g1").out
    tap.ok(f"{folder(source)}/xvda.img" in blocks and f"{folder(target)}/top.qcow2" in blocks, "is copied", blocks)
    goes_on(target, ticks, "one of the disks")
    seen = len(source.log())
    result = migrate(target, source, "--copy-storage-inc --copy-storage-synchronous-writes --migrate-disks xvdb")
    tap.equal(result.status, 0, "and back, with synchronous writes") or tap.note(result)
    moved(target, source, ticks, "back", seen)


def as_written(host):
    """Nobody writes any more: the guest's view, and the images'."""
    console = host.console("g1")
    console.prompt()
    run(console, "for p in $(ps | grep '[s]h' | awk '{print $1}'); do [ $p -gt 1 ] && [ $p != $$ ] && kill -9 $p; done")
    tap.contains(run(console, "sleep 1; umount /m && sync && echo unmounted"), "unmounted", "nobody writes any more")
    seen = run(console, "dd if=/dev/xvda bs=1M iflag=direct 2>/dev/null | sha256sum").split()[0]
    console.close()
    host.virsh("destroy g1")
    tap.equal(digest(host, "xvda.img"), seen, "the raw image has what the guest read")
    qemu_img("convert", "-O", "raw", f"{folder(host)}/top.qcow2", f"{folder(host)}/out")
    result = subprocess.run(["e2fsck", "-f", "-n", f"{folder(host)}/out"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    tap.equal(result.returncode, 0, "its file system is whole") or tap.note(result.stdout)
    tap.contains(qemu_img("check", f"{folder(host)}/top.qcow2"), "No errors", "and the image that it is in")


netns.enter()
netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
with Peer() as a, Peer() as b:
    start(a)
    os.mkdir(folder(b))
    ticks = Ticks()
    refused(a, b, ticks)
    failures(a, b, ticks)
    failure_at_the_end(a, b, ticks)
    disks_too_late(a, b, ticks)
    copied(a, b, ticks, "there", f"--copy-storage-all --disks-port {free_port()}", late=True)
    tap.equal(images(b), ["top.qcow2", "xvda.img"], "images are made for what is copied")
    copied(b, a, ticks, "back, p2p, in post-copy", "--copy-storage-all --postcopy --postcopy-after-precopy", True)
    for name in images(b):
        os.unlink(f"{folder(b)}/{name}")
    shutil.copy(f"{folder(a)}/base.qcow2", folder(b))
    one_disk(a, b, ticks)
    os.unlink(f"{folder(b)}/top.qcow2")
    source_daemon_killed(a, b, ticks)
    as_written(b)
tap.done()
