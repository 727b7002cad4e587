#!/usr/bin/python3
"""Checkpoints, and backups of what was written since: what comes of a chain of them is compared with the disk byte by byte.

Stock virsh and libvirt's Python bindings; qemu-img and libnbd's programs to look at what is left.
"""
import json
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Console, Host, wait_for

BLOCK = 65536


def qemu_img(*args):
    return subprocess.run(["qemu-img", *args], check=True, stdout=subprocess.PIPE, text=True).stdout


def make(host, name, form="qcow2", mib=16):
    path = f"{host.root}/{name}"
    qemu_img("create", "-q", "-f", form, path, f"{mib}M")
    return path


def disk(path, target, form="qcow2", extra=""):
    return f"<disk type='file'><driver type='{form}'/><source file='{path}'/><target dev='{target}'/>{extra}</disk>"


def define(host, name, devices):
    text = host.xml(name=name, cmdline="console=hvc0 guest.modules").replace("<console", devices + "<console")
    result = host.virsh_args("define", host.write_xml(text, f"{name}.xml"))
    tap.equal(result.status, 0, f"define {name}") or tap.note(result)


def good(host, command, name=None):
    result = host.virsh(command)
    tap.equal(result.status, 0, name or command) or tap.note(result)
    return result.out


def refused(host, command, part, name):
    result = host.virsh(command)
    tap.ok(result.status != 0 and part in result.err, f"refused: {name}", result)


def attach(host, name):
    console = host.console(name)
    tap.ok(console.prompt(), f"{name}: the guest answers", console.text[-2000:])
    console.run("dmesg -n 1")
    return console


def boot(host, name):
    good(host, f"start {name}")
    return attach(host, name)


def write(console, letter, target="xvda", at=0):
    """A block of 64 KiB, on the disk when it returns."""
    out = console.run(f"head -c {BLOCK} /dev/zero | tr '\\0' {letter} | dd of=/dev/{target} bs=64k seek={at} conv=fsync "
                      "2>/dev/null && echo fi''ne")
    tap.ok(out and "fine" in out, f"the guest writes {letter} to block {at} of {target}", out)


def checkpoints(host, name, *options):
    return host.virsh(f"checkpoint-list {name} --name {' '.join(options)}").out.split()


def bitmaps(path):
    """Those that an image that nobody uses has, and whether they can be used."""
    data = json.loads(qemu_img("info", "-U", "--output=json", path))["format-specific"]["data"]
    return {one["name"]: one["flags"] == ["auto"] for one in data.get("bitmaps", [])}


def sizes(host, name, checkpoint):
    return [int(size) for size in re.findall(r"size='(\d+)'", good(host, f"checkpoint-dumpxml {name} {checkpoint} --size"))]


