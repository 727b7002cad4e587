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
from disks import define, disk, good, make, qemu_img, refused
from host import Console, Host, wait_for

BLOCK = 65536


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


MOMENTS = (0.15, 0.35, 0.55, 0.75, 0.95)  # of the time that it takes


def files_of(host, name):
    """Those of a domain in the run directory, and what is in the making."""
    uuid = host.virsh(f"domuuid {name}").out.strip()
    pending = [f"{kind}/pending" for kind in ("snapshot", "checkpoint")
               if os.path.exists(f"{host.root}/var/lib/domus/{kind}/{uuid}/pending")]
    return sorted([path for path in os.listdir(f"{host.root}/run/domus") if path.startswith(uuid)] + pending)


def images_of(host, name):
    """Those that its disks are on."""
    found = set()
    for path in re.findall(r"xvd\w +(\S+)", host.virsh(f"domblklist {name}").out):
        chain = json.loads(qemu_img("info", "-U", "--backing-chain", "--output=json", path))
        found |= {image["filename"] for image in chain}
    return found


KEPT = "c0"  # of the checkpoints that killed() makes


class Operation:
    """Something that is begun and must be there as a whole or not at all; @number makes it another each time."""

    def __init__(self, host, title):
        self.host, self.title = host, title

    def path(self, number, what=""):
        return f"{self.host.root}/m.{self.title}{number}{what}"

    def command(self, number):
        raise NotImplementedError

    def is_there(self, number):
        raise NotImplementedError

    def end(self, number):
        """Ends or removes what would stay."""

    def begin(self, number):
        return subprocess.Popen(["virsh", "-c", self.host.uri, *self.command(number)], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)


class Checkpoint(Operation):
    def command(self, number):
        return ["checkpoint-create-as", "m", f"{self.title}{number}"]

    def is_there(self, number):
        return f"{self.title}{number}" in checkpoints(self.host, "m")


class Snapshot(Operation):
    """Of disks alone, or (memory) of both."""

    def __init__(self, host, title, memory):
        super().__init__(host, title)
        self.memory = memory

    def command(self, number):
        how = {"none": ["--disk-only"], "external": ["--memspec", self.path(number, ".memory")], "internal": []}[self.memory]
        return ["snapshot-create-as", "m", f"{self.title}{number}", *how]

    def is_there(self, number):
        listed = f"{self.title}{number}" in self.host.virsh("snapshot-list m --name").out.split()
        own = self.host.virsh("domblklist m").out
        if self.memory == "internal":
            has = [f"{self.title}{number}" in qemu_img("snapshot", "-U", "-l", path).split()
                   for path in re.findall(r"xvd\w +(\S+)", own)]
            tap.equal(has, [listed, listed], f"{self.title}{number} is known, and in the images, or neither")
        else:
            has = [f"m{disk}.{self.title}{number}" in own for disk in ("", "2")]
            tap.equal(has, [listed, listed], f"{self.title}{number} is known, and the disks are on its overlays, or neither")
        if self.memory == "external":
            tap.equal(os.path.exists(self.path(number, ".memory")), listed, "and so it is with its memory")
        return listed

    def end(self, number):
        if os.path.exists(self.path(number, ".memory")):
            os.unlink(self.path(number, ".memory"))


class Backup(Operation):
    """With a checkpoint."""

    def __init__(self, host, title, pull):
        super().__init__(host, title)
        self.pull = pull

    def command(self, number):
        place = "scratch" if self.pull else "target"
        server = f"<server transport='unix' socket='{self.path(number, '.sock')}'/>" if self.pull else ""
        disks = "".join(f"<disk name='{disk}' type='file'><{place} file='{self.path(number, disk)}'/></disk>"
                        for disk in ("xvda", "xvdb"))
        xml = f"<domainbackup mode='{'pull' if self.pull else 'push'}'>{server}<disks>{disks}</disks></domainbackup>"
        checkpoint = f"<domaincheckpoint><name>{self.title}{number}</name></domaincheckpoint>"
        return ["backup-begin", "m", self.host.write_xml(xml, "backup.xml"), self.host.write_xml(checkpoint, "checkpoint.xml")]

    def is_there(self, number):
        if self.pull:
            there = self.host.virsh("backup-dumpxml m").status == 0
            has = [os.path.exists(self.path(number, disk)) for disk in ("xvda", "xvdb", ".sock")]
            tap.equal(has, [there] * 3, f"{self.title}{number} has its files, or nothing")
            if there:
                tap.equal(len(nbd("nbdinfo", "--size", f"nbd+unix:///xvda?socket={self.path(number, '.sock')}").split()), 1,
                          "and is served")
            return there
        tap.ok(wait_for(lambda: self.host.virsh("backup-dumpxml m").status, 60), f"{self.title}{number} ends")
        has = [os.path.exists(self.path(number, disk)) for disk in ("xvda", "xvdb")]
        tap.equal(has[0], has[1], f"{self.title}{number} has all of its files or none")
        return has[0]

    def end(self, number):
        self.host.virsh("domjobabort m")
        for disk in ("xvda", "xvdb"):
            if not self.pull and os.path.exists(self.path(number, disk)):
                os.unlink(self.path(number, disk))


