#!/usr/bin/python3
"""SASL with stock virsh: passwords (SCRAM) over UNIX sockets and TLS, a layer that encrypts (DIGEST-MD5, and GSSAPI with a
Kerberos server of the test's own) over plain TCP, and who is refused."""
import contextlib
import os
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import wait_for
from remote import Pki, RemoteHost, free_port

UNIX = """[authentication]
auth_unix_rw = "sasl"
sasl_allowed_username_list = [ "al*" ]
"""
NETWORK = """[sockets]
listen_addr = "127.0.0.1"
listen_tls = 1
tls_port = {tls}
listen_tcp = 1
tcp_port = {tcp}
[authentication]
auth_tls = "sasl"
[tls]
tls_no_verify_certificate = 1
"""


KERBEROS = """[sockets]
listen_tcp = 1
tcp_port = {tcp}
[authentication]
sasl_allowed_username_list = [ "carol*" ]
"""


def server_name():
    """As the SASL library finds it: the realm of users, and the host in the server's Kerberos name."""
    return socket.getaddrinfo(socket.gethostname(), None, flags=socket.AI_CANONNAME)[0][3] or socket.gethostname()


def mechanisms(host, names, more=""):
    os.makedirs(f"{host.root}/etc/sasl2", exist_ok=True)
    with open(f"{host.root}/etc/sasl2/libvirt.conf", "w") as f:
        f.write(f"mech_list: {names}\nsasldb_path: {host.root}/passwd.db\n{more}")


def add_user(host, name, password):
    subprocess.run(["saslpasswd2", "-p", "-c", "-a", "libvirt", "-f", f"{host.root}/passwd.db", "-u", server_name(),
                    name], input=password, text=True, check=True)


def credentials(host, name, password):
    path = f"{host.root}/auth-{name}-{password}"
    with open(path, "w") as f:
        f.write(f"[credentials-x]\nauthname={name}\npassword={password}\n"
                "[auth-libvirt-default]\ncredentials=x\n")
    return path


def prepare(host):
    mechanisms(host, "scram-sha-256")
    for name in ("alice", "bob"):
        add_user(host, name, f"{name}'s")
    os.environ["LIBVIRT_AUTH_FILE"] = credentials(host, "alice", "alice's")


def virsh(host, uri, command, name="alice", password="alice's"):
    os.environ["LIBVIRT_AUTH_FILE"] = credentials(host, name, password)
    try:
        return host.at(uri, command)
    finally:
        os.environ["LIBVIRT_AUTH_FILE"] = credentials(host, "alice", "alice's")


def refused(result, why, name):
    tap.ok(result.status == 1 and why in result.err, name, result)


def unix(host):
    tap.equal(virsh(host, host.uri, "list").status, 0, "SCRAM-SHA-256 on a UNIX socket")
    refused(virsh(host, host.uri, "list", password="wrong"), "authentication failed", "a wrong password is refused")
    refused(virsh(host, host.uri, "list", "bob", "bob's"), "'bob' is not on the list",
            "so is a user who is not on the list")
    refused(virsh(host, host.uri, "list", "nobody", "x"), "authentication failed", "so is one that is not known")
    refused(virsh(host, f"{host.uri}&auth=sasl.ANONYMOUS", "list"), "auth", "so is another mechanism")


def network(host):
    tls = f"xen+tls://localhost:{host.tls}/system?pkipath={host.root}/client"
    tcp = f"xen+tcp://localhost:{host.tcp}/system"
    tap.equal(virsh(host, tls, "list").status, 0, "SCRAM-SHA-256 over TLS")
    refused(virsh(host, tls, "list", password="wrong"), "authentication failed", "a wrong password is refused there too")
    refused(virsh(host, tcp, "list"), "no SASL mechanism that can encrypt", "SCRAM is not offered over plain TCP")

    mechanisms(host, "digest-md5")
    host.restart(NETWORK)
    tap.equal(virsh(host, tcp, "list").status, 0, "DIGEST-MD5 over plain TCP")
    text = "secret " * 40000
    xml = host.write_xml(f"<domain type='xen'><name>t1</name><description>{text}</description><memory>65536</memory>"
                         "<os><type>xenpvh</type><kernel>/vmlinuz</kernel></os></domain>")
    tap.equal(virsh(host, tcp, f"define {xml}").status, 0, "long messages go in through its layer")
    tap.ok(virsh(host, tcp, "desc t1").out.strip() == text.strip(), "and out")
    refused(virsh(host, tcp, "list", password="wrong"), "authentication failed", "a wrong password is refused")
    plain = raw_call(host.tcp)
    tap.ok(plain, "a call in clear is refused", plain)
    virsh(host, tcp, "undefine t1")


