#!/usr/bin/python3
"""Snapshots: what is known of them, internal and external ones, going back, deleting.

Stock virsh, python3-libvirt, and a real guest whose memory and disks are compared before and after.
"""
import os
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from disks import define, disk, good, make, qemu_img, refused
from host import TOP, Console, Host, guest_files, wait_for


def run(console, command, seconds=60):
    return (console.run(command, seconds) or "").strip()


def names(host, domain, *options):
    return host.virsh(f"snapshot-list {domain} --name {' '.join(options)}").out.split()


def write(console, letter, target="xvda", at=0):
    """A block of one letter on a disk, past all caches."""
    run(console, f"head -c 65536 /dev/zero | tr '\\0' {letter} | dd of=/dev/{target} bs=64k seek={at} conv=fsync 2>/dev/null")


def read(console, target="xvda", at=0):
    return run(console, f"dd if=/dev/{target} bs=64k skip={at} count=1 iflag=direct 2>/dev/null | head -c 1")


def in_image(path, form, at=0):
    """The same of an image that nobody uses."""
    qemu_img("convert", "-f", form, "-O", "raw", path, path + ".out")
    with open(path + ".out", "rb") as f:
        f.seek(at * 65536)
        return f.read(1).decode()


def poke(path, form, letter, at=0):
    subprocess.run(["qemu-io", "-f", form, "-c", f"write -P {ord(letter)} {at * 65536} 65536", path], check=True,
                   stdout=subprocess.DEVNULL)


def boot(host, name):
    good(host, f"start {name}")
    return attach(host, name)


def attach(host, name):
    console = host.console(name)
    tap.ok(console.prompt(), f"{name}: the guest answers", console.text[-2000:])
    run(console, "dmesg -n 1")
    return console


def attach_again(host, name):
    """After the end of a storage daemon with writes that it had not made safe, which pauses the domain."""
    console = host.console(name)

    def answers():
        if host.state(name) == "paused":
            host.virsh(f"resume {name}")
        console.text = ""
        console.send("dd if=/dev/xvda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null; echo re''ad $?\n")
        return console.expect("read 0", 2)

    tap.ok(wait_for(answers, 90), f"{name}: the guest answers, its disk too", console.text[-1000:])
    return console


# ---- what is known


PENDING = """ \n<domainsnapshot><name>half</name><state>disk-snapshot</state><creationTime>1</creationTime><memory snapshot='no'/><disks>
<disk name='xvda' snapshot='external' type='file'><driver type='qcow2'/><source file='{overlay}'/></disk></disks></domainsnapshot>"""


def half_way(host):
    """domusd was killed when the definition was on an overlay, and what runs was not yet: neither is, afterwards."""
    path, overlay = make(host, "h.qcow2", "qcow2"), f"{host.root}/h.half"
    define(host, "h", disk(path, "xvda", "qcow2"))
    boot(host, "h").close()
    uuid = good(host, "domuuid h").strip()
    host.stop()
    qemu_img("create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", overlay)
    definitions = [os.path.join(folder, "h.xml") for folder, _, files in os.walk(f"{host.root}/etc") if "h.xml" in files]
    tap.equal(len(definitions), 1, "its definition is in a file")
    with open(definitions[0]) as f:
        text = f.read()
    with open(definitions[0], "w") as f:
        f.write(text.replace("h.qcow2", "h.half"))
    os.makedirs(f"{host.root}/var/lib/domus/snapshot/{uuid}", exist_ok=True)
    with open(f"{host.root}/var/lib/domus/snapshot/{uuid}/pending", "w") as f:
        f.write(PENDING.format(overlay=overlay))
    with open(f"{host.root}/run/domus/{uuid}.backup.new", "w") as f:
        f.write("half")
    host.start()
    for option in ("", "--inactive"):
        tap.equal(sources(host, "h", option), {"xvda": "h.qcow2"}, f"domblklist {option} has its image")
    tap.ok(not os.path.exists(overlay), "the overlay is gone")
    tap.equal(names(host, "h"), [], "there is no snapshot")
    tap.ok(not os.path.exists(f"{host.root}/run/domus/{uuid}.backup.new"), "nor a file that was not written to its end")
    good(host, "destroy h")
    good(host, "undefine h")