def check_whole(host, operation, number, done, files, what):
    there = operation.is_there(number)
    tap.ok(there or not done, f"{what}: what a client was told of is there")
    operation.end(number)
    tap.ok(wait_for(lambda: files_of(host, "m") == files, 30), f"{what}: no files are left", (files_of(host, "m"), files))
    runs = host.state("m") == "running"
    tap.ok(wait_for(lambda: len(host.processes("qemu-storage-daemon")) == (2 if runs else 0), 30), f"{what}: nor processes")
    tap.equal({f"{host.root}/{name}" for name in os.listdir(host.root) if re.match(r"m2?\.(?!xml)", name)} - images_of(host, "m"),
              set(), f"{what}: nor images")
    for name in checkpoints(host, "m") if runs else []:
        tap.equal(len(sizes(host, "m", name)), 2, f"{what}: the checkpoint can be used")
        if name != KEPT:
            good(host, f"checkpoint-delete m {name}")


def kill_during(host, operation, files):
    """At moments of the time that it takes when it is let alone."""
    began = time.monotonic()
    tap.equal(operation.begin(0).wait(60), 0, f"{operation.title}0")
    took = time.monotonic() - began
    check_whole(host, operation, 0, True, files, f"{operation.title}0")
    for number, moment in enumerate(MOMENTS, 1):
        client = operation.begin(number)
        time.sleep(took * moment)
        host.stop(signal.SIGKILL)
        done = client.wait(30) == 0
        host.start()
        check_whole(host, operation, number, done, files, f"{operation.title}{number}")


def killed(host):
    """domusd is killed at some moment: there is all of what it was at or nothing, and nothing else is left."""
    images = [make(host, "m.qcow2"), make(host, "m2.qcow2")]
    define(host, "m", disk(images[0], "xvda") + disk(images[1], "xvdb"), memory_mib=128)
    console = boot(host, "m")
    write(console, "a")
    files = files_of(host, "m")
    for operation in (Checkpoint(host, "c"), Backup(host, "push", False), Backup(host, "pull", True), Snapshot(host, "s", "none"),
                      Snapshot(host, "memory", "external"), Snapshot(host, "internal", "internal")):
        kill_during(host, operation, files)
    console.close()
    console = attach(host, "m")
    write(console, "b", at=1)
    known_ones = set(checkpoints(host, "m"))
    own = re.findall(r"xvd\w +(\S+)", host.virsh("domblklist m").out)
    console.close()
    good(host, "destroy m")
    for path in own:
        tap.equal(set(bitmaps(path)), known_ones, "an image has the bitmaps of the checkpoints and no others")
    kill_during(host, Snapshot(host, "off", "none"), [])
    good(host, "undefine m --checkpoints-metadata --snapshots-metadata")


def backup(host, name, text, checkpoint=None, *options):
    """backup-begin, with a checkpoint of that name."""
    files = [host.write_xml(text, "backup.xml")]
    if checkpoint:
        disks = "".join(f"<disk name='{target}'/>" for target in ("xvda", "xvdb"))
        files.append(host.write_xml(f"<domaincheckpoint><name>{checkpoint}</name><disks>{disks}</disks></domaincheckpoint>",
                                    "checkpoint.xml"))
    return host.virsh_args("backup-begin", name, *files, *options)


def push(host, name, number, since=None, checkpoint=None):
    """A backup of both disks that is waited for: a dictionary of where it is."""
    where = {target: f"{host.root}/{name}.{target}.{number}" for target in ("xvda", "xvdb")}
    text = "<domainbackup>" + (f"<incremental>{since}</incremental>" if since else "") + "<disks>" + \
        "".join(f"<disk name='{t}' type='file'><target file='{path}'/></disk>" for t, path in where.items()) + \
        "</disks></domainbackup>"
    result = backup(host, name, text, checkpoint)
    tap.equal(result.status, 0, f"backup {number}" + (f" since {since}" if since else "")) or tap.note(result)
    tap.ok(wait_for(lambda: "None" in host.virsh(f"domjobinfo {name}").out, 60), f"backup {number} ends")
    return where


