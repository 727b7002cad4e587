#!/usr/bin/python3
"""Whatever fails while a guest migrates, exactly one copy of it goes on, the documented one (domusd.8), and of the other nothing
is left: no process, no node of the store, no file of running domains, no tap.

FAULTS_ROUNDS random ones follow (FAULTS_SEED says which), as `make check-long` has it.
"""
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from host import wait_for
from traveller import BRIDGE, HOST_IP, MIB, Peer, Ticks, boot, check

ROUNDS = int(os.environ.get("FAULTS_ROUNDS", "0"))
LONG = ROUNDS > 0
SLOW_MIB = 16


class Migration(threading.Thread):
    """One that is under way; `virsh` is the client."""

    def __init__(self, source, target, p2p=False):
        super().__init__(daemon=True)
        self.source, self.result = source, None
        uri = target.peer if p2p else target.uri
        self.virsh = subprocess.Popen(
            ["virsh", "-c", source.uri, "migrate", "--live", "--persistent", "--undefinesource", *(["--p2p"] if p2p else []),
             "g1", uri, "--migrateuri", "tcp://127.0.0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.start()

    def run(self):
        out, err = self.virsh.communicate()
        self.result = (self.virsh.returncode, out + err)

    def is_sending(self):
        return wait_for(lambda: "Memory remaining" in self.source.virsh("domjobinfo g1").out or self.result, 30, 0.01)

    def is_sent(self):
        return wait_for(lambda: "migrating" in self.source.virsh("domstate --reason g1").out, 60, 0.01)

    def finished(self, seconds=120):
        self.join(seconds)
        return self.result


def pid_of(host, who):
    pids = [host.daemon.pid] if who == "domusd" else host.hv_pids()
    return pids[0] if pids else None


def kill(host, who, with_signal=signal.SIGKILL):
    pid = pid_of(host, who)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, with_signal)
    if who == "domusd" and with_signal == signal.SIGKILL:
        host.daemon.wait()


@contextlib.contextmanager
def stopped(host, who="domusd"):
    pid = pid_of(host, who)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def running(host):
    return host.state("g1") == "running"


def leftovers(host):
    """Of a guest that is not here."""
    found = [f"process {pid}" for pid in host.hv_pids()]
    run_dir = f"{host.root}/run/domus"
    found += [name for name in os.listdir(run_dir) if name.endswith((".ctl", ".process", ".status", ".xml"))]
    nodes = host.client("xenstore-ls", "/local/domain").out
    found += [line for line in nodes.splitlines() if line and not line.startswith((" ", "0"))]
    return found


def taps():
    return subprocess.run(["ip", "-br", "link", "show", "master", BRIDGE], stdout=subprocess.PIPE, text=True).stdout.split("\n")[:-1]


def settled(here, gone, ticks, what):
    """It runs on @here and nowhere else."""
    tap.ok(wait_for(lambda: running(here), 60), f"{what}: the guest runs where it should",
           f"{here.virsh('domstate --reason g1')}\n{here.log()[-1500:]}\n{gone.log()[-1500:]}")
    tap.ok(wait_for(lambda: not leftovers(gone), 30), f"{what}: nothing is left on the other side", leftovers(gone))
    tap.equal(len(here.hv_pids()), 1, f"{what}: one process has it")
    tap.ok(wait_for(lambda: len(taps()) == 1, 10), f"{what}: one tap", taps())
    check(here, ticks, what)


def restart(host):
    if host.daemon.poll() is not None:
        host.start()


# ---- each row: what fails while memory is sent (slowly), or when it was sent and before it is taken

def fail_sending(a, b, who, host):
    a.virsh(f"migrate-setspeed g1 {SLOW_MIB}")
    migration = Migration(a, b)
    migration.is_sending()
    kill(host, who)
    restart(host)
    result = migration.finished()
    a.virsh("migrate-setspeed g1 0")
    return result


def fail_sent(a, b, who, host, p2p=False):
    """The destination's daemon stands still, so that Finish does not get through."""
    a.virsh(f"migrate-setspeed g1 {SLOW_MIB}")
    migration = Migration(a, b, p2p)
    migration.is_sending()
    with stopped(b):
        a.virsh("migrate-setspeed g1 0")
        tap.ok(migration.is_sent(), "(all was sent)")
        if who == "client":
            migration.virsh.kill()
        else:
            kill(host, who)
    restart(host)
    return migration.finished()


def rows(a, b, ticks):
    for what, act in (("the destination's hypervisor is killed while memory is sent", lambda: fail_sending(a, b, "hv", b)),
                      ("the destination's daemon is killed while memory is sent", lambda: fail_sending(a, b, "domusd", b)),
                      ("the source's daemon is killed while memory is sent", lambda: fail_sending(a, b, "domusd", a)),
                      ("the destination's hypervisor is killed when all was sent", lambda: fail_sent(a, b, "hv", b)),
                      ("the destination's daemon is killed when all was sent", lambda: fail_sent(a, b, "domusd", b)),
                      ("the same, peer to peer", lambda: fail_sent(a, b, "domusd", b, True)),
                      ("the client is killed when all was sent", lambda: fail_sent(a, b, "client", a))):
        result = act()
        tap.ok(result and result[0] != 0, f"{what}: the client is told", result)
        settled(a, b, ticks, what)


def source_daemon_killed(a, b, ticks):
    """The hypervisors do without it: the destination gets the guest, as the client wanted."""
    what = "the source's daemon is killed when all was sent"
    result = fail_sent(a, b, "domusd", a)
    tap.ok(result and result[0] == 0, f"{what}: the client goes on", result)
    settled(b, a, ticks, what)
    tap.contains(a.virsh("domstate --reason g1").out, "migrated", f"{what}: its next one knows that the guest has gone")
    a.virsh("undefine g1")


def link_cut(a, b, ticks, seconds):
    a.virsh(f"migrate-setspeed g1 {SLOW_MIB}")
    migration = Migration(a, b)
    migration.is_sending()
    subprocess.run("ip link set lo down".split(), check=True)
    time.sleep(seconds)
    subprocess.run("ip link set lo up".split(), check=True)
    a.virsh("migrate-setspeed g1 0")
    return migration.finished()


def full_disk(a, ticks):
    folder = f"{a.root}/small"
    os.mkdir(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "none", folder], check=True)
    try:
        result = a.virsh(f"save g1 {folder}/g1")
        tap.ok(result.status != 0 and "No space left" in result.err, "a disk that is full while it is saved", result)
        tap.equal(os.listdir(folder), [], "keeps nothing of it")
    finally:
        subprocess.run(["umount", folder], check=True)
    check(a, ticks, "after a full disk")