def tree(host):
    """virsh's commands, on a tree of three."""
    one, raw = make(host, "t.qcow2"), make(host, "t.raw", "raw")
    define(host, "t", disk(one, "xvda") + disk(raw, "xvdb", "raw"))
    refused(host, "checkpoint-create-as t c0", "inactive domain", "of a domain that does not run")
    console = boot(host, "t")
    refused(host, "checkpoint-create-as t c0", "'xvdb' unsupported for storage type raw", "of a raw disk, by name")
    tap.equal(checkpoints(host, "t"), [], "nothing is left of that")
    refused(host, "checkpoint-create-as t c0 --diskspec xvdz", "no disk named 'xvdz'", "of a disk that is not there")
    refused(host, "checkpoint-create-as t c/0 --diskspec xvda", "invalid checkpoint name", "a name that cannot be")
    refused(host, "checkpoint-create-as t c0 --diskspec xvda,checkpoint=bitmap,bitmap=domus-x", "cannot be called", "a name of ours")
    good(host, "checkpoint-create-as t c1 'the first' --diskspec xvda")
    refused(host, "checkpoint-create-as t c1 --diskspec xvda", "c1 already exists", "a second of the name")
    write(console, "a", at=0)
    good(host, "checkpoint-create-as t c2 --diskspec xvda --diskspec xvdb,checkpoint=no")
    write(console, "b", at=1)
    write(console, "c", at=2)
    xml = "<domaincheckpoint><name>c3</name><disks><disk name='xvda' bitmap='other'/></disks></domaincheckpoint>"
    result = host.virsh_args("checkpoint-create", "t", host.write_xml(xml, "c3.xml"))
    tap.equal(result.status, 0, "checkpoint-create of a file") or tap.note(result)
    tap.equal(checkpoints(host, "t", "--topological"), ["c1", "c2", "c3"], "checkpoint-list")
    tap.equal(checkpoints(host, "t", "--roots"), ["c1"], "--roots")
    tap.equal(checkpoints(host, "t", "--leaves"), ["c3"], "--leaves")
    tap.equal(checkpoints(host, "t", "--from c1"), ["c2"], "--from")
    tap.equal(checkpoints(host, "t", "--from c1 --descendants"), ["c2", "c3"], "--descendants")
    tap.equal(good(host, "checkpoint-parent t c2").strip(), "c1", "checkpoint-parent")
    refused(host, "checkpoint-parent t c1", "has no parent", "the parent of the root")
    tap.ok(re.search(r"Parent: +c1\nChildren: +1\nDescendants: +1", good(host, "checkpoint-info t c2")), "checkpoint-info")
    text = good(host, "checkpoint-dumpxml t c2")
    tap.ok(re.search(r"<name>c2</name>\n +<parent>\n +<name>c1</name>\n +</parent>\n +<creationTime>\d+</creationTime>\n +<disks>\n"
                     r" +<disk name='xvda' checkpoint='bitmap' bitmap='c2'/>\n +<disk name='xvdb' checkpoint='no'/>\n +</disks>\n"
                     r" +<domain type='xen'>", text), "checkpoint-dumpxml", text)
    tap.ok("<domain " not in good(host, "checkpoint-dumpxml t c2 --no-domain"), "--no-domain")
    tap.contains(good(host, "checkpoint-dumpxml t c1"), "<description>the first</description>", "a description")
    tap.contains(good(host, "checkpoint-dumpxml t c3"), "bitmap='other'", "a bitmap of another name")
    tap.equal([sizes(host, "t", name) for name in ("c1", "c2", "c3")], [[3 * BLOCK], [2 * BLOCK], [0]],
              "--size: what was written since each")
    tap.contains(good(host, "list --with-checkpoint --name"), "t", "list --with-checkpoint")
    edited = host.client("env", "VISUAL=sed -i s/first/edited/", "virsh", "-c", host.uri, "checkpoint-edit", "t", "c1")
    tap.equal(edited.status, 0, "checkpoint-edit") or tap.note(edited)
    tap.contains(good(host, "checkpoint-dumpxml t c1"), "the edited", "what was edited is kept")
    survive(host, console, one)


def survive(host, console, image):
    """domusd's death and the guest's end."""
    host.stop(signal.SIGKILL)
    host.start()
    tap.equal(checkpoints(host, "t", "--topological"), ["c1", "c2", "c3"], "a new domusd knows of them")
    console.close()
    console = attach(host, "t")
    write(console, "d", at=3)
    tap.equal([sizes(host, "t", name) for name in ("c1", "c2", "c3")], [[4 * BLOCK], [3 * BLOCK], [BLOCK]],
              "and they go on")
    console.close()
    good(host, "destroy t")
    tap.equal(bitmaps(image), {"c1": True, "c2": True, "other": True}, "the image has the bitmaps")
    refused(host, "checkpoint-dumpxml t c1 --size", "inactive domain", "sizes of a domain that does not run")
    refused(host, "undefine t", "cannot delete inactive domain with 3 checkpoints", "undefine with checkpoints")
    console = boot(host, "t")
    write(console, "e", at=4)
    tap.equal([sizes(host, "t", name) for name in ("c1", "c2", "c3")], [[5 * BLOCK], [4 * BLOCK], [2 * BLOCK]],
              "in the next run, too")
    documents = {name: host.write_xml(good(host, f"checkpoint-dumpxml t {name}"), f"{name}.xml") for name in ("c1", "c2", "c3")}
    good(host, "checkpoint-delete t c2", "checkpoint-delete in the middle")
    tap.equal(good(host, "checkpoint-parent t c3").strip(), "c1", "its child has its parent")
    tap.equal([sizes(host, "t", name) for name in ("c1", "c3")], [[5 * BLOCK], [2 * BLOCK]], "the others know what they knew")
    good(host, "checkpoint-delete t c1 --children --metadata", "--children --metadata")
    tap.equal(checkpoints(host, "t"), [], "none is known")
    with open(documents["c3"]) as f:
        text = f.read().replace("<parent>\n    <name>c2</name>", "<parent>\n    <name>c1</name>")
    documents["c3"] = host.write_xml(text, "c3.xml")
    for name, parent_is_there in (("c3", False), ("c1", True), ("c3", True)):
        result = host.virsh_args("checkpoint-create", "t", documents[name], "--redefine")
        tap.equal(result.status == 0, parent_is_there, f"redefine {name}: parents first") or tap.note(result)
    result = host.virsh_args("checkpoint-create", "t", documents["c2"], "--redefine", "--redefine-validate")
    tap.ok(result.status and "there is none in image" in result.err, "refused: redefining what has no bitmap, validated", result)
    tap.equal([sizes(host, "t", name) for name in ("c1", "c3")], [[5 * BLOCK], [2 * BLOCK]], "what is redefined works")
    good(host, "checkpoint-create-as t c4 --diskspec xvda")
    tap.equal(good(host, "checkpoint-parent t c4").strip(), "c3", "the next one comes after the last")
    good(host, "checkpoint-delete t c1 --children-only", "--children-only")
    tap.equal(checkpoints(host, "t"), ["c1"], "leaves the parent")
    console.close()
    good(host, "destroy t")
    tap.equal(bitmaps(image), {"c1": True}, "and its bitmap alone")
    good(host, "checkpoint-delete t c1", "of a domain that does not run")
    tap.equal(bitmaps(image), {}, "with its bitmap")
    good(host, "undefine t")


