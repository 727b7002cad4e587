#!/usr/bin/python3
"""Backups that are read by TLS: clients and server show certificates, and nobody else reads anything.

Stock virsh; libnbd's programs and qemu-img as clients.
"""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from disks import define, disk, good, make, qemu_img
from host import wait_for
from remote import Pki, RemoteHost, free_port

MIB = 1 << 20
SETTINGS = "[tls]\nbackup_tls_x509_cert_dir = \"{root}/certificates\"\n"


def install(pki, folder, kind, name="localhost"):
    """By the names that QEMU and libnbd have for them."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    shutil.copy(pki.cert, f"{folder}/ca-cert.pem")
    pki.issue(f"{folder}/{kind}-key.pem", f"{folder}/{kind}-cert.pem", name, f"tls_www_{kind}")
    return folder


def begin(host, port, options="tls='yes'", server="name='localhost'"):
    text = f"<domainbackup mode='pull'><server transport='tcp' {options} {server} port='{port}'/><disks>" \
        "<disk name='xvda' type='file' exportname='disk'/></disks></domainbackup>"
    return host.virsh_args("backup-begin", "t", host.write_xml(text, "backup.xml"))


def nothing_left(host, what):
    tap.contains(host.virsh("backup-dumpxml t").err, "no domain backup job present", f"{what}: there is no backup")
    tap.ok(wait_for(lambda: len(host.processes("qemu-storage-daemon")) == 1, 20), f"{what}: no server is left")
    tap.ok(not [name for name in os.listdir(host.root) if "scratch" in name], f"{what}: nor a scratch image")


def client(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)


def refused(what, *argv):
    result = client(*argv)
    tap.ok(result.returncode != 0, f"refused: {what}", result.stdout)


def serve(host, pki, other, image):
    port = free_port()
    result = begin(host, port)
    tap.equal(result.status, 0, "backup-begin with TLS") or tap.note(result)
    tap.contains(good(host, "backup-dumpxml t"), "tls='yes'", "backup-dumpxml")
    mine, theirs = install(pki, f"{host.root}/mine", "client"), install(other, f"{host.root}/theirs", "client")
    shutil.copy(pki.cert, f"{theirs}/ca-cert.pem")
    uri = f"nbds://localhost:{port}/disk?tls-certificates="
    out = f"{host.root}/out"
    copied = client("nbdcopy", uri + mine, out)
    tap.ok(copied.returncode == 0, "nbdcopy with a certificate", copied.stdout)
    with open(out, "rb") as f, open(image, "rb") as g:
        tap.ok(f.read() == g.read(), "has what is on the disk")
    converted = client("qemu-img", "convert", "--object", f"tls-creds-x509,id=tls,endpoint=client,dir={mine}", "--image-opts",
                       f"driver=nbd,host=localhost,port={port},export=disk,tls-creds=tls", "-O", "raw", out)
    tap.ok(converted.returncode == 0, "so does qemu-img", converted.stdout)
    refused("a certificate of another authority", "nbdinfo", uri + theirs)
    for name in ("client-cert.pem", "client-key.pem"):
        os.unlink(f"{theirs}/{name}")
    refused("no certificate", "nbdinfo", uri + theirs)
    refused("a client without TLS", "nbdinfo", f"nbd://localhost:{port}/disk")
    shutil.copy(other.cert, f"{mine}/ca-cert.pem")
    refused("by the client: a server of another authority", "nbdinfo", uri + mine)
    shutil.copy(pki.cert, f"{mine}/ca-cert.pem")
    tap.ok(client("nbdinfo", uri + mine).returncode == 0, "it serves on")
    good(host, "domjobabort t")
    nothing_left(host, "domjobabort")


def main():
    if not shutil.which("certtool"):
        tap.skip_all("no certtool here")
    with RemoteHost(SETTINGS) as host:
        pki, other = Pki(f"{host.root}/ca"), Pki(f"{host.root}/other", "other CA")
        image, own = make(host, "t.raw", "raw"), f"{host.root}/certificates"
        with open(image, "r+b") as f:
            f.write(b"domus" * MIB)
        define(host, "t", disk(image, "xvda", "raw") + disk(make(host, "t.qcow2"), "xvdb"))
        good(host, "start t --paused")
        result = begin(host, free_port())
        tap.ok(result.status and f"{own}/ca-cert.pem" in result.err, "refused: TLS without certificates, by name", result)
        nothing_left(host, "no certificates")
        install(pki, own, "server")
        with open(f"{own}/server-key.pem", "w") as f:
            f.write("nonsense\n")
        result = begin(host, free_port())
        tap.ok(result.status and "server-key.pem" in result.err, "refused: a key that is none, by name", result)
        nothing_left(host, "a key that is none")
        install(pki, own, "server")
        result = begin(host, free_port(), server=f"socket='{host.root}/s'", options="tls='yes'")
        tap.ok(result.status, "refused: a UNIX socket, and TCP", result)
        serve(host, pki, other, image)
        host.restart(SETTINGS + "backup_tls_x509_verify = 0\n")
        port = free_port()
        tap.equal(begin(host, port).status, 0, "a server that wants no certificates")
        tap.ok(client("nbdinfo", f"nbds://localhost:{port}/disk?tls-certificates={host.root}/theirs").returncode == 0,
               "gives its data to those without")
        good(host, "destroy t")
        tap.ok(wait_for(lambda: not host.processes("qemu-storage-daemon"), 20), "it ends with the domain")
    tap.done()


main()
