#!/usr/bin/python3
"""Encrypted images, with secrets from libvirt's own daemon.

As root, in a mount namespace of its own, so that the daemon there is nobody else's.
"""
import base64
import hashlib
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host
from libvirt_daemon import LibvirtDaemon, enter_namespaces

MIB = 1 << 20
PASSPHRASE = "correct horse"
RIGHT, WRONG, UNSET = (f"4dea22b3-1d52-d8f3-2516-782e98ab3fa{n}" for n in range(3))


def define_secret(daemon, uuid, usage, value):
    daemon.define("secret", f"<secret ephemeral='yes'><uuid>{uuid}</uuid><usage type='volume'><volume>{usage}</volume>"
                            "</usage></secret>")
    if value:
        daemon.virsh("secret-set-value", uuid, "--base64", base64.b64encode(value.encode()).decode())


def create_image(key, form, options, path):
    """QEMU 7.2 asks the kernel how much CPU time a first, short hashing took, and where the answer is still nothing,
    which happens on a fast host, it ends with "Unable to get accurate CPU usage". Another try has another chance."""
    command = ["qemu-img", "create", "-q", *key, "-f", form, "-o", options, path, "8M"]
    for _ in range(20):
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0:
            return
        if "accurate CPU usage" not in done.stderr:
            break
    raise RuntimeError(f"{form}: {done.stderr}")


def make_images(host, plain):
    """The same content in LUKS and in an encrypted qcow2."""
    key = ["--object", f"secret,id=s,data={PASSPHRASE}"]
    luks, qcow2 = f"{host.root}/a.luks", f"{host.root}/a.qcow2"
    create_image(key, "luks", "key-secret=s,iter-time=10", luks)
    create_image(key, "qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", qcow2)
    for options in (f"driver=luks,key-secret=s,file.filename={luks}",
                    f"driver=qcow2,encrypt.key-secret=s,file.filename={qcow2}"):
        subprocess.run(["qemu-img", "convert", *key, "-f", "raw", "-n", "--target-image-opts", plain, options], check=True)
    return luks, qcow2


def disk(path, target, form, reference):
    return f"<disk type='file'><driver type='{form}'/><source file='{path}'><encryption format='luks'>" \
           f"<secret type='passphrase' {reference}/></encryption></source><target dev='{target}'/></disk>"


def command_lines():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                yield f.read().decode(errors="replace")
        except OSError:
            pass


def refused(host, xml, *words):
    out = host.virsh_args("attach-device", "g1", host.write_xml(xml, "refused.xml"), "--live").err
    tap.ok(all(word in out for word in words), f"{words[-1]}: is told", out)


enter_namespaces(__file__)
with LibvirtDaemon("secret", "secret") as daemon, Host() as host:
    plain = f"{host.root}/plain.img"
    with open(plain, "wb") as f:
        f.write(os.urandom(8 * MIB))
    with open(plain, "rb") as f:
        wanted = hashlib.md5(f.read()).hexdigest()
    luks, qcow2 = make_images(host, plain)
    define_secret(daemon, RIGHT, "/the/right/one", PASSPHRASE)
    define_secret(daemon, WRONG, "/the/wrong/one", "battery staple")
    define_secret(daemon, UNSET, "/no/value", None)
    text = host.xml(name="g1", cmdline="console=hvc0 guest.modules").replace(
        "<console", disk(luks, "xvda", "raw", f"uuid='{RIGHT}'") +
        disk(qcow2, "xvdb", "qcow2", "usage='/the/right/one'") + "<console")
    result = host.virsh_args("define", "--validate", host.write_xml(text))
    tap.equal(result.status, 0, "define") or tap.note(result)
    result = host.virsh("start g1")
    tap.equal(result.status, 0, "start") or tap.note(result)
    tap.ok(not [line for line in command_lines() if PASSPHRASE in line and "qemu-storage" in line],
           "the passphrase is on no command line")
    console = host.console("g1")
    tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
    tap.contains(console.run("md5sum </dev/xvda") or "", wanted, "it reads the LUKS image")
    tap.contains(console.run("md5sum </dev/xvdb") or "", wanted, "and the encrypted qcow2")
    console.close()
    refused(host, disk(f"{host.root}/b.luks", "xvdc", "raw", f"uuid='{RIGHT}'"), "b.luks", "No such file")
    shutil.copy(luks, f"{host.root}/b.luks")
    refused(host, disk(f"{host.root}/b.luks", "xvdc", "raw", f"uuid='{WRONG}'"), "b.luks", "Invalid password")
    refused(host, disk(f"{host.root}/b.luks", "xvdc", "raw", f"uuid='{UNSET}'"), UNSET)
    refused(host, disk(f"{host.root}/b.luks", "xvdc", "raw", "usage='/nowhere'"), "'/nowhere'")
    refused(host, disk(plain, "xvdc", "raw", f"uuid='{RIGHT}'"), plain, "not in LUKS format")
    tap.equal(host.virsh("destroy g1").status, 0, "destroy")
tap.done()