def raw_call(port):
    """Without authentication: procedure 1, with no name and no flags."""
    call = bytes.fromhex("00000024 20008086 00000001 00000001 00000000 00000000 00000000 00000000 00000000")
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.settimeout(20)
        peer.sendall(call)
        return b"authentication required" in peer.recv(1000)


# -- Kerberos

KRB5 = """[libdefaults]
 default_realm = DOMUS.TEST
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
[realms]
 DOMUS.TEST = {{
  kdc = 127.0.0.1:{port}
 }}
"""
KDC = """[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 DOMUS.TEST = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  acl_file = {folder}/acl
 }}
[logging]
 kdc = FILE:{folder}/kdc.log
"""


class Kerberos:
    def __init__(self, folder):
        os.makedirs(folder)
        values = {"port": free_port(), "folder": folder}
        self.folder = folder
        for name, text in (("krb5.conf", KRB5), ("kdc.conf", KDC)):
            with open(f"{folder}/{name}", "w") as f:
                f.write(text.format(**values))
        self.environ = {"KRB5_CONFIG": f"{folder}/krb5.conf", "KRB5_KDC_PROFILE": f"{folder}/kdc.conf",
                        "KRB5CCNAME": f"FILE:{folder}/cache", "KRB5_KTNAME": f"FILE:{folder}/keytab"}
        self.run("kdb5_util", "create", "-s", "-P", "master")
        self.run("kadmin.local", "-q", f"addprinc -randkey libvirt/{server_name()}")
        self.run("kadmin.local", "-q", f"ktadd -k {folder}/keytab libvirt/{server_name()}")
        self.run("kadmin.local", "-q", "addprinc -pw pw carol")
        self.kdc = subprocess.Popen(["krb5kdc", "-n"], env=dict(os.environ, **self.environ), stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL)
        wait_for(lambda: self.run("kinit", "carol", stdin="pw\n").returncode == 0)

    def run(self, *argv, stdin=""):
        return subprocess.run(argv, input=stdin, env=dict(os.environ, **self.environ), capture_output=True, text=True)

    def close(self):
        self.kdc.terminate()
        self.kdc.wait()


def kerberos():
    if not shutil.which("krb5kdc") or not os.path.exists("/usr/lib/x86_64-linux-gnu/sasl2/libgssapiv2.so"):
        tap.skip("no Kerberos server or no GSSAPI for SASL here")
        return
    with RemoteHost(KERBEROS, start=False) as host:
        realm = Kerberos(f"{host.root}/krb5")
        with contextlib.closing(realm):
            mechanisms(host, "gssapi", f"keytab: {realm.folder}/keytab\n")
            host.environ = realm.environ
            host.start()
            os.environ.update(realm.environ)
            # The server proves to be of its own name, so that is what a client has to ask for.
            tcp = f"xen+tcp://{server_name()}:{host.tcp}/system"
            result = host.at(tcp, "list --all")
            tap.equal(result.status, 0, "GSSAPI over plain TCP") or tap.note(result)
            os.environ["KRB5CCNAME"] = f"FILE:{realm.folder}/none"
            tap.ok(host.at(tcp, "list").status != 0, "without a ticket it fails")
            for key in realm.environ:
                del os.environ[key]


def main():
    if not shutil.which("saslpasswd2") or not shutil.which("certtool"):
        tap.skip_all("no saslpasswd2 (sasl2-bin) or certtool (gnutls-bin) here")
    with RemoteHost(UNIX, prepare) as host:
        unix(host)
        host.stop()
        pki = Pki(f"{host.root}/etc/pki/CA")
        os.makedirs(f"{host.root}/etc/pki/libvirt/private")
        pki.issue(f"{host.root}/etc/pki/libvirt/private/serverkey.pem",
                  f"{host.root}/etc/pki/libvirt/servercert.pem", "localhost", "tls_www_server")
        pki.client(f"{host.root}/client", "alice")
        host.configure(NETWORK)
        host.start()
        network(host)
    kerberos()
    tap.done()


main()
