#!/usr/bin/python3
"""Migration with TLS by stock virsh: nothing of the guest goes over the network in plain, both hosts show certificates, and whom
the other one does not accept gets no guest.

As root, in a network namespace of its own, as tests/migrate.t.
"""
import os
import shutil
import socket
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from host import wait_for
from remote import Pki, install_pki
from traveller import BRIDGE, HOST_IP, MIB, Peer, Ticks, boot, check

# What a stream begins with, a connection for a disk, and what is on that.
MAGICS = (b"DomusHV\0", b"DomusDK\0", b"NBDMAGIC")
ETH_P_IP = 0x0800


class Wire(threading.Thread):
    """Whether any of that is seen on the loopback."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        self.socket.bind(("lo", 0))
        self.socket.settimeout(0.2)
        self.seen = self.ended = False
        self.start()

    def run(self):
        while not self.ended:
            try:
                data = self.socket.recv(65535)
                self.seen = self.seen or any(magic in data for magic in MAGICS)
            except TimeoutError:
                pass

    def end(self):
        self.ended = True
        self.join()
        self.socket.close()
        return self.seen


def migrate(source, target, options="", uri="tcp://localhost"):
    where = target.peer if "--p2p" in options else target.uri
    return source.virsh(f"migrate --live --persistent --undefinesource {options} g1 {where} --migrateuri {uri}")


def refused(source, target, ticks, what, reason, options="--tls", uri="tcp://localhost"):
    result = migrate(source, target, options, uri)
    tap.ok(result.status != 0 and reason in result.err, f"refused: {what}", result)
    tap.ok(wait_for(lambda: source.state("g1") == "running", 10), f"{what}: the guest goes on here", source.virsh("list --all").out)
    tap.ok(wait_for(lambda: not target.virsh("list --all --name").out.strip() and not target.hv_pids(), 20),
           f"{what}: and nothing is left there")
    seen = ticks.last
    tap.ok(wait_for(lambda: ticks.last > seen, 30) and not ticks.wrong and not ticks.ended, f"{what}: its connections go on")


def hop(source, target, ticks, what, options="--tls", uri="tcp://localhost", plain=False):
    wire = Wire()
    result = migrate(source, target, options, uri)
    tap.equal(result.status, 0, f"{what}: migrate") or tap.note(result)
    tap.equal(wire.end(), plain, f"{what}: on the wire it is {'' if plain else 'not '}in plain")
    tap.equal(target.state("g1"), "running", f"{what}: it runs there")
    tap.contains(source.virsh("domstate g1").err, "failed to get domain", f"{what}: and is gone here")
    check(target, ticks, what)


netns.enter()
netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
with Peer() as a, Peer() as b:
    image = f"{a.root}/shared.img"
    with open(image, "wb") as f:
        f.truncate(64 * MIB)
    boot(a, image)
    ticks = Ticks()
    pki, other = Pki(f"{a.root}/ca"), Pki(f"{a.root}/other", "test CA")
    refused(a, b, ticks, "without certificates", "Cannot read CA certificate")
    install_pki(b, pki)
    refused(a, b, ticks, "without one of the source", f"Cannot read CA certificate '{a.root}/etc/pki/CA/cacert.pem'")
    install_pki(a, other)
    refused(a, b, ticks, "a destination of another authority", "the server's certificate is not accepted")
    shutil.copy(pki.cert, f"{a.root}/etc/pki/CA/cacert.pem")
    refused(a, b, ticks, "a source of another authority", "does not accept this host's certificate")
    tap.contains(b.log(), "the client's certificate is not accepted", "which the destination's log tells")
    install_pki(a, pki)
    refused(a, b, ticks, "a name that is not the destination's", "not accepted for host 'elsewhere'", "--tls --tls-destination elsewhere")
    hop(a, b, ticks, "without TLS", "", plain=True)
    hop(b, a, ticks, "with it")
    hop(a, b, ticks, "by another name", "--tls --tls-destination localhost", f"tcp://{HOST_IP}")
    hop(b, a, ticks, "peer to peer", "--tls --p2p")
    there = a.write_xml(a.virsh("dumpxml --migratable g1").out.replace(image, f"{b.root}/copy.img"), "there.xml")
    hop(a, b, ticks, "with its disk", f"--tls --copy-storage-all --xml {there}")
    tap.contains(b.virsh("domblklist g1").out, f"{b.root}/copy.img", "with its disk: which was copied")
    back = b.write_xml(b.virsh("dumpxml --migratable g1").out.replace(f"{b.root}/copy.img", f"{a.root}/back.img"), "back.xml")
    hop(b, a, ticks, "over several connections", f"--tls --parallel --parallel-connections 3 --copy-storage-all --xml {back}")
    tap.contains(a.virsh("domblklist g1").out, f"{a.root}/back.img", "over several connections: its disk was copied")
    tap.equal(a.virsh("destroy g1").status, 0, "destroy")
    a.virsh("undefine g1")
tap.done()