def broken(host):
    """A storage daemon that is killed leaves bitmaps that cannot be trusted, and that is said."""
    image = make(host, "k.qcow2")
    define(host, "k", disk(image, "xvda"))
    console = boot(host, "k")
    good(host, "checkpoint-create-as k c1")
    write(console, "a")
    good(host, "destroy k")
    console.close()
    console = boot(host, "k")
    good(host, "checkpoint-create-as k c2")
    server, = host.processes("qemu-storage-daemon")
    os.kill(server, signal.SIGKILL)
    tap.ok(wait_for(lambda: host.processes("qemu-storage-daemon") not in ([], [server]), 60), "its daemon is started again")
    if host.state("k") == "paused":
        good(host, "resume k")
    for name, why in (("c1", "it is not consistent in image"), ("c2", "there is none in image")):
        document = host.write_xml(good(host, f"checkpoint-dumpxml k {name}"), f"{name}.xml")
        result = host.virsh_args("checkpoint-create", "k", document, "--redefine", "--redefine-validate")
        tap.ok(result.status and why in result.err, f"{name} cannot be used: {why}", result)
        tap.equal(sizes(host, "k", name), [], "and has no size")
    good(host, "checkpoint-delete k c1 --children", "they can be deleted")
    good(host, "checkpoint-create-as k c3")
    console.close()
    good(host, "destroy k")
    tap.equal(bitmaps(image), {"c3": True}, "and others made")
    good(host, "undefine k --checkpoints-metadata")


def killed(host):
    """domusd is killed at some moment of making one: there is all of it or nothing."""
    image = make(host, "m.qcow2")
    define(host, "m", disk(image, "xvda"))
    console = boot(host, "m")
    write(console, "a")
    known = set()
    for number, milliseconds in enumerate((20, 40, 60, 80, 100, 120, 150, 200, 300)):
        client = subprocess.Popen(["virsh", "-c", host.uri, f"checkpoint-create-as m c{number}"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        time.sleep(milliseconds / 1000)
        host.stop(signal.SIGKILL)
        known |= {f"c{number}"} if client.wait(30) == 0 else set()
        host.start()
        console.close()
        console = attach(host, "m")
        write(console, "b", at=number)
        listed = checkpoints(host, "m")
        tap.ok(known <= set(listed), f"after {milliseconds} ms: what was made is there", (known, listed))
        known = set(listed)
        tap.ok(all(sizes(host, "m", name) for name in listed), "and each can be used")
    console.close()
    good(host, "destroy m")
    tap.equal(set(bitmaps(image)), known, "the image has the bitmaps of those and no others")
    good(host, "undefine m --checkpoints-metadata")


PARTS = (tree, broken, killed)

with Host() as host:
    for part in PARTS:
        if not sys.argv[1:] or part.__name__ in sys.argv[1:]:
            part(host)
tap.done()