def restore(host, chain, target):
    """A raw file of what a chain of backups, the full one first, has of a disk."""
    paths = [where[target] for where in chain]
    copies = [path + ".copy" for path in paths]
    for index, (path, copy) in enumerate(zip(paths, copies)):
        subprocess.run(["cp", path, copy], check=True)
        if index:
            qemu_img("rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", copies[index - 1], copy)
    out = copies[-1] + ".raw"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", copies[-1], out)
    return out


def same(host, raw, image, what):
    """The whole of it against a disk's image, whose guest was paused, and is gone: then all is in the file."""
    now = raw + ".now"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", image, now)
    with open(raw, "rb") as a, open(now, "rb") as b:
        left, right = a.read(), b.read()
    wrong = [at // BLOCK for at in range(0, len(right), BLOCK) if left[at:at + BLOCK] != right[at:at + BLOCK]]
    tap.ok(left == right, f"{what}: has what is on the disk, byte by byte", f"blocks {wrong[:20]} differ")
    os.unlink(now)


def counter(raw):
    with open(raw, "rb") as f:
        f.seek(255 * BLOCK)
        return int(f.read(32).split()[0])


def writer(console):
    """Goes over both disks all the time, and counts: first on one disk, then on the other."""
    console.run("(n=0; while :; do n=$((n+1)); dd if=/dev/urandom of=/dev/xvda bs=64k count=1 seek=$((n*37%250)) 2>/dev/null; "
                "dd if=/dev/urandom of=/dev/xvdb bs=64k count=1 seek=$((n*41%250)) 2>/dev/null; "
                "for d in xvda xvdb; do echo $n | dd of=/dev/$d bs=4096 seek=4080 conv=sync,fsync 2>/dev/null; done; "
                "echo $n >/tmp/n; done) 2>/dev/null & true")
    goes_on(console)


def goes_on(console, rounds=3):
    """The guest has written to both disks for some rounds more."""
    def at():
        return int(re.findall(r"\d+", console.run("cat /tmp/n 2>/dev/null || echo 0") or "0")[0])
    goal = at() + rounds
    tap.ok(wait_for(lambda: at() >= goal, 120, 0.2), "the guest goes on writing")


def consistent(host, chain, what):
    one, other = (counter(restore(host, chain, target)) for target in ("xvda", "xvdb"))
    tap.ok(one - 1 <= other <= one, f"{what}: both disks are of one moment", (one, other))


def incremental(host):
    images = {target: make(host, f"i.{target}") for target in ("xvda", "xvdb")}
    define(host, "i", "".join(disk(path, target) for target, path in images.items()))
    console = boot(host, "i")
    writer(console)
    chain = [push(host, "i", 0, None, "c1")]
    for number in range(1, 5):
        goes_on(console)
        chain.append(push(host, "i", number, f"c{number}", f"c{number + 1}"))
        consistent(host, chain, f"backup {number}")
    refused_backups(host, images)
    good(host, "checkpoint-delete i c3", "a checkpoint in the middle is deleted")
    result = backup(host, "i", "<domainbackup><incremental>c3</incremental></domainbackup>")
    tap.ok(result.status and "there is no checkpoint 'c3'" in result.err, "refused: a backup since it", result)
    goes_on(console)
    good(host, "suspend i")
    last, wide = push(host, "i", "last", "c5"), push(host, "i", "wide", "c2")
    console.close()
    good(host, "destroy i")
    for target, image in images.items():
        same(host, restore(host, chain + [last], target), image, f"full backup and five more, {target}")
        same(host, restore(host, chain[:2] + [wide], target), image, f"since c2, across the one that is gone, {target}")
    tap.equal(set(bitmaps(images["xvda"])), {"c1", "c2", "c4", "c5"}, "images have bitmaps of checkpoints and no others")
    console = boot(host, "i")
    writer(console)
    good(host, "suspend i")
    later = push(host, "i", "later", "c4")
    console.close()
    good(host, "destroy i")
    for target, image in images.items():
        same(host, restore(host, chain[:4] + [later], target), image, f"in the next run, since c4, {target}")
    good(host, "undefine i --checkpoints-metadata")


def refused_backups(host, images):
    here = f"{host.root}/refused"
    for text, part in (
            ("<domainbackup><incremental>c9</incremental></domainbackup>", "there is no checkpoint 'c9'"),
            (f"<domainbackup><incremental>c1</incremental><disks><disk name='xvda' type='file'><driver type='raw'/><target "
             f"file='{here}'/></disk></disks></domainbackup>", "in format 'raw' would not tell"),
            ("<domainbackup><disks><disk name='xvda' backupmode='incremental'/></disks></domainbackup>", "which checkpoint"),
            (f"<domainbackup><disks><disk name='xvda'><target file='{here}'/></disk><disk name='xvdb'><target file='{here}'/>"
             "</disk></disks></domainbackup>", "the place or name of another's")):
        result = backup(host, "i", text)
        tap.ok(result.status and part in result.err, f"refused: {part}", result)
    result = backup(host, "i", f"<domainbackup><disks><disk name='xvda'><target file='{here}'/></disk></disks></domainbackup>", "c1")
    tap.ok(result.status and "c1 already exists" in result.err, "refused: with a checkpoint that is there", result)
    result = backup(host, "i", "<domainbackup><disks><disk name='xvda'><target file='/nonexistent/x'/></disk></disks></domainbackup>",
                    "c9")
    tap.ok(result.status and "/nonexistent/x" in result.err, "refused: a target that cannot be made", result)
    tap.ok("c9" not in checkpoints(host, "i"), "and no checkpoint is made with it")
    tap.ok(not os.path.exists(here) and len([n for n in os.listdir(host.root) if n.startswith("i.xvda.1")]) < 9, "nothing is left")


def nbd(*args):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, text=True).stdout