def metadata(host):
    path = make(host, "m.qcow2", "qcow2")
    define(host, "m", disk(path, "xvda", "qcow2"))
    tap.equal(good(host, "snapshot-list m --name").strip(), "", "no snapshots at first")
    refused(host, "snapshot-current m", "has no current snapshot", "the current one of none")
    for name in ("one", "two", "three"):
        good(host, f"snapshot-create-as m {name} 'number {name}'")
    tap.equal(names(host, "m"), ["one", "three", "two"], "snapshot-list")
    tap.equal(sorted(line for line in qemu_img("snapshot", "-l", path).split() if line in ("one", "two", "three")),
              ["one", "three", "two"], "the image has them")
    tap.equal(good(host, "snapshot-current m --name").strip(), "three", "the last is the current one")
    tap.equal(good(host, "snapshot-parent m three").strip(), "two", "its parent is the one before")
    refused(host, "snapshot-parent m one", "has no parent", "the first has none")
    tap.equal(names(host, "m", "--roots"), ["one"], "snapshot-list --roots")
    tap.equal(names(host, "m", "--leaves"), ["three"], "snapshot-list --leaves")
    tap.equal(names(host, "m", "--from one"), ["two"], "snapshot-list --from")
    tap.equal(names(host, "m", "--from one", "--descendants"), ["three", "two"], "snapshot-list --descendants")
    tap.equal(names(host, "m", "--topological"), ["one", "two", "three"], "snapshot-list --topological")
    tap.equal(names(host, "m", "--active"), [], "snapshot-list --active")
    tap.equal(len(names(host, "m", "--inactive")), 3, "snapshot-list --inactive")
    tap.equal(names(host, "m", "--external"), [], "snapshot-list --external")
    tap.ok(re.search(r"one\n +\|\n +\+- two\n", good(host, "snapshot-list m --tree")), "snapshot-list --tree")
    tap.ok(re.search(r"State: +shutoff\nLocation: +internal\nParent: +one\nChildren: +1\nDescendants: +1\nMetadata: +yes",
                     good(host, "snapshot-info m two")), "snapshot-info")
    tap.equal(host.virsh("list --all --with-snapshot --name").out.split(), ["m"], "list --with-snapshot")
    xml = good(host, "snapshot-dumpxml m two")
    for part in ("<description>number two</description>", "<state>shutoff</state>", "<memory snapshot='no'/>",
                 "<disk name='xvda' snapshot='internal'/>", "<parent>\n    <name>one</name>", "<domain type='xen'>", path):
        tap.contains(xml, part, f"snapshot-dumpxml has {part}")
    schema = "/usr/share/libvirt/schemas/domainsnapshot.rng"
    result = subprocess.run(["xmllint", "--noout", "--relaxng", schema, "-"], input=xml, text=True, stderr=subprocess.PIPE)
    tap.equal(result.returncode, 0, "it satisfies libvirt's schema") or tap.note(result.stderr)
    refused(host, "snapshot-create-as m one", "domain snapshot one already exists", "a name that is taken")
    refused(host, "snapshot-create-as m a/b", "invalid snapshot name 'a/b'", "a name with a slash")
    refused(host, "snapshot-create-as m 7", "'7'", "a name that an image could take for a number")
    refused(host, "snapshot-info m none", "no domain snapshot with matching name 'none'", "an unknown name")
    refused(host, "snapshot-create-as m x --live", "not running", "a live snapshot of what is off")
    refused(host, "snapshot-create-as m x --diskspec xvdz", "no disk named 'xvdz'", "a disk that is not there")
    refused(host, "snapshot-create-as m x --diskspec xvda,snapshot=no", "nothing selected", "nothing at all")
    refused(host, f"snapshot-create-as m x --memspec {host.root}/mem", "memory state cannot be saved", "memory of what is off")
    out = good(host, "snapshot-create-as m four --print-xml --diskspec xvda,snapshot=internal")
    tap.contains(out, "<name>four</name>", "snapshot-create-as --print-xml")
    tap.equal(len(names(host, "m")), 3, "takes none")
    refused(host, "undefine m", "cannot delete inactive domain with 3 snapshots", "undefine")
    redefine(host, xml)
    host.stop(signal.SIGKILL)
    host.start()
    tap.equal(names(host, "m"), ["one", "three", "two"], "a new domusd knows them")
    tap.equal(good(host, "snapshot-current m --name").strip(), "three", "and the current one")
    good(host, "domrename m mm")
    tap.equal(names(host, "mm"), ["one", "three", "two"], "they stay with a domain that is renamed")
    good(host, "snapshot-delete mm two")
    tap.equal(names(host, "mm"), ["one", "three"], "snapshot-delete")
    tap.equal(good(host, "snapshot-parent mm three").strip(), "one", "its child has its parent")
    tap.ok("two" not in qemu_img("snapshot", "-l", path), "the image does not have it")
    good(host, "snapshot-delete mm three --metadata", "snapshot-delete --metadata")
    tap.equal(good(host, "snapshot-current mm --name").strip(), "one", "the current one is its parent")
    tap.contains(qemu_img("snapshot", "-l", path), "three", "the image has it still")
    good(host, "undefine mm --snapshots-metadata", "undefine --snapshots-metadata")
    tap.ok(not os.listdir(f"{host.root}/var/lib/domus/snapshot"), "nothing is left of them")
    tap.contains(qemu_img("snapshot", "-l", path), "one", "but what is in the image")


