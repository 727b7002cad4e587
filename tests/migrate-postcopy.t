#!/usr/bin/python3
"""Post-copy, as stock virsh asks for it: a guest that dirties memory faster than it can be sent goes on at the destination while the
rest comes, with every page, its disk and its connections; what fails meanwhile leaves the documented states (domusd.8), and never
two copies that run.

As root, in a network namespace of its own, as tests/migrate.t.
"""
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
import traveller
from host import guest_files, wait_for
from remote import free_port
from worker import Worker, make_ramdisk

BRIDGE, MAC, MIB = "domus0", "00:16:3e:12:34:61", 1 << 20
MEMORY_MIB, FILL_MIB, DIRTY_MIB, RATE = 256, 32, 64, 60
SLOW = 4       # MiB/s: with what the guest writes it never ends
CRAWL = 1      # afterwards, where something is to happen meanwhile


class Link(threading.Thread):
    """What is between the two hosts: the destination listens at LISTEN, on the port that the source finds us at."""
    LISTEN = "127.0.0.2"

    def __init__(self):
        super().__init__(daemon=True)
        self.port, self.ends = free_port(), []
        self.server = socket.socket()
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.server.bind(("127.0.0.1", self.port))
        self.server.listen()
        self.start()

    def run(self):
        near, _ = self.server.accept()
        far = socket.create_connection((self.LISTEN, self.port))
        self.ends = [near, far]
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=self.carry, args=(one, other), daemon=True).start()

    def carry(self, one, other):
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        self.cut()

    def cut(self):
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Migration(threading.Thread):
    def __init__(self, source, target, *options):
        super().__init__(daemon=True)
        self.source, self.result = source, None
        self.virsh = subprocess.Popen(["virsh", "-c", source.uri, "migrate", "--live", "g1", target.uri, *options],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.start()

    def run(self):
        out, err = self.virsh.communicate()
        self.result = (self.virsh.returncode, out + err)

    def is_sending(self):
        return wait_for(lambda: "Memory remaining" in self.source.virsh("domjobinfo g1").out or self.result, 60, 0.05)

    def finished(self, seconds=240):
        self.join(seconds)
        return self.result or ("it does not end", "")


def tell(text, *hosts):
    tap.note(text)
    for host in hosts:
        tap.note(re.sub(r".*: closed\n", "", host.log())[-1500:])


def reason(host):
    return host.virsh("domstate --reason g1").out.strip()


def create(host, initrd, vcpus):
    nic = f"<interface type='bridge'><mac address='{MAC}'/><source bridge='{BRIDGE}'/></interface>"
    text = host.xml(name="g1", memory_mib=MEMORY_MIB, vcpus=vcpus, cmdline="console=hvc0 guest.modules", initrd=initrd)
    return host.virsh_args("create", host.write_xml(text.replace("<console", nic + "<console", 1)))


def begin(source, target, worker, *options):
    """A migration that does not come to an end by itself."""
    worker.ask(f"rate {RATE}")
    migration = Migration(source, target, "--postcopy", "--bandwidth", str(SLOW), *options)
    tap.ok(migration.is_sending(), "(it is being sent)")
    return migration


def switch(source):
    return wait_for(lambda: source.virsh("migrate-postcopy g1").status == 0, 30, 0.1)


def correct(worker, what):
    tap.ok(worker.wait_for_tick(60), f"{what}: the guest works")
    worker.ask("rate 0")
    tap.equal(worker.check(), (0, 0), f"{what}: all pages and the clock are right")


# ---- what goes well

def test_switch(hosts, worker, vcpus):
    source, target = hosts
    what = f"{vcpus} vCPUs"
    migration = begin(source, target, worker, "--migrateuri", "tcp://127.0.0.1")
    time.sleep(2)
    tap.ok(not migration.result, f"{what}: what cannot converge goes on for long", migration.result)
    tap.ok(switch(source), f"{what}: migrate-postcopy")
    result = migration.finished()
    tap.equal(result[0], 0, f"{what}: it arrives") or tell(result[1], *hosts)
    tap.equal(reason(target), "running (migrated)", f"{what}: and runs there")
    tap.ok(source.virsh("domstate g1").status != 0 and not source.hv_pids(), f"{what}: but not here")
    correct(worker, what)
    hosts.reverse()


def watch_events(host):
    return subprocess.Popen(["virsh", "-c", host.uri, "event", "--all", "--loop", "--timeout", "60"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def events_of(watcher):
    watcher.send_signal(signal.SIGINT)
    return watcher.communicate()[0]


def test_states(hosts, worker):
    """It takes a while until all is there: what both sides say meanwhile."""
    source, target = hosts
    watchers = [watch_events(host) for host in hosts]
    migration = begin(source, target, worker, "--migrateuri", "tcp://127.0.0.1", "--postcopy-bandwidth", str(CRAWL))
    tap.equal(source.virsh("migrate-getspeed g1 --postcopy").out.strip(), str(CRAWL), "the limit after the switch is known")
    tap.ok(switch(source), "states: migrate-postcopy")
    tap.ok(wait_for(lambda: reason(target) == "running (post-copy)", 60, 0.05), "states: the destination runs", reason(target))
    tap.equal(reason(source), "paused (post-copy)", "states: the source is paused")
    tap.ok(worker.wait_for_tick(60), "states: the guest works while memory comes")
    info = source.virsh("domjobinfo g1").out
    tap.ok("Memory remaining" in info and "Postcopy requests" in info, "states: domjobinfo tells of it", info)
    tap.contains(source.virsh("domjobabort g1").err, "post-copy", "states: it cannot be aborted any more")
    tap.contains(source.virsh("resume g1").err, "post-copy", "states: nor resumed at the source")
    tap.ok(target.virsh("save g1 /tmp/never").status != 0, "states: and not saved at the destination")
    source.virsh("migrate-setspeed g1 0 --postcopy")
    tap.equal(migration.finished()[0], 0, "states: faster, it arrives") or tell(migration.result[1], *hosts)
    tap.equal(reason(target), "running (migrated)", "states: and has migrated")
    correct(worker, "states")
    here, there = map(events_of, watchers)
    tap.ok(re.search(r"Suspended Post-copy.*Stopped Migrated", here, re.S), "states: the source's events", here)
    tap.ok(re.search(r"Started Migrated.*Resumed Post-copy.*Resumed Migrated", there, re.S), "states: the destination's events", there)
    tap.contains(here, "migration-iteration", "states: of its passes, too")
    hosts.reverse()


def test_ways(hosts, worker):
    """The other ways by which virsh switches."""
    for options in (("--postcopy-after-precopy",), ("--timeout", "2", "--timeout-postcopy")):
        source, target = hosts
        migration = begin(source, target, worker, "--migrateuri", "tcp://127.0.0.1", *options)
        what = options[-1]
        if what == "--postcopy-after-precopy":
            source.virsh("migrate-setspeed g1 32")
        tap.equal(migration.finished()[0], 0, f"{what}: it arrives") or tell(migration.result[1], *hosts)
        tap.equal(reason(target), "running (migrated)", f"{what}: and runs there")
        correct(worker, what)
        hosts.reverse()


def test_refused(hosts, worker):
    source, target = hosts
    for options, why in ((("--postcopy", "--tls"), "post-copy migration is not supported with TLS"),
                         (("--postcopy", "--compressed"), "post-copy migration is not supported with compression"),
                         (("--postcopy", "--postcopy-resume"), "resuming post-copy migration is not supported")):
        result = source.virsh(f"migrate --live {' '.join(options)} g1 {target.uri} --migrateuri tcp://127.0.0.1")
        tap.ok(result.status and why in result.err, f"{' '.join(options)} is refused by name", result)
    result = source.virsh(f"migrate --postcopy g1 {target.uri} --migrateuri tcp://127.0.0.1")
    tap.ok(result.status and "non-live or paused" in result.err, "post-copy that is not live is refused", result)
    tap.contains(source.virsh("migrate-postcopy g1").err, "only be started while outgoing migration is in progress",
                 "without a migration there is nothing to switch")
    worker.ask(f"rate {RATE}")
    migration = Migration(source, target, "--bandwidth", "1", "--migrateuri", "tcp://127.0.0.1")
    tap.ok(migration.is_sending(), "(it is being sent)")
    tap.contains(source.virsh("migrate-postcopy g1").err, "requires migration to be started with VIR_MIGRATE_POSTCOPY",
                 "nor with one that was not meant for it")
    source.virsh("domjobabort g1")
    tap.ok(migration.finished()[0] != 0 and reason(source).startswith("running"), "it goes on at the source")


# ---- what fails: each row begins with a guest at the source that is in post-copy for a while

def in_postcopy(hosts, worker):
    source, target = hosts
    link = Link()
    migration = begin(source, target, worker, "--postcopy-bandwidth", str(CRAWL), "--listen-address", Link.LISTEN,
                      "--migrateuri", f"tcp://127.0.0.1:{link.port}")
    tap.ok(switch(source), "(switched)")
    tap.ok(wait_for(lambda: reason(target) == "running (post-copy)", 60, 0.05), "(running there)", reason(target))
    return link, migration


def kill_hv(host):
    for pid in host.hv_pids():
        os.kill(pid, signal.SIGKILL)


def ends(host, state, what):
    tap.ok(wait_for(lambda: reason(host) == state, 120, 0.1), what, f"{reason(host)}\n{host.log()[-1500:]}")


def stays_lost(host, what):
    tap.ok(host.virsh("resume g1").status != 0 and reason(host) == "paused (post-copy failed)", f"{what}: it cannot be resumed")


FAILED = "paused (post-copy failed)"


def fail_link(hosts, worker):
    source, target = hosts
    link, migration = in_postcopy(hosts, worker)
    link.cut()
    ends(source, FAILED, "link: the source waits")
    ends(target, FAILED, "link: so does the destination")
    tap.ok(migration.finished()[0] != 0, "link: virsh says so", migration.result)
    tap.ok(not worker.wait_for_tick(3), "link: nobody runs it")
    stays_lost(source, "link, source")
    stays_lost(target, "link, destination")
    for host in hosts:
        host.stop()
        host.start()
        tap.equal(reason(host), FAILED, "link: a new daemon has it so, too")


def fail_source(hosts, worker):
    source, target = hosts
    _, migration = in_postcopy(hosts, worker)
    kill_hv(source)
    ends(target, FAILED, "source killed: the destination waits")
    tap.ok(migration.finished()[0] != 0 and not worker.wait_for_tick(3), "source killed: nobody runs it", migration.result)
    tap.ok(wait_for(lambda: not source.hv_pids(), 30), "source killed: nothing is left of it")
    stays_lost(target, "source killed")


def fail_destination(hosts, worker):
    source, target = hosts
    _, migration = in_postcopy(hosts, worker)
    kill_hv(target)
    ends(source, FAILED, "destination killed: the source waits")
    tap.ok(migration.finished()[0] != 0 and not worker.wait_for_tick(3), "destination killed: nobody runs it", migration.result)
    stays_lost(source, "destination killed")


def restart(host):
    host.daemon.kill()
    host.daemon.wait()
    host.start()


def survives(hosts, worker, who, disturb):
    """Post-copy is the hypervisors' own: it goes on without clients and daemons."""
    source, target = hosts
    _, migration = in_postcopy(hosts, worker)
    disturb(migration)
    tap.ok(wait_for(lambda: "Memory remaining" in source.virsh("domjobinfo g1").out, 30), f"{who}: it goes on")
    source.virsh("migrate-setspeed g1 0 --postcopy")
    migration.finished()
    ends(target, "running (migrated)", f"{who}: it arrives nevertheless")
    tap.ok(wait_for(lambda: not source.hv_pids(), 60), f"{who}: and ends at the source", reason(source))
    correct(worker, who)


def clean(hosts):
    for host in hosts:
        host.virsh("destroy g1")
        tap.ok(wait_for(lambda: not host.hv_pids(), 30), "(nothing is left)", host.hv_pids())


def test_failures(hosts, worker, initrd):
    source, target = hosts
    rows = (fail_link, fail_source, fail_destination,
            lambda h, w: survives(h, w, "virsh killed", lambda m: m.virsh.kill()),
            lambda h, w: survives(h, w, "source's daemon restarted", lambda m: restart(source)),
            lambda h, w: survives(h, w, "destination's daemon restarted", lambda m: restart(target)))
    for row in rows:
        tap.equal(create(source, initrd, 1).status, 0, "create")
        tap.ok(worker.wait_for_tick(300), "it works")
        row(hosts, worker)
        clean(hosts)


# ---- a guest with a disk and a connection

def test_traveller():
    with traveller.Peer() as a, traveller.Peer() as b:
        image = f"{a.root}/disk.img"
        with open(image, "wb") as f:
            f.truncate(64 * MIB)
        traveller.boot(a, image)
        ticks = traveller.Ticks()
        for source, target, p2p in ((a, b, ()), (b, a, ("--p2p",))):
            uri = target.peer if p2p else target.uri
            source.virsh("migrate-setspeed g1 2")
            virsh = subprocess.Popen(["virsh", "-c", source.uri, "migrate", "--live", "--postcopy", "--persistent",
                                      "--undefinesource", *p2p, "g1", uri, "--migrateuri", "tcp://127.0.0.1"],
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            tap.ok(switch(source), "a guest with disk and network is switched")
            out = virsh.communicate()[0]
            tap.equal(virsh.returncode, 0, f"it arrives {' '.join(p2p)}") or tell(out, a, b)
            tap.equal(reason(target), "running (migrated)", "and runs there")
            traveller.check(target, ticks, f"after post-copy {' '.join(p2p)}")
        a.virsh("destroy g1")


def main():
    netns.enter()
    netns.make_bridge(BRIDGE, [f"{traveller.HOST_IP}/24"])
    parts = sys.argv[1:] or ["switch", "failures", "traveller"]
    with tempfile.TemporaryDirectory(prefix="domus-postcopy-") as folder, traveller.Peer() as a, traveller.Peer() as b:
        worker = Worker()
        initrds = {n: make_ramdisk(folder, f"{guest_files()}/initrd.gz", "hvc0", n, FILL_MIB, DIRTY_MIB, f"{n}.gz") for n in (1, 2)}
        for vcpus in (1, 2) if "switch" in parts else ():
            hosts = [a, b]
            tap.equal(create(a, initrds[vcpus], vcpus).status, 0, f"{vcpus} vCPUs: create")
            tap.ok(worker.wait_for_tick(300), "it works")
            test_switch(hosts, worker, vcpus)
            test_switch(hosts, worker, vcpus)
            if vcpus == 2:
                test_states(hosts, worker)
                test_ways(hosts, worker)
                test_refused(hosts, worker)
            clean(hosts)
        if "failures" in parts:
            test_failures([a, b], worker, initrds[1])
        worker.close()
    if "traveller" in parts:
        test_traveller()
    tap.done()


main()
