#!/usr/bin/python3
"""Peer-to-peer migration by stock virsh, and migration of definitions (--offline): the daemons do what the client does
otherwise, with the same options and the same errors; a destination that does not answer holds nobody up for ever, and can
be given up.
"""
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from host import wait_for
from remote import free_port
from traveller import BRIDGE, HOST_IP, MIB, Peer, Ticks, boot, check


def migrate(source, target_uri, options, name="g1", seconds=120):
    return source.virsh(f"migrate {options} {name} '{target_uri}' --migrateuri tcp://127.0.0.1", seconds=seconds)


def hop(source, target, ticks, what, options="--live --verbose --persistent --undefinesource"):
    result = migrate(source, target.peer, f"--p2p {options}")
    tap.equal(result.status, 0, f"{what}: migrate --p2p") or tap.note(result)
    tap.equal(target.state("g1"), "running", f"{what}: it runs there")
    tap.contains(source.virsh("domstate g1").err, "failed to get domain", f"{what}: and is gone here")
    check(target, ticks, what)
    tap.ok(not source.processes("domus-migrate"), f"{what}: nothing is left of what moved it")


def errors(source, target):
    """They come back as they are."""
    text = target.xml(name="g1", uuid="11111111-2222-3333-4444-555555555555")
    target.virsh_args("define", target.write_xml(text, "clash.xml"))
    direct, p2p = migrate(source, target.uri, "--live"), migrate(source, target.peer, "--live --p2p")
    tap.ok(p2p.status != 0 and p2p.err == direct.err, "a name that is taken there: the same error", f"{direct}\n{p2p}")
    target.virsh("undefine g1")
    nowhere = migrate(source, f"xen+tcp://127.0.0.1:{free_port()}/system", "--live --p2p")
    tap.ok(nowhere.status != 0 and "Connection refused" in nowhere.err, "a destination that is not there", nowhere)
    tap.equal(source.state("g1"), "running", "the guest goes on")
    tap.equal(target.virsh("list --all --name").out.strip(), "", "nothing is left at the destination")


def silent(source):
    """A destination that takes connections and does not say a word, for more calls than there are workers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        uri = f"xen+tcp://127.0.0.1:{listener.getsockname()[1]}/system"
        results = []
        threads = [threading.Thread(target=lambda: results.append(migrate(source, uri, "--live --p2p"))) for _ in range(6)]
        for thread in threads:
            thread.start()
        tap.ok(wait_for(lambda: "Outgoing migration" in source.virsh("domjobinfo g1").out, 20), "domjobinfo knows of it")
        tap.ok(wait_for(lambda: len(results) == 5, 20), "five of six at once are refused", results)
        tap.ok(all("is being migrated already" in r.err for r in results), "because it is being migrated", results)
        tap.equal(source.virsh("dommemstat g1").status, 0, "others are served meanwhile")
        tap.equal(source.virsh("domrename g1 g9").status != 0 and "active" in source.virsh("domrename g1 g9").err, True,
                  "the domain's job is free")
        begin = time.monotonic()
        tap.equal(source.virsh("domjobabort g1").status, 0, "domjobabort")
        for thread in threads:
            thread.join(20)
        tap.ok(time.monotonic() - begin < 10 and "canceled by client" in results[-1].err, "ends it at once", results[-1])
    tap.contains(source.virsh("domjobinfo g1").out, "None", "and no job is left")


def aborted(source, target, ticks):
    source.virsh("migrate-setspeed g1 2")
    results = []
    thread = threading.Thread(target=lambda: results.append(migrate(source, target.peer, "--live --p2p")))
    thread.start()
    tap.ok(wait_for(lambda: "Memory remaining" in source.virsh("domjobinfo g1").out, 30), "it is under way")
    tap.equal(source.virsh("domjobabort g1").status, 0, "domjobabort while memory is sent")
    thread.join(60)
    tap.ok(results and "canceled by client" in results[0].err, "ends it", results)
    tap.equal(source.state("g1"), "running", "the guest goes on")
    tap.equal(target.virsh("list --all --name").out.strip(), "", "nothing is left at the destination")
    source.virsh("migrate-setspeed g1 0")
    check(source, ticks, "after an abort")


def without_client(source, target, ticks):
    """The client is killed; the daemon goes on."""
    pid = os.fork()
    if pid == 0:
        os.execlp("virsh", "virsh", "-q", "-c", source.uri, "migrate", "--p2p", "--live", "--persistent", "--undefinesource",
                  "g1", target.peer, "--migrateuri", "tcp://127.0.0.1")
    wait_for(lambda: "Outgoing" in source.virsh("domjobinfo g1").out, 10, 0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    tap.ok(wait_for(lambda: target.state("g1") == "running", 60), "a migration whose client is lost goes on")
    tap.ok(wait_for(lambda: not source.state("g1"), 20), "to its end")
    check(target, ticks, "without a client")


def renamed(source, target):
    """Names and XML as in direct migration."""
    live = source.write_xml(source.virsh("dumpxml --migratable g1").out, "l.xml")
    inactive = source.virsh("dumpxml --inactive g1").out.replace("<on_crash>destroy", "<on_crash>preserve")
    path = source.write_xml(inactive, "p.xml")
    result = migrate(source, target.peer, f"--p2p --live --persistent --undefinesource --dname g2 --xml {live} "
                                           f"--persistent-xml {path}")
    tap.equal(result.status, 0, "--dname --xml --persistent-xml") or tap.note(result)
    tap.equal(target.state("g2"), "running", "it has another name there")
    tap.contains(target.virsh("dumpxml --inactive g2").out, "<on_crash>preserve", "and the definition that was given")
    tap.equal(source.virsh("list --all --name").out.strip(), "", "and is gone here")


def offline(source, target, what, to):
    source.virsh_args("define", source.write_xml(source.xml(name="o1"), "o1.xml"))
    uuid = source.virsh("domuuid o1").out
    result = migrate(source, to, f"{what} --offline", "o1")
    tap.ok(result.status != 0 and "persistent flag" in result.err, f"offline {what}: without --persistent", result)
    result = migrate(source, to, f"{what} --offline --persistent", "o1")
    tap.equal(result.status, 0, f"offline {what}") or tap.note(result)
    tap.equal(target.virsh("domuuid o1").out, uuid, f"offline {what}: it is defined there")
    tap.equal((source.state("o1"), target.state("o1")), ("shut off", "shut off"), f"offline {what}: and here")
    target.virsh("undefine o1")
    result = migrate(source, to, f"{what} --offline --persistent --undefinesource --dname o2", "o1")
    tap.equal(result.status, 0, f"offline {what} --undefinesource --dname") or tap.note(result)
    tap.equal(target.virsh("list --all --name").out.split(), ["o2"], f"offline {what}: it is there")
    tap.equal(source.virsh("domuuid o1").status, 1, f"offline {what}: and not here")
    target.virsh("undefine o2")


netns.enter()
netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
with Peer() as a, Peer() as b:
    offline(a, b, "", b.uri)
    offline(a, b, "--p2p", b.peer)
    image = f"{a.root}/shared.img"
    with open(image, "wb") as f:
        f.truncate(64 * MIB)
    boot(a, image)
    ticks = Ticks()
    errors(a, b)
    silent(a)
    hop(a, b, ticks, "there")
    hop(b, a, ticks, "and back")
    aborted(a, b, ticks)
    without_client(a, b, ticks)
    renamed(b, a)
    tap.equal(a.virsh("destroy g2").status, 0, "destroy")
    a.virsh("undefine g2")
tap.done()