def redefine(host, xml):
    """Dumped, forgotten, and known again."""
    path = host.write_xml(xml, "two.xml")
    good(host, "snapshot-delete m two --metadata")
    good(host, f"snapshot-create m {path} --redefine", "snapshot-create --redefine")
    tap.equal(good(host, "snapshot-dumpxml m two"), xml, "it is what it was")
    good(host, "snapshot-delete m three --metadata")
    three = xml.replace("two", "three").replace("<name>one</name>", "<name>two</name>")
    three = three.replace("number two", "number three")
    good(host, f"snapshot-create m {host.write_xml(three, 'three.xml')} --redefine --current", "--redefine --current")
    bad = xml.replace("<name>one</name>", "<name>three</name>")
    refused(host, f"snapshot-create m {host.write_xml(bad, 'bad.xml')} --redefine", "would create cycle", "a circle of parents")
    bad = xml.replace("<name>one</name>", "<name>none</name>")
    refused(host, f"snapshot-create m {host.write_xml(bad, 'bad.xml')} --redefine", "parent none", "a parent that is not there")
    bad = re.sub(r"<uuid>[^<]*", "<uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809", xml)
    refused(host, f"snapshot-create m {host.write_xml(bad, 'bad.xml')} --redefine", "must use uuid", "of another domain")


# ---- internal


def offline(host):
    one, two = make(host, "o1.qcow2", "qcow2"), make(host, "o2.qcow2", "qcow2")
    define(host, "o", disk(one, "xvda", "qcow2") + disk(two, "xvdb", "qcow2"))
    poke(one, "qcow2", "a")
    poke(two, "qcow2", "b")
    good(host, "snapshot-create-as o s1")
    poke(one, "qcow2", "x")
    poke(two, "qcow2", "y")
    good(host, "snapshot-revert o s1")
    tap.equal((in_image(one, "qcow2"), in_image(two, "qcow2")), ("a", "b"), "both disks are what they were")
    os.rename(two, two + ".away")
    refused(host, "snapshot-create-as o s2", "o2.qcow2", "an image that is not there")
    tap.ok("s2" not in qemu_img("snapshot", "-l", one), "and the other has no snapshot either")
    refused(host, "snapshot-revert o s1", "o2.qcow2", "going back without it")
    os.rename(two + ".away", two)
    poke(one, "qcow2", "z")
    qemu_img("snapshot", "-d", "s1", two)
    refused(host, "snapshot-revert o s1", "does not have snapshot 's1'", "an image that lost it")
    tap.equal(in_image(one, "qcow2"), "z", "and nothing was changed")
    good(host, "snapshot-delete o s1", "it can be deleted")
    raw = make(host, "o.img", "raw")
    define(host, "r", disk(raw, "xvda", "raw"))
    refused(host, "snapshot-create-as r s1", "format raw has none", "an internal one of a raw disk")