def dirty(uri, bitmap):
    """Which blocks a bitmap that is exported marks."""
    found = set()
    for one in json.loads(nbd("nbdinfo", "--json", f"--map=qemu:dirty-bitmap:{bitmap}", uri)):
        if one["type"]:
            found |= set(range(one["offset"] // BLOCK, (one["offset"] + one["length"] - 1) // BLOCK + 1))
    return found


def pull(host):
    images = {"xvda": make(host, "p.qcow2"), "xvdb": make(host, "p.raw", "raw")}
    define(host, "p", disk(images["xvda"], "xvda") + disk(images["xvdb"], "xvdb", "raw"))
    console = boot(host, "p")
    for block in range(3):
        write(console, "a", at=block)
    write(console, "r", "xvdb")
    good(host, "checkpoint-create-as p c1 --diskspec xvda")
    write(console, "b", at=1)
    write(console, "b", at=5)
    socket, scratch = f"{host.root}/p.sock", f"{host.root}/p.scratch"
    text = f"""<domainbackup mode='pull'><server transport='unix' socket='{socket}'/><disks>
      <disk name='xvda' type='file' incremental='c1' exportname='first' exportbitmap='written'><scratch file='{scratch}'/></disk>
      <disk name='xvdb' type='file'><scratch file='{scratch}.b'/></disk></disks></domainbackup>"""
    result = backup(host, "p", text)
    tap.equal(result.status, 0, "backup-begin of mode pull") or tap.note(result)
    for block, letter in ((0, "x"), (1, "x"), (9, "x")):
        write(console, letter, at=block)
    write(console, "y", "xvdb")
    uri, other = f"nbd+unix:///first?socket={socket}", f"nbd+unix:///xvdb?socket={socket}"
    tap.equal(sorted(json.loads(nbd("nbdinfo", "--json", "--list", f"nbd+unix://?socket={socket}"))["exports"][i]["export-name"]
                     for i in range(2)), ["first", "xvdb"], "the exports, by their names")
    tap.equal(dirty(uri, "written"), {1, 5}, "the bitmap has what was written since the checkpoint, and before the backup")
    out = f"{host.root}/p.out"
    nbd("nbdcopy", uri, out)
    with open(out, "rb") as f:
        data = f.read()
    expected = bytearray(16 << 20)
    for block, letter in ((0, b"a"), (1, b"b"), (2, b"a"), (5, b"b")):
        expected[block * BLOCK:(block + 1) * BLOCK] = letter * BLOCK
    tap.ok(data == expected, "nbdcopy: the disk as it was, byte by byte")
    nbd("qemu-img", "convert", "-f", "raw", "-O", "raw", other, out)
    with open(out, "rb") as f:
        data = f.read()
    tap.ok(data == b"r" * BLOCK + bytes((16 << 20) - BLOCK), "qemu-img: of a raw disk, too")
    tap.ok("written" not in nbd("nbdinfo", "--json", other), "which has no bitmap")
    tap.ok(subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 512", uri], capture_output=True).returncode, "nobody writes to it")
    describe_pull(host, socket, scratch)
    result = backup(host, "p", text)
    tap.ok(result.status and "active block job" in result.err, "refused: a second one", result)
    refused(host, "snapshot-create-as p s --disk-only", "active block job", "a snapshot meanwhile")
    host.stop(signal.SIGKILL)
    host.start()
    describe_pull(host, socket, scratch)
    tap.equal(dirty(uri, "written"), {1, 5}, "a new domusd changes nothing")
    good(host, "domjobabort p", "domjobabort ends it")
    refused(host, "backup-dumpxml p", "no domain backup job present", "the XML of one that has ended")
    tap.ok(not any(os.path.exists(path) for path in (socket, scratch, f"{scratch}.b")), "socket and scratch images are gone")
    tap.ok(wait_for(lambda: len(host.processes("qemu-storage-daemon")) == 1, 20), "the raw disk is as before, and the server gone")
    console.close()
    console = attach(host, "p")
    pull_by_tcp(host, console, images)
    pull_refused(host, socket, scratch)
    pull_lost(host, console, socket, scratch)
    console.close()
    good(host, "destroy p")
    tap.equal(set(bitmaps(images["xvda"])) - {"c1", "c2"}, set(), "images have bitmaps of checkpoints and no others")
    good(host, "undefine p --checkpoints-metadata")


def describe_pull(host, socket, scratch):
    text = good(host, "backup-dumpxml p")
    tap.ok(f"<server transport='unix' socket='{socket}'/>" in text and "exportname='first' exportbitmap='written'" in text and
           f"<scratch file='{scratch}'/>" in text and "mode='pull'" in text, "backup-dumpxml", text)
    tap.ok(re.search(r"Operation: +Backup", good(host, "domjobinfo p")), "domjobinfo")


def pull_by_tcp(host, console, images):
    """With a checkpoint; names and scratch images that are chosen."""
    port = subprocess.run([sys.executable, "-c", "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); "
                           "print(s.getsockname()[1])"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    text = f"<domainbackup mode='pull'><incremental>c1</incremental><server name='localhost' port='{port}'/><disks><disk name='xvda'/>" \
        "</disks></domainbackup>"
    files = [host.write_xml(text, "backup.xml"), host.write_xml("<domaincheckpoint><name>c2</name><disks><disk name='xvda'/></disks>"
                                                                "</domaincheckpoint>", "checkpoint.xml")]
    result = host.virsh_args("backup-begin", "p", *files)
    tap.equal(result.status, 0, "backup-begin, by TCP, with a checkpoint") or tap.note(result)
    tap.equal(dirty(f"nbd://localhost:{port}/xvda", "backup-xvda"), {0, 1, 5, 9}, "names that are not said are libvirt's")
    tap.ok([n for n in os.listdir(host.root) if n.startswith("p.qcow2.scratch-")], "so are those of scratch images")
    good(host, "domjobabort p")
    tap.ok(not [n for n in os.listdir(host.root) if n.startswith("p.qcow2.scratch-")], "which are removed")
    write(console, "z", at=11)
    tap.equal(sizes(host, "p", "c2"), [BLOCK], "the checkpoint knows what was written since")


def pull_refused(host, socket, scratch):
    for server, disk_text, part in (
            (f"<server transport='unix' socket='{host.root}/no/where'/>", "<disk name='xvda'/>", "no/where"),
            (f"<server transport='unix' socket='{socket}'/>", f"<disk name='xvda'><scratch file='{host.root}/p.qcow2'/></disk>",
             "already exists"),
            ("<server name='localhost' tls='yes'/>", "<disk name='xvda'/>", "TLS needs"),
            ("<server name='localhost'/>", "<disk name='xvda'><target file='/t'/></disk>", "<target>"),
            (f"<server transport='unix' socket='{socket}'/>", "<disk name='xvdb' incremental='c1'/>", "not in checkpoint 'c1'")):
        result = backup(host, "p", f"<domainbackup mode='pull'>{server}<disks>{disk_text}</disks></domainbackup>")
        tap.ok(result.status and part in result.err, f"refused: {part}", result)
    tap.ok(wait_for(lambda: len(host.processes("qemu-storage-daemon")) == 1, 20), "no server is left of those")
    tap.ok(not [n for n in os.listdir(host.root) if "scratch" in n], "nor scratch images")
    refused(host, "backup-dumpxml p", "no domain backup job present", "the XML of none")


def pull_lost(host, console, socket, scratch):
    """A storage daemon of a disk is killed: nobody is given what is not right."""
    result = backup(host, "p", f"<domainbackup mode='pull'><server transport='unix' socket='{socket}'/><disks><disk name='xvda'>"
                    f"<scratch file='{scratch}'/></disk></disks></domainbackup>")
    tap.equal(result.status, 0, "another") or tap.note(result)
    uri = f"nbd+unix:///xvda?socket={socket}"
    write(console, "q", at=0)
    servers = host.processes("qemu-storage-daemon")
    server = [pid for pid in servers if b"p.qcow2" in open(f"/proc/{pid}/cmdline", "rb").read()]
    os.kill(server[0], signal.SIGKILL)
    tap.ok(wait_for(lambda: "no domain backup" in host.virsh("backup-dumpxml p").err, 60), "a killed storage daemon ends it")
    tap.ok(wait_for(lambda: not os.path.exists(scratch) and not os.path.exists(socket), 20), "nothing is left of it")
    tap.ok(subprocess.run(["nbdinfo", uri], capture_output=True).returncode, "nobody serves it")
    tap.ok(wait_for(lambda: len(host.processes("qemu-storage-daemon")) == 1, 60), "but the disk's storage daemon, a new one")


def push_one(host, name, number, since=None, checkpoint=None, target="xvda"):
    """A backup of one disk, likewise."""
    path = f"{host.root}/{name}.{target}.{number}"
    text = "<domainbackup>" + (f"<incremental>{since}</incremental>" if since else "") + \
        f"<disks><disk name='{target}' type='file'><target file='{path}'/></disk></disks></domainbackup>"
    files = [host.write_xml(text, "backup.xml")]
    if checkpoint:
        files.append(host.write_xml(f"<domaincheckpoint><name>{checkpoint}</name><disks><disk name='{target}'/></disks>"
                                    "</domaincheckpoint>", "checkpoint.xml"))
    result = host.virsh_args("backup-begin", name, *files)
    tap.equal(result.status, 0, f"backup {number}" + (f" since {since}" if since else "")) or tap.note(result)
    tap.ok(wait_for(lambda: "None" in host.virsh(f"domjobinfo {name}").out, 60), f"backup {number} ends")
    return {target: path}


def known(host, name, expected, what):
    """How many blocks were written since each checkpoint; None: that is not known."""
    found = {one: sizes(host, name, one) for one in expected}
    tap.equal(found, {one: [] if blocks is None else [blocks * BLOCK] for one, blocks in expected.items()}, what)


def overlay(host):
    """Checkpoints go on when a disk goes on in an overlay, and when images of its chain are put together."""
    image = make(host, "o.qcow2")
    define(host, "o", disk(image, "xvda") + disk(make(host, "raw.o", "raw"), "xvdb", "raw"))
    console = boot(host, "o")
    write(console, "f", at=7)
    full = push_one(host, "o", "full", None, "c1")
    write(console, "a")
    good(host, "snapshot-create-as o s1 --disk-only --no-metadata", "an overlay")
    known(host, "o", {"c1": 1}, "on the overlay c1 is known")
    write(console, "b", at=3)
    good(host, "checkpoint-create-as o c2 --diskspec xvda", "another checkpoint")
    write(console, "c", at=5)
    good(host, "snapshot-create-as o s2 --disk-only --no-metadata --diskspec xvdb,snapshot=no", "another overlay")
    write(console, "d", at=0)
    known(host, "o", {"c1": 3, "c2": 2}, "on that both are")
    host.stop(signal.SIGKILL)
    host.start()
    known(host, "o", {"c1": 3, "c2": 2}, "and by another domusd")
    console.close()
    console = attach(host, "o")
    incremental = push_one(host, "o", "incremental", "c1", "c3")
    good(host, "suspend o")
    console.close()
    good(host, "destroy o")
    same(host, restore(host, [full, incremental], "xvda"), f"{host.root}/o.s2", "full and incremental across two overlays")
    tap.equal(bitmaps(f"{host.root}/o.s2"), {"c1": True, "c2": True, "c3": True}, "the overlay has the bitmaps")
    console = boot(host, "o")
    write(console, "e", at=9)
    known(host, "o", {"c1": 4, "c2": 3, "c3": 1}, "in the next run")
    put_together(host, console, full, incremental)


def put_together(host, console, full, incremental):
    middle, image = f"{host.root}/o.s1", f"{host.root}/o.qcow2"
    good(host, f"blockcommit o xvda --top {middle} --base {image} --wait", "blockcommit of the one in the middle")
    known(host, "o", {"c1": 4, "c2": 3, "c3": 1}, "a commit loses nothing, nor adds what was not written")
    good(host, "snapshot-create-as o s3 --disk-only --no-metadata --diskspec xvdb,snapshot=no", "an overlay again")
    write(console, "g", at=11)
    known(host, "o", {"c1": 5, "c2": 4, "c3": 2}, "where they go on")
    good(host, f"blockpull o xvda --base {image} --wait", "blockpull of what is above the first")
    known(host, "o", {"c1": 5, "c2": 4, "c3": 2}, "loses nothing")
    good(host, "blockcommit o xvda --active --pivot", "blockcommit of the active one")
    known(host, "o", {"c1": 5, "c2": 4, "c3": 2}, "neither does that")
    copy = f"{host.root}/o.copy"
    good(host, f"blockcopy o xvda {copy} --format qcow2 --wait --pivot --transient-job", "blockcopy with --pivot")
    write(console, "h", at=13)
    known(host, "o", {"c1": 6, "c2": 5, "c3": 3}, "on the copy they are known")
    later = push_one(host, "o", "later", "c3")
    good(host, "suspend o")
    console.close()
    good(host, "destroy o")
    same(host, restore(host, [full, incremental, later], "xvda"), copy, "a chain of backups across all of that")
    not_running(host, copy)


def not_running(host, image):
    """Overlays of a domain that does not run."""
    good(host, "snapshot-create-as o s4 --disk-only --diskspec xvdb,snapshot=no", "a snapshot of a domain that does not run")
    overlay_path = f"{host.root}/o.s4"
    tap.equal(bitmaps(overlay_path), {"c1": True, "c2": True, "c3": True}, "its overlay has the bitmaps")
    console = boot(host, "o")
    write(console, "i", at=15)
    good(host, "checkpoint-create-as o c4 --diskspec xvda")
    write(console, "j", at=17)
    known(host, "o", {"c1": 8, "c3": 5, "c4": 1}, "they go on there")
    console.close()
    good(host, "destroy o")
    good(host, "snapshot-delete o s4", "the snapshot is deleted")
    good(host, "start o --paused")
    known(host, "o", {"c1": 8, "c3": 5, "c4": 1}, "its image has all that is known")
    good(host, "snapshot-create-as o s5 --disk-only --no-metadata --diskspec xvdb,snapshot=no")
    good(host, "checkpoint-delete o c2", "a checkpoint is deleted")
    good(host, "blockcopy o xvda " + f"{host.root}/o.out --format raw --wait --pivot --transient-job", "blockcopy to a raw image")
    known(host, "o", {"c1": None}, "where nothing is known any more")
    result = backup(host, "o", "<domainbackup><incremental>c1</incremental><disks><disk name='xvda'/></disks></domainbackup>")
    tap.ok(result.status and "there is none in image" in result.err, "refused: a backup since it, by name", result)
    good(host, "destroy o")
    tap.equal([set(bitmaps(path)) for path in (image, f"{host.root}/o.s5")], [{"c1", "c3", "c4"}] * 2, "no image of the chain has it")
    good(host, "undefine o --checkpoints-metadata --snapshots-metadata")


def overlay_faults(host):
    """What is not known is not taken for nothing."""
    image = make(host, "f.qcow2")
    define(host, "f", disk(image, "xvda"))
    console = boot(host, "f")
    good(host, "checkpoint-create-as f c1")
    write(console, "a")
    there = f"{host.root}/f.there"
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", image, there, "16M")
    subprocess.run(["qemu-img", "bitmap", "--add", json.dumps({"driver": "qcow2", "backing": None, "file": {
        "driver": "file", "filename": there}}).join(("json:", "")), "c1"], check=True)
    refused(host, f"snapshot-create-as f s --disk-only --reuse-external --no-metadata --diskspec xvda,file={there}",
            "bitmap 'c1'", "an overlay that has a bitmap of that name")
    tap.contains(host.virsh("domblklist f").out, "f.qcow2", "the disk is where it was")
    known(host, "f", {"c1": 1}, "and c1 what it was")
    good(host, "snapshot-create-as f s1 --disk-only --no-metadata")
    good(host, "snapshot-create-as f s2 --disk-only --no-metadata")
    good(host, "destroy f")
    console.close()
    qemu_img("bitmap", "--remove", "-f", "qcow2", f"{host.root}/f.s1", "c1")
    good(host, "start f --paused")
    known(host, "f", {"c1": None}, "a bitmap that somebody removed in the middle")
    good(host, "blockpull f xvda --wait", "blockpull")
    known(host, "f", {"c1": None}, "does not make it look whole")
    result = backup(host, "f", "<domainbackup><incremental>c1</incremental></domainbackup>")
    tap.ok(result.status and "cannot be used" in result.err, "refused: a backup since it", result)
    good(host, "checkpoint-create-as f c2")
    good(host, "snapshot-create-as f s3 --disk-only --no-metadata")
    good(host, "blockresize f xvda 32M")
    known(host, "f", {"c2": None}, "a disk that got another size on the overlay")
    good(host, "checkpoint-delete f c1 --children", "all can be deleted")
    good(host, "destroy f")
    good(host, "undefine f")


def threshold(host):
    """domblkthreshold: when the file of an image is written up to some place."""
    image = make(host, "w.qcow2")
    define(host, "w", disk(image, "xvda") + disk(make(host, "w.raw", "raw"), "xvdb", "raw"))
    refused(host, "domblkthreshold w xvda 1", "not running", "a threshold of a domain that does not run")
    console = boot(host, "w")
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    time.sleep(1)
    refused(host, "domblkthreshold w xvdz 1", "xvdz", "of a disk that is not there")
    event = r"block-threshold' for domain 'w': dev: xvda\(\S*/w.qcow2\) (\d+) (\d+)"
    good(host, f"domblkthreshold w xvda {2 << 20}")
    write(console, "a")
    good(host, "domblkinfo w xvda")
    tap.ok(not watcher.expect(event, 1), "no event below it")
    host.stop(signal.SIGKILL)
    watcher.close()
    host.start()
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    time.sleep(1)
    console.close()
    console = attach(host, "w")
    console.run("head -c 4194304 /dev/zero | tr '\\0' b | dd of=/dev/xvda bs=64k seek=16 conv=fsync 2>/dev/null")
    match = watcher.expect(event, 30)
    tap.ok(match and int(match[1]) == 2 << 20 and 0 < int(match[2]) < 8 << 20, "event: block-threshold, also of a new domusd",
           watcher.text[-500:])
    watcher.text = ""
    console.run("head -c 4194304 /dev/zero | tr '\\0' c | dd of=/dev/xvda bs=64k seek=96 conv=fsync 2>/dev/null")
    tap.ok(not watcher.expect(event, 1), "once")
    good(host, f"domblkthreshold w xvda {256 << 20}", "another")
    server, = host.processes("qemu-storage-daemon")
    os.kill(server, signal.SIGKILL)
    tap.ok(wait_for(lambda: host.processes("qemu-storage-daemon") not in ([], [server]), 60), "a killed storage daemon")
    tap.ok(wait_for(lambda: host.state("w") != "paused" or host.virsh("resume w").status == 0, 30), "is started again")
    tap.ok(not watcher.expect(event, 2), "which is no event")
    good(host, "domblkthreshold w xvda 0", "none")
    threshold_of_raw(host, console, watcher)
    watcher.close()
    console.close()
    good(host, "destroy w")
    good(host, "undefine w")


def threshold_of_raw(host, console, watcher):
    """A raw image has a storage daemon for as long as it has a threshold."""
    def served():
        return [pid for pid in host.processes("qemu-storage-daemon") if b"w.raw" in open(f"/proc/{pid}/cmdline", "rb").read()]

    event = r"block-threshold' for domain 'w': dev: xvdb\(\S*/w.raw\) (\d+) (\d+)"
    write(console, "d", "xvdb", at=100)
    good(host, f"domblkthreshold w xvdb {4 << 20}", "a threshold of a raw disk")
    tap.equal(len(served()), 1, "which has a storage daemon then")
    write(console, "e", "xvdb", at=1)
    tap.ok(not watcher.expect(event, 1), "no event below it, whatever was written before")
    watcher.text = ""
    result = host.virsh(f"blockcopy w xvdb {host.root}/w.copy --format raw --transient-job --wait --finish")
    tap.equal(result.status, 0, "a block job meanwhile") or tap.note(result)
    tap.equal(len(served()), 1, "does not take it away")
    write(console, "f", "xvdb", at=80)
    match = watcher.expect(event, 30)
    tap.ok(match and int(match[1]) == 4 << 20 and int(match[2]) == 80 * BLOCK + BLOCK - (4 << 20), "event: block-threshold",
           watcher.text[-500:])
    tap.ok(wait_for(lambda: not served(), 20), "then it has none any more")
    write(console, "g", "xvdb", at=2)
    good(host, f"domblkthreshold w xvdb {8 << 20}", "another one")
    host.stop(signal.SIGKILL)
    host.start()
    tap.equal(len(served()), 1, "it is there for another domusd")
    good(host, "domblkthreshold w xvdb 0", "none")
    tap.ok(wait_for(lambda: not served(), 20), "takes the storage daemon away")
    with open(f"{host.root}/w.raw", "rb") as f:
        data = f.read()
    tap.equal([data[at * BLOCK:at * BLOCK + 1] for at in (100, 1, 80, 2)], [b"d", b"e", b"f", b"g"], "the image has all that was written")


PARTS = (tree, broken, killed, incremental, pull, overlay, overlay_faults, threshold)

with Host() as host:
    for part in PARTS:
        if not sys.argv[1:] or part.__name__ in sys.argv[1:]:
            part(host)
tap.done()
