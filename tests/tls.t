#!/usr/bin/python3
"""TLS with stock virsh: certificates of clients, names that are allowed, and what a peer that stalls can do."""
import os
import shutil
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import wait_for
from remote import Pki, RemoteHost

SETTINGS = """[sockets]
listen_tls = 1
listen_addr = "127.0.0.1"
tls_port = "{tls}"
[clients]
auth_timeout = 2
max_anonymous_clients = 3
[tls]
"""


def prepare(host):
    host.pki = Pki(f"{host.root}/etc/pki/CA")
    os.makedirs(f"{host.root}/etc/pki/libvirt/private")
    host.pki.issue(f"{host.root}/etc/pki/libvirt/private/serverkey.pem",
                   f"{host.root}/etc/pki/libvirt/servercert.pem", "localhost", "tls_www_server")
    host.alice = host.pki.client(f"{host.root}/alice", "alice")
    host.bob = host.pki.client(f"{host.root}/bob", "bob")
    host.mallory = Pki(f"{host.root}/other", "test CA").client(f"{host.root}/mallory", "mallory")
    shutil.copy(host.pki.cert, f"{host.mallory}/cacert.pem")  # so that she accepts the server


def uri(host, who, name="localhost"):
    return f"xen+tls://{name}:{host.tls}/system?pkipath={who}"


def certificates(host):
    result = host.at(uri(host, host.alice), "uri")
    tap.equal(result.out.strip(), f"xen+tls://localhost:{host.tls}/system?pkipath={host.alice}",
              "a client with a certificate is let in") or tap.note(result)
    big = "x" * 300000
    xml = host.write_xml(f"<domain type='xen'><name>t1</name><description>{big}</description><memory>65536</memory>"
                         "<os><type>xenpvh</type><kernel>/vmlinuz</kernel></os></domain>")
    tap.equal(host.at(uri(host, host.alice), f"define {xml}").status, 0, "and may write")
    tap.contains(host.at(uri(host, host.bob), "dumpxml t1").out, "<name>t1</name>", "so may another")
    tap.ok(host.at(uri(host, host.mallory) + "&no_sanity=1", "list").status != 0, "one that a CA of the same name signed may not")
    tap.contains(host.log(), "the client's certificate is not accepted", "and the log says why")
    tap.equal(len(host.at(uri(host, host.bob), "desc t1").out.strip()), len(big),
              "messages of many records go both ways")


def no_certificate(host):
    bare = f"{host.root}/bare"
    os.makedirs(bare)
    shutil.copy(host.pki.cert, bare)
    tap.ok(host.at(uri(host, bare), "list").status != 0, "a client without a certificate is refused")
    host.restart(SETTINGS + "tls_no_verify_certificate = 1\n")
    tap.equal(host.at(uri(host, bare), "list").status, 0, "unless the settings ask for none")


def names(host):
    host.restart(SETTINGS + 'tls_allowed_dn_list = [ "CN=nobody", "O=Domus,CN=al*" ]\n')
    tap.equal(host.at(uri(host, host.alice), "list").status, 0, "a name that matches the list is let in")
    tap.ok(host.at(uri(host, host.bob), "list").status != 0, "another is not")
    tap.contains(host.log(), "distinguished name 'O=Domus,CN=bob' is not on the list", "and the log has its name")
    host.restart(SETTINGS + 'tls_priority = "NORMAL:-VERS-TLS1.3"\n')
    tap.equal(host.at(uri(host, host.alice), "list").status, 0, "TLS 1.2 works as well")


def stalling(host):
    """Peers that connect and say nothing, or no TLS, take the places of the unauthenticated for a while only."""
    peers = [socket.create_connection(("127.0.0.1", host.tls)) for _ in range(6)]
    peers[0].sendall(b"\0\0\0\x1c\x20\x00\x80\x86" * 4)
    start = time.monotonic()
    tap.equal(host.virsh("list").status, 0, "others are served while handshakes stall")
    for peer in peers:
        peer.settimeout(20)

    def ended(peer):
        try:
            return peer.recv(1000) is not None
        except ConnectionError:
            return True

    tap.ok(all(ended(peer) for peer in peers), "handshakes that stall are given up")
    tap.ok(time.monotonic() - start > 1.5, "not before their time is over")
    for peer in peers:
        peer.close()
    tap.ok(wait_for(lambda: host.at(uri(host, host.alice), "list").status == 0), "and then there is room again")


def bad_files(host):
    """What is wrong with the server's own files is told at its start."""
    cert = f"{host.root}/etc/pki/libvirt/servercert.pem"
    cases = (
        ("Cannot read server certificate", lambda: os.unlink(cert)),
        ("is not for TLS servers", lambda: shutil.copy(f"{host.alice}/clientcert.pem", cert)),
        ("was not signed by the CA certificate", lambda: host_other.issue(f"{host.root}/k", cert, "x", "tls_www_server")),
        ("cannot use server certificate", lambda: open(cert, "w").write("rubbish")),
    )
    host_other = Pki(f"{host.root}/third", "third CA")
    host.stop()
    shutil.copy(cert, f"{host.root}/aside")
    for what, damage in cases:
        damage()
        result = host.client(*daemon_command(host))
        tap.ok(result.status == 1 and what in result.err, f"a start with bad files fails: {what}", result)
    shutil.copy(f"{host.root}/aside", cert)
    host.start()


def daemon_command(host):
    import host as host_module
    return [host_module.program("domusd"), "--root", host.root]


def main():
    if not shutil.which("certtool"):
        tap.skip_all("no certtool (gnutls-bin) here")
    with RemoteHost(SETTINGS, prepare) as host:
        certificates(host)
        no_certificate(host)
        names(host)
        stalling(host)
        bad_files(host)
        host.virsh("undefine t1")
    tap.done()


main()