def running(host):
    path = make(host, "i.qcow2", "qcow2")
    define(host, "i", disk(path, "xvda", "qcow2"))
    console = boot(host, "i")
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    write(console, "a")
    run(console, "echo before >/tmp/state; n=before")
    good(host, "snapshot-create-as i s1")
    tap.equal(host.state("i"), "running", "it runs on")
    tap.equal(run(console, "echo $n"), "before", "and has not noticed")
    tap.contains(good(host, "snapshot-info i s1"), "running", "the snapshot is of a running domain")
    write(console, "b")
    run(console, "echo after >/tmp/state; n=after")
    good(host, "snapshot-create-as i s2")
    write(console, "c")
    good(host, "snapshot-revert i s1")
    tap.ok(watcher.expect(r"'lifecycle' for domain 'i': Started Snapshot", 10), "event: from snapshot", watcher.text[-500:])
    tap.contains(good(host, "domstate i --reason"), "from snapshot", "domstate says why")
    console.close()
    console = attach(host, "i")
    tap.equal(run(console, "echo $n; cat /tmp/state").split(), ["before", "before"], "memory is what it was")
    tap.equal(read(console), "a", "so is the disk")
    tap.equal(good(host, "snapshot-current i --name").strip(), "s1", "the current one")
    write(console, "d")
    good(host, "snapshot-revert i s2 --paused", "snapshot-revert --paused")
    tap.equal(host.state("i"), "paused", "it is paused")
    good(host, "resume i")
    console.close()
    console = attach(host, "i")
    tap.equal((run(console, "echo $n"), read(console)), ("after", "b"), "forth again")
    good(host, "suspend i")
    good(host, "snapshot-create-as i s3")
    tap.equal(host.state("i"), "paused", "a paused domain stays paused")
    good(host, "destroy i")
    good(host, "snapshot-revert i s3", "from shut off")
    tap.equal(host.state("i"), "paused", "it is paused as it was")
    good(host, "snapshot-delete i s2", "snapshot-delete while it runs")
    tap.ok("s2" not in qemu_img("snapshot", "-l", "-U", path), "the image has lost it")
    good(host, "snapshot-revert i s1 --running")
    console.close()
    console = attach(host, "i")
    host.stop(signal.SIGKILL)
    host.start()
    console.close()
    console = attach(host, "i")
    good(host, "snapshot-revert i s1", "after a restart of domusd")
    console.close()
    console = attach(host, "i")
    tap.equal(read(console), "a", "all the same")
    good(host, "snapshot-create-as i s4 --halt", "snapshot-create-as --halt")
    tap.equal(host.state("i"), "shut off", "it is shut off")
    tap.contains(good(host, "domstate i --reason"), "from snapshot", "and says why")
    good(host, "snapshot-revert i s4")
    tap.equal(host.state("i"), "running", "and runs again")
    good(host, "snapshot-delete i s1 --children", "snapshot-delete --children")
    tap.equal(names(host, "i"), [], "all are gone")
    tap.ok("s" not in re.sub(r"(?s).*ICOUNT", "", qemu_img("snapshot", "-l", "-U", path)), "from the image as well")
    console.close()
    watcher.close()
    good(host, "destroy i")


# ---- external


def sources(host, name, *options):
    rows = [line.split() for line in host.virsh(f"domblklist {name} {' '.join(options)}").out.splitlines()[2:]]
    return {row[0]: os.path.basename(row[1]) for row in rows if row}


