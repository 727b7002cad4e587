#!/usr/bin/python3
"""Migration over several connections by stock virsh: a guest under load goes back and forth over 2, 4 and 64 of them, and each page
it wrote holds what it wrote there last; encrypted, compressed and peer to peer, too. Who does not belong to it is dropped, and where
a connection breaks the guest goes on at the source.

As root, in a network namespace of its own, as tests/migrate.t.
"""
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from host import guest_files, wait_for
from remote import Pki, free_port, install_pki
from traveller import Peer
from worker import HOST_IP, Worker, make_ramdisk

BRIDGE, MAC = "domus0", "00:16:3e:12:34:62"
MEMORY_MIB, FILL_MIB, DIRTY_MIB, RATE = 256, 32, 64, 40
MANY = 64


def boot(host, worker, initrd):
    nic = f"<interface type='bridge'><mac address='{MAC}'/><source bridge='{BRIDGE}'/></interface>"
    text = host.xml(name="g1", memory_mib=MEMORY_MIB, vcpus=2, cmdline="console=hvc0 guest.modules", initrd=initrd)
    result = host.virsh_args("create", host.write_xml(text.replace("<console", nic + "<console", 1)))
    tap.equal(result.status, 0, "create") or tap.note(result)
    tap.ok(worker.wait_for_tick(300), "the guest works")


def migrate(source, target, options, uri="tcp://localhost"):
    where = target.peer if "--p2p" in options else target.uri
    return source.virsh(f"migrate --live --parallel {options} g1 {where} --migrateuri {uri}", seconds=300)


def well(worker, what):
    tap.ok(worker.wait_for_tick(60), f"{what}: the guest goes on")
    tap.equal(worker.check(), (0, 0), f"{what}: its pages and its clock are right")


