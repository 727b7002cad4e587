#!/usr/bin/python3
"""Peers that speak nonsense before they are authenticated: to TLS, and in AUTH messages over TCP. The daemon serves on.

Deterministic: the seed is fixed, DOMUS_FUZZ_ROUNDS changes how long it takes.
"""
import os
import random
import shutil
import socket
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from remote import Pki, RemoteHost

ROUNDS = int(os.environ.get("DOMUS_FUZZ_ROUNDS", 150))
SETTINGS = """[sockets]
listen_addr = 127.0.0.1
listen_tls = 1
tls_port = {tls}
listen_tcp = 1
tcp_port = {tcp}
[clients]
max_anonymous_clients = 1000
auth_timeout = 2
"""


def prepare(host):
    pki = Pki(f"{host.root}/etc/pki/CA")
    os.makedirs(f"{host.root}/etc/pki/libvirt/private")
    pki.issue(f"{host.root}/etc/pki/libvirt/private/serverkey.pem", f"{host.root}/etc/pki/libvirt/servercert.pem",
              "localhost", "tls_www_server")
    os.makedirs(f"{host.root}/etc/sasl2")
    with open(f"{host.root}/etc/sasl2/libvirt.conf", "w") as f:
        f.write(f"mech_list: digest-md5\nsasldb_path: {host.root}/passwd.db\n")
    subprocess.run(["saslpasswd2", "-p", "-c", "-a", "libvirt", "-f", f"{host.root}/passwd.db", "alice"], input="x",
                   text=True, check=True)


def hello():
    """What a client of TLS says first."""
    import ssl
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def damage(rand, data):
    data = bytearray(data)
    for _ in range(rand.randint(1, 4)):
        at = rand.randrange(len(data))
        choice = rand.randrange(4)
        if choice == 0:
            data[at] = rand.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif choice == 1:
            data[at] ^= 1 << rand.randrange(8)
        elif choice == 2:
            del data[at:at + rand.randint(1, 8)]
        else:
            data[at:at] = rand.randbytes(rand.randint(1, 8))
        if not data:
            return b"\0"
    return bytes(data)


def message(procedure, payload):
    return struct.pack(">7I", 28 + len(payload), 0x20008086, 1, procedure, 0, 0, 0) + payload


def text(value):
    return struct.pack(">I", len(value)) + value + b"\0" * (-len(value) % 4)


def chars(value):
    return struct.pack(">I", len(value)) + b"".join(struct.pack(">i", b - 256 if b > 127 else b) for b in value)


def conversation(rand):
    """A few AUTH messages in some order, most of them well formed."""
    noise = rand.randbytes(rand.choice((0, 1, 16, 300)))
    answer = b'username="alice",realm="",nonce="x",cnonce="y",nc=00000001,qop=auth-conf,response=0'
    choices = [message(66, b""), message(67, b""), message(70, b""), message(2, b""),
               message(68, text(rand.choice((b"DIGEST-MD5", b"PLAIN", b"", b"x" * 300))) +
                       struct.pack(">i", rand.randrange(2)) + chars(noise)),
               message(69, struct.pack(">i", rand.randrange(2)) + chars(rand.choice((noise, answer))))]
    parts = [choices[1], choices[4]] + [rand.choice(choices) for _ in range(rand.randint(0, 4))]
    if rand.randrange(3) == 0:
        parts = [damage(rand, b"".join(parts))]
    return b"".join(parts)


def throw(port, data):
    """Says it, and takes what comes until a while passes."""
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.settimeout(0.02)
        try:
            peer.sendall(data)
            while peer.recv(65536):
                pass
        except OSError:
            pass


def main():
    for program in ("certtool", "saslpasswd2"):
        if not shutil.which(program):
            tap.skip_all(f"no {program} here")
    rand = random.Random(16514)
    with RemoteHost(SETTINGS, prepare) as host:
        first = hello()
        for _ in range(ROUNDS):
            throw(host.tls, rand.randbytes(100) if rand.randrange(5) == 0 else damage(rand, first))
        tap.equal(host.virsh("list").status, 0, "served after nonsense for TLS")
        for _ in range(ROUNDS):
            throw(host.tcp, conversation(rand))
        tap.equal(host.virsh("list").status, 0, "served after nonsense for SASL")
        tap.ok(host.daemon.poll() is None, "by the same process")
    tap.done()


main()