def external(host):
    raw, cow = make(host, "e1.img", "raw"), make(host, "e2.qcow2", "qcow2")
    define(host, "e", disk(raw, "xvda", "raw") + disk(cow, "xvdb", "qcow2"))
    console = boot(host, "e")
    write(console, "a")
    write(console, "b", "xvdb")
    # Somebody who writes, flushes and reads back all the time.
    run(console, "(n=0; while :; do n=$((n+1)); for d in xvda xvdb; do echo $n | dd of=/dev/$d bs=4096 seek=999 conv=sync,fsync "
                 "2>/dev/null || echo $d >>/tmp/wrong; [ $(dd if=/dev/$d bs=4096 skip=999 count=1 iflag=direct 2>/dev/null | "
                 "head -1) = $n ] || echo $d $n >>/tmp/wrong; done; echo $n >/tmp/n; done) 2>/dev/null & true")
    good(host, "snapshot-create-as e d1 --disk-only --atomic", "snapshot-create-as --disk-only")
    tap.equal(sources(host, "e"), {"xvda": "e1.d1", "xvdb": "e2.d1"}, "both disks are on overlays")
    tap.equal(sources(host, "e", "--inactive"), sources(host, "e"), "in the definition as well")
    xml = good(host, "dumpxml e")
    tap.ok(re.search(r"<source file='[^']*e1.d1'/>\n\s*<backingStore type='file'>\n\s*<format type='raw'/>\n\s*<source "
                     r"file='[^']*e1.img'/>\n\s*<backingStore/>\n\s*</backingStore>", xml), "backingStore says what they are on", xml)
    tap.ok("<backingStore" not in good(host, "dumpxml e --inactive"), "of what runs alone")
    tap.equal(host.virsh_args("define", host.write_xml(xml, "e.xml")).status, 0, "such a document can be defined")
    tap.contains(good(host, "snapshot-info e d1"), "disk-snapshot", "the state of the snapshot")
    tap.contains(good(host, "snapshot-dumpxml e d1"), "<disk name='xvda' snapshot='external' type='file'>", "its document")
    write(console, "c")
    write(console, "d", "xvdb")
    tap.equal((in_image(raw, "raw"), in_image(cow, "qcow2")), ("a", "b"), "the images below stay as they were")
    good(host, f"snapshot-create-as e m1 --memspec {host.root}/m1.mem --diskspec xvda,file={host.root}/top1 "
               f"--diskspec xvdb,file={host.root}/top2", "snapshot-create-as --memspec --diskspec")
    tap.equal(sources(host, "e"), {"xvda": "top1", "xvdb": "top2"}, "overlays by name")
    tap.contains(good(host, "snapshot-info e m1"), "external", "of memory and disks")
    before = run(console, "cat /tmp/n")
    tap.ok(wait_for(lambda: run(console, "cat /tmp/n") != before, 30), "the writer in the guest goes on")
    tap.equal(run(console, "cat /tmp/wrong"), "cat: can't open '/tmp/wrong': No such file or directory", "nothing went wrong for it")
    run(console, "state=lost")
    write(console, "e")
    write(console, "f", "xvdb")
    bad_external(host)
    host.stop(signal.SIGKILL)
    host.start()
    for pid in host.processes("qemu-storage-daemon")[:1]:
        os.kill(pid, signal.SIGKILL)
    console.close()
    console = attach_again(host, "e")
    tap.equal((read(console), read(console, "xvdb")), ("e", "f"), "a new domusd, a killed storage daemon: the disks are there")
    good(host, "snapshot-revert e m1", "snapshot-revert to memory and disks")
    console.close()
    console = attach(host, "e")
    tap.equal((read(console), read(console, "xvdb"), run(console, "echo x$state")), ("c", "d", "x"), "all is what it was")
    tap.equal(run(console, "cat /tmp/wrong"), "cat: can't open '/tmp/wrong': No such file or directory",
              "the writer finds on the disks what it had written")
    now = sources(host, "e")
    tap.ok(now["xvda"].startswith("e1.") and now["xvda"] != "e1.d1", "on overlays of their own", now)
    write(console, "g")
    good(host, "snapshot-revert e m1 --paused", "and once more")
    good(host, "resume e")
    console.close()
    console = attach(host, "e")
    tap.equal(read(console), "c", "what was written in between is gone")
    refused(host, "snapshot-revert e d1 --running", "must respawn", "a boot in the place of a guest, without --force")
    good(host, "snapshot-revert e d1 --running --force", "snapshot-revert --force")
    console.close()
    console = attach(host, "e")
    tap.equal((read(console), read(console, "xvdb")), ("a", "b"), "booted on the disks of the first")
    console.close()
    good(host, "destroy e")
    good(host, "snapshot-revert e d1")
    tap.equal(host.state("e"), "shut off", "or shut off")
    refused(host, "snapshot-delete e d1", "on other images by now", "deleting what others are on")
    good(host, "snapshot-delete e d1 --children --metadata")
    good(host, "undefine e")