class Counter(threading.Thread):
    """How many connections there were at a time from the source to that port."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.most, self.ended = port, 0, False
        self.start()

    def run(self):
        while not self.ended:
            listed = subprocess.run(["ss", "-Htn", "state", "established", f"dport = :{self.port}"], capture_output=True, text=True)
            self.most = max(self.most, len(listed.stdout.splitlines()))
            time.sleep(0.02)

    def end(self):
        self.ended = True
        self.join()
        return self.most


def hop(source, target, worker, what, options, count):
    port = free_port()
    counter = Counter(port)
    worker.ask(f"rate {RATE}")
    start = time.monotonic()
    result = migrate(source, target, options, f"tcp://localhost:{port}")
    took = time.monotonic() - start
    tap.equal(result.status, 0, f"{what}: migrate") or tap.note(f"{result} {source.log()[-1000:]} {target.log()[-1000:]}")
    tap.equal(counter.end(), count, f"{what}: over {count} connections")
    tap.equal(target.state("g1"), "running", f"{what}: it runs there")
    tap.contains(source.virsh("domstate g1").err, "failed to get domain", f"{what}: and is gone here")
    well(worker, what)
    tap.note(f"{what}: {took:.2f} s")


def refused(source, target, worker):
    for option, why in (("--parallel-connections 0", "0 parallel connections"), ("--parallel-connections 65", "65 parallel connections"),
                        ("--postcopy", "several connections"), ("--p2p --tunnelled", "TUNNELLED")):
        result = migrate(source, target, option)
        tap.ok(result.status != 0 and why in result.err, f"refused: {option}", result)
    result = source.virsh(f"migrate --live --parallel-connections 2 g1 {target.uri} --migrateuri tcp://localhost")
    tap.ok(result.status != 0 and "not parallel" in result.err, "refused: a number without --parallel", result)
    well(worker, "after refusals")


class Slow:
    """One that takes long, so that things can happen to it."""

    def __init__(self, source, target, count=4):
        self.source, self.port, self.results = source, free_port(), []
        source.virsh("migrate-setspeed g1 4")
        self.thread = threading.Thread(target=self.run, args=(target, f"--parallel-connections {count}"), daemon=True)
        self.thread.start()

    def run(self, target, options):
        self.results.append(migrate(self.source, target, options, f"tcp://localhost:{self.port}"))

    def is_sending(self):
        return wait_for(lambda: "Memory remaining" in self.source.virsh("domjobinfo g1").out, 60)

    def failed(self, target, worker, what, reason):
        self.thread.join(120)
        tap.ok(self.results and self.results[0].status != 0 and reason in self.results[0].err, f"{what}: ends it", self.results)
        tap.ok(wait_for(lambda: self.source.state("g1") == "running", 20), f"{what}: the guest runs here")
        tap.ok(wait_for(lambda: not target.virsh("list --all --name").out.strip() and not target.hv_pids(), 30),
               f"{what}: nothing is left there")
        well(worker, what)


def aborted(source, target, worker):
    slow = Slow(source, target)
    tap.ok(slow.is_sending(), "domjobinfo tells of it")
    info = source.virsh("domjobinfo g1").out
    tap.ok(re.search(r"Memory processed: +[1-9]", info) and re.search(r"Iteration: +[1-9]", info), "in true numbers", info)
    tap.equal(source.virsh("domjobabort g1").status, 0, "domjobabort")
    slow.failed(target, worker, "an abort", "canceled by client")


def broken(source, target, worker):
    slow = Slow(source, target)
    tap.ok(slow.is_sending(), "one under way")
    mine = subprocess.run(["ss", "-Htn", "state", "established", f"dport = :{slow.port}"], capture_output=True, text=True).stdout
    one = mine.splitlines()[-1].split()[2].rsplit(":", 1)[1]
    subprocess.run(["ss", "-K", f"sport = :{one}"], capture_output=True)
    slow.failed(target, worker, "a connection that breaks", "")
    tap.note(slow.results[0].err.strip() if slow.results else "")


class Strangers(threading.Thread):
    """Who comes first to where a guest is expected, and says something else, or nothing."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.silent, self.count, self.ended = port, [], 0, False
        self.start()

    def visit(self, words):
        try:
            guest = socket.create_connection(("localhost", self.port), 1)
            guest.sendall(words)
        except OSError:
            return
        self.silent.append(guest)
        self.count += 1

    def run(self):
        while not self.ended and self.count < 20:
            self.visit((b"", b"DomusHV\0" * 8, b"DomusST\0" + b"0" * 32 + b"\0\0\0\0\4\0\0\0")[self.count % 3])
            time.sleep(0.001)

    def end(self):
        self.ended = True
        self.join()
        for guest in self.silent:
            guest.close()


def with_strangers(source, target, worker):
    port = free_port()
    strangers = Strangers(port)
    result = migrate(source, target, "--parallel-connections 4", f"tcp://localhost:{port}")
    strangers.end()
    tap.equal(result.status, 0, "with strangers: migrate") or tap.note(result)
    tap.ok(strangers.count > 0, f"with strangers: {strangers.count} came")
    tap.equal(target.state("g1"), "running", "with strangers: it runs there")
    well(worker, "with strangers")


netns.enter()
netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
with tempfile.TemporaryDirectory(prefix="domus-parallel-") as folder, Peer() as a, Peer() as b:
    pki = Pki(f"{folder}/ca")
    for host in (a, b):
        install_pki(host, pki)
    worker = Worker()
    boot(a, worker, make_ramdisk(folder, f"{guest_files()}/initrd.gz", "hvc0", 2, FILL_MIB, DIRTY_MIB))
    refused(a, b, worker)
    aborted(a, b, worker)
    broken(a, b, worker)
    a.virsh("migrate-setspeed g1 0")
    hop(a, b, worker, "as many as there are if nobody says", "", 2)
    hop(b, a, worker, "four", "--parallel-connections 4", 4)
    hop(a, b, worker, "many", f"--parallel-connections {MANY}", MANY)
    hop(b, a, worker, "one", "--parallel-connections 1", 1)
    hop(a, b, worker, "peer to peer", "--p2p --parallel-connections 3", 3)
    hop(b, a, worker, "encrypted", "--tls --parallel-connections 4", 4)
    hop(a, b, worker, "compressed", "--compressed --parallel-connections 4", 4)
    with_strangers(b, a, worker)
    a.virsh("destroy g1")
tap.done()