def source_lost(a, b):
    """The one case in which none is left: the guest's own process is killed before it was taken."""
    result = fail_sending(a, b, "hv", a)
    tap.ok(result and result[0] != 0, "the source's hypervisor is killed while memory is sent: the client is told", result)
    tap.ok(wait_for(lambda: a.state("g1") == "shut off", 30), "the guest has ended", a.virsh("domstate --reason g1"))
    tap.ok(wait_for(lambda: not leftovers(a) and not leftovers(b) and not taps(), 30), "and nothing is left of it",
           (leftovers(a), leftovers(b), taps()))


# ---- random ones

def one_of_two(a, b):
    return [host for host in (a, b) if running(host)]


def random_fault(dice, source, target, ticks, number):
    who = dice.choice(("source's domusd", "target's domusd", "target's hv", "client", "stop source's hv", "stop target's hv"))
    host = source if "source" in who else target
    after = dice.uniform(0, 1.5)
    source.virsh(f"migrate-setspeed g1 {dice.choice((0, SLOW_MIB, 200))}")
    migration = Migration(source, target, dice.random() < 0.5)
    time.sleep(after)
    if who == "client":
        migration.virsh.kill()
    elif who.startswith("stop"):
        if pid_of(host, "hv"):
            with stopped(host, "hv"):
                time.sleep(dice.uniform(0.1, 3))
    elif who != "target's hv" or not running(target): # where it runs already that is the guest's end
        kill(host, "domusd" if "domusd" in who else "hv")
    restart(host)
    migration.finished()
    # Peer to peer it goes on without its client.
    wait_for(lambda: "Unbounded" not in source.virsh("domjobinfo g1").out, 60)
    what = f"{number}: {who} after {after:.3f} s"
    tap.ok(wait_for(lambda: len(one_of_two(source, target)) == 1, 60), f"{what}: one copy runs",
           f"{migration.result}\n{source.virsh('list --all')}{target.virsh('list --all')}\n{source.log()[-2000:]}\n{target.log()[-2000:]}")
    here = (one_of_two(source, target) + [source])[0]
    gone = target if here is source else source
    here.virsh("migrate-setspeed g1 0")
    settled(here, gone, ticks, what)
    gone.virsh("undefine g1")
    return here, gone


netns.enter()
netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
with Peer() as a, Peer() as b:
    image = f"{a.root}/shared.img"
    with open(image, "wb") as f:
        f.truncate(64 * MIB)
    boot(a, image)
    ticks = Ticks()
    rows(a, b, ticks)
    full_disk(a, ticks)
    source_daemon_killed(a, b, ticks)
    result = link_cut(b, a, ticks, 1)
    tap.ok(result and result[0] == 0, "a link that is cut for a second", result)
    settled(a, b, ticks, "after that second")
    here, gone = a, b
    if LONG:
        result = link_cut(a, b, ticks, 45)
        tap.ok(result and result[0] != 0, "a link that is cut for long", result)
        settled(a, b, ticks, "after that time")
        seed = int(os.environ.get("FAULTS_SEED", "1"))
        tap.note(f"FAULTS_SEED={seed}")
        dice = random.Random(seed)
        for number in range(ROUNDS):
            here, gone = random_fault(dice, here, gone, ticks, number)
    source_lost(here, gone)
    here.virsh("undefine g1")
tap.done()