def bad_external(host):
    refused(host, f"snapshot-create-as e x --disk-only --diskspec xvda,file={host.root}/top1", "already exists",
            "an overlay that is there")
    refused(host, "snapshot-create-as e x --disk-only --diskspec xvda,file=/nonexistent/x --diskspec xvdb,snapshot=no",
            "/nonexistent/x", "an overlay that cannot be made")
    refused(host, f"snapshot-create-as e x --disk-only --diskspec xvda,file={host.root}/x1 --diskspec xvdb,file={host.root}/x1",
            "x1' would be both", "one overlay for two disks")
    os.mkdir(f"{host.root}/dir")
    refused(host, f"snapshot-create-as e x --disk-only --diskspec xvda,file={host.root}/x1 --diskspec xvdb,file={host.root}/dir/no/x2",
            "x2", "the second of two")
    tap.ok(not os.path.exists(f"{host.root}/x1"), "and the first is not left")
    with open(f"{host.root}/junk", "w") as f:
        f.write("junk")
    refused(host, f"snapshot-create-as e x --disk-only --reuse-external --diskspec xvda,file={host.root}/x1,snapshot=external",
            "missing existing file", "--reuse-external of what is not there")
    refused(host, f"snapshot-create-as e x --disk-only --reuse-external --diskspec xvda,file={host.root}/junk "
                  "--diskspec xvdb,snapshot=no", "not in qcow2 format", "--reuse-external of something else")
    refused(host, "snapshot-create-as e x --disk-only --quiesce", "gent", "--quiesce without an agent")
    refused(host, f"snapshot-create-as e x --memspec {host.root}/m1.mem", "exists already", "a memory file that is there")
    refused(host, f"snapshot-create-as e x --memspec {host.root}/x.mem --diskspec xvda,snapshot=no", "all disks",
            "memory without all disks")
    refused(host, f"snapshot-create-as e x --memspec {host.root}/x.mem --diskspec xvdb,snapshot=internal", "mixing",
            "internal and external")
    refused(host, "snapshot-create-as e x --disk-only --diskspec xvdb,snapshot=internal --diskspec xvda,snapshot=no",
            "require memory", "an internal one of a running domain without its memory")
    with host.unsaveable("e"):
        refused(host, "snapshot-create-as e x --disk-only", "e.xml", "a definition that cannot be saved")
    tap.equal(sources(host, "e"), {"xvda": "top1", "xvdb": "top2"}, "the disks are where they were")
    tap.ok(not [n for n in os.listdir(host.root) if n.endswith(".x") or n == "x.mem"], "and no file is left")
    tap.equal(names(host, "e"), ["d1", "m1"], "nor a snapshot")
    qemu_img("create", "-q", "-u", "-f", "qcow2", "-b", f"{host.root}/top2", "-F", "qcow2", f"{host.root}/mine", "16M")
    good(host, f"snapshot-create-as e r1 --disk-only --reuse-external --diskspec xvdb,file={host.root}/mine "
               "--diskspec xvda,snapshot=no", "--reuse-external")
    good(host, "snapshot-delete e r1 --metadata")


def merged(host):
    """External snapshots of what is off, and their end by commit."""
    raw = make(host, "c.img", "raw")
    define(host, "c", disk(raw, "xvda", "raw"))
    poke(raw, "raw", "a")
    for number, letter in ((1, "b"), (2, "c"), (3, "d")):
        good(host, f"snapshot-create-as c c{number} --disk-only")
        poke(f"{host.root}/c.c{number}", "qcow2", letter)
        poke(f"{host.root}/c.c{number}", "qcow2", letter, number)
    tap.equal(in_image(raw, "raw"), "a", "the image below is what it was")
    good(host, "snapshot-delete c c2", "the one in the middle")
    tap.ok(not os.path.exists(f"{host.root}/c.c2"), "its overlay is gone")
    top = f"{host.root}/c.c3"
    tap.equal([in_image(top, "qcow2", at) for at in range(4)], ["d", "b", "c", "d"], "and all that was written is there")
    good(host, "snapshot-revert c c3", "the one above can still be gone back to")
    here = host.root + "/" + sources(host, "c")["xvda"]
    tap.equal([in_image(here, "qcow2", at) for at in range(3)], ["c", "b", "c"], "and is what it was")
    refused(host, "snapshot-delete c c3", "on other images by now", "one whose overlay is not in use")
    good(host, "snapshot-delete c c3 --metadata")
    good(host, "snapshot-delete c c1", "the first")
    tap.equal([in_image(raw, "raw", at) for at in range(3)], ["c", "b", "c"], "is in the first image")
    good(host, "undefine c")


def merged_running(host):
    """The same while the guest uses the disk."""
    raw = make(host, "d.img", "raw")
    define(host, "d", disk(raw, "xvda", "raw"))
    console = boot(host, "d")
    write(console, "a")
    for number, letter in ((1, "b"), (2, "c"), (3, "d")):
        good(host, f"snapshot-create-as d d{number} --disk-only")
        write(console, letter, at=number)
    good(host, "snapshot-delete d d2", "while it runs: the one in the middle")
    tap.ok(not os.path.exists(f"{host.root}/d.d2"), "its overlay is gone")
    tap.equal([read(console, at=at) for at in range(4)], ["a", "b", "c", "d"], "the guest reads all that it wrote")
    good(host, "snapshot-delete d d3", "the last one")
    tap.equal((sources(host, "d"), sources(host, "d", "--inactive")), ({"xvda": "d.d1"},) * 2, "both documents follow")
    write(console, "e", at=4)
    good(host, "snapshot-delete d d1", "the first one")
    tap.equal(sources(host, "d"), {"xvda": "d.img"}, "on the first image")
    tap.equal([read(console, at=at) for at in range(5)], ["a", "b", "c", "d", "e"], "which has everything")
    good(host, "undefine d", "no snapshot is left")
    console.close()
    good(host, "destroy d")
    tap.equal([in_image(raw, "raw", at) for at in range(5)], ["a", "b", "c", "d", "e"], "in the image")


def saved(host):
    """Snapshots, managed saves and transient domains."""
    path = make(host, "v.qcow2", "qcow2")
    define(host, "v", disk(path, "xvda", "qcow2"))
    good(host, "start v --paused")
    good(host, "snapshot-create-as v s1")
    good(host, "managedsave v")
    refused(host, "snapshot-create-as v s2", "managed save image", "a snapshot of what has a managed save")
    good(host, "snapshot-revert v s1", "going back from there")
    tap.ok("yes" not in re.search(r"Managed save: +(\w+)", good(host, "dominfo v")).group(1), "which ends the managed save")
    refused(host, f"migrate v '{host.uri}' --live", "cannot migrate domain with 1 snapshots", "migration")
    good(host, "undefine v", "undefine of what runs keeps its snapshots")
    tap.equal(names(host, "v"), ["s1"], "as a transient domain's")
    refused(host, "snapshot-create-as v s2 --halt", "cannot halt after transient", "--halt of a transient domain")
    good(host, "destroy v")
    tap.ok(not [n for n in os.listdir(f"{host.root}/var/lib/domus/snapshot") if os.listdir(f"{host.root}/var/lib/domus/snapshot/{n}")],
           "which takes them along when it ends")


def quiesced(host):
    """With an agent in the guest, whose file system is clean in the snapshot though it is mounted and written to."""
    made = subprocess.run([os.path.join(TOP, "examples", "guest-agent-files.sh")], check=True, stdout=subprocess.PIPE, text=True)
    with open(f"{host.root}/initrd.gz", "wb") as out:
        for part in (f"{guest_files()}/initrd.gz", made.stdout.strip()):
            with open(part, "rb") as f:
                shutil.copyfileobj(f, out)
    raw = make(host, "q.img", "raw", 16)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", raw], check=True)
    define(host, "q", disk(raw, "xvda", "raw") + "<channel type='unix'><target type='xen' name='org.qemu.guest_agent.0'/></channel>",
           initrd=f"{host.root}/initrd.gz")
    console = boot(host, "q")
    run(console, "mkdir -p /var/run /mnt; mount -t ext4 /dev/xvda /mnt; (xen-guest-agent >/tmp/agent.out 2>&1 &)")
    tap.ok(wait_for(lambda: "state='connected'" in host.virsh("dumpxml q").out, 60), "an agent")
    run(console, "(while :; do date >>/mnt/log; echo more; done) >/dev/null 2>&1 & true")
    good(host, "snapshot-create-as q q1 --disk-only --quiesce", "snapshot-create-as --quiesce")
    out = subprocess.run(["dumpe2fs", "-h", raw], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    tap.ok("needs_recovery" not in out and re.search(r"Filesystem state: +clean", out), "the file system was at rest", out)
    before = run(console, "wc -l </mnt/log")
    tap.ok(wait_for(lambda: run(console, "wc -l </mnt/log") != before, 20), "and was thawed")
    with host.unsaveable("q"):
        refused(host, "snapshot-create-as q q2 --disk-only --quiesce", "q.xml", "one that fails")
    before = run(console, "wc -l </mnt/log")
    tap.ok(wait_for(lambda: run(console, "wc -l </mnt/log") != before, 20), "thaws as well")
    console.close()
    good(host, "destroy q")


def python(host):
    import libvirt
    libvirt.registerErrorHandler(lambda *_: None, None)
    path = make(host, "p.qcow2", "qcow2")
    define(host, "p", disk(path, "xvda", "qcow2"))
    with_connection = libvirt.open(host.uri)
    domain = with_connection.lookupByName("p")
    snapshot = domain.snapshotCreateXML("<domainsnapshot><name>py</name></domainsnapshot>",
                                        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC)
    tap.equal(snapshot.getName(), "py", "python: snapshotCreateXML")
    tap.equal((domain.snapshotNum(), domain.snapshotListNames()), (1, ["py"]), "python: snapshotNum, snapshotListNames")
    tap.equal((domain.hasCurrentSnapshot(), snapshot.isCurrent(), snapshot.hasMetadata()), (1, 1, 1), "python: is current")
    child = domain.snapshotCreateXML("<domainsnapshot><name>kid</name></domainsnapshot>", 0)
    tap.equal((snapshot.numChildren(), snapshot.listChildrenNames(), [s.getName() for s in snapshot.listAllChildren()]),
              (1, ["kid"], ["kid"]), "python: children")
    tap.equal(child.getParent().getName(), "py", "python: getParent")
    try:
        libvirt.openReadOnly(host.uri).lookupByName("p").snapshotCurrent().getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE)
        tap.ok(False, "python: secrets are not for read-only clients")
    except libvirt.libvirtError as e:
        tap.equal(e.get_error_code(), libvirt.VIR_ERR_OPERATION_DENIED, "python: secrets are not for read-only clients")
    try:
        domain.snapshotCreateXML("<domainsnapshot><memory snapshot='external'/></domainsnapshot>", 0)
        tap.ok(False, "python: bad XML is refused")
    except libvirt.libvirtError as e:
        tap.equal(e.get_error_code(), libvirt.VIR_ERR_XML_ERROR, "python: bad XML is refused")
    domain.revertToSnapshot(snapshot, 0)
    child.delete(0)
    snapshot.delete(0)
    tap.equal(domain.snapshotNum(), 0, "python: delete")
    with_connection.close()


PARTS = (metadata, half_way, offline, running, external, merged, merged_running, saved, quiesced, python)

with Host() as host:
    for part in PARTS:
        if not sys.argv[1:] or part.__name__ in sys.argv[1:]:
            part(host)
tap.done()
