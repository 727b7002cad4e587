#!/usr/bin/python3
"""Block jobs: images are pulled, committed and copied while a guest writes, and what it reads is always what it wrote.

Stock virsh with its own waiting, libvirt's Python bindings, qemu-img to look at what is left.
"""
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

WRONG = "cat: can't open '/tmp/wrong': No such file or directory"


def progress(host, domain, *options):
    """virsh shows it on its standard error."""
    result = host.virsh(f"blockjob {domain} xvda {' '.join(options)}")
    return result.out + result.err


def run(console, command, seconds=60):
    return (console.run(command, seconds) or "").strip()


def write(console, letter, target="xvda", at=0):
    run(console, f"head -c 65536 /dev/zero | tr '\\0' {letter} | dd of=/dev/{target} bs=64k seek={at} conv=fsync 2>/dev/null")


def read(console, target="xvda", at=0):
    return run(console, f"dd if=/dev/{target} bs=64k skip={at} count=1 iflag=direct 2>/dev/null | head -c 1")


def content(path, form):
    """The first letters of the first blocks of an image that nobody uses."""
    qemu_img("convert", "-f", form, "-O", "raw", path, path + ".out")
    with open(path + ".out", "rb") as f:
        data = f.read()
    os.unlink(path + ".out")
    return "".join(chr(data[at * 65536]) for at in range(4))


def attach(host, name):
    console = host.console(name)
    tap.ok(console.prompt(), f"{name}: the guest answers", console.text[-2000:])
    run(console, "dmesg -n 1")
    return console


def boot(host, name):
    good(host, f"start {name}")
    console = attach(host, name)
    # Somebody who writes, flushes and reads back all the time.
    run(console, "(n=0; while :; do n=$((n+1)); echo $n | dd of=/dev/xvda bs=4096 seek=999 conv=sync,fsync 2>/dev/null || "
                 "echo error >>/tmp/wrong; [ $(dd if=/dev/xvda bs=4096 skip=999 count=1 iflag=direct 2>/dev/null | head -1) = "
                 "$n ] || echo $n >>/tmp/wrong; echo $n >/tmp/n; done) 2>/dev/null & true")
    return console


def source(host, name, *options):
    return os.path.basename(host.virsh(f"domblklist {name} {' '.join(options)}").out.splitlines()[2].split()[1])


def chain(host, name):
    """The images that the document says the disk is on."""
    xml = host.virsh(f"dumpxml {name}").out
    return [os.path.basename(path) for path in re.findall(r"<source file='([^']*)'", xml[xml.index("<disk "):xml.index("</disk>")])]


def is_fine(console, what):
    before = run(console, "cat /tmp/n")
    tap.ok(wait_for(lambda: run(console, "cat /tmp/n") != before, 30), f"{what}: the guest goes on writing")
    tap.equal(run(console, "cat /tmp/wrong"), WRONG, f"{what}: and reads what it wrote")


def stack(host, name, console):
    """Three overlays, with a letter of each."""
    write(console, "a", at=0)
    for number, letter in ((1, "b"), (2, "c"), (3, "d")):
        good(host, f"snapshot-create-as {name} s{number} --disk-only --no-metadata", f"overlay {number}")
        write(console, letter, at=number)


def commits(host):
    raw = make(host, "c.img", "raw")
    define(host, "c", disk(raw, "xvda", "raw"))
    console = boot(host, "c")
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    refused(host, "blockcommit c xvda", "has no backing file", "a commit of the only image")
    refused(host, "blockpull c xvda", "no backing file", "a pull of the only image")
    stack(host, "c", console)
    tap.equal(chain(host, "c"), ["c.s3", "c.s2", "c.s1", "c.img"], "the document says what the disk is on")
    refused(host, "blockcommit c xvda", "requires active flag", "a commit of the active layer, if it was not meant")
    refused(host, f"blockcommit c xvda --top {host.root}/c.s1 --base {host.root}/c.s2", "is not below", "upside down")
    refused(host, "blockcommit c xvda --top /nonexistent", "/nonexistent", "an image that is not there")
    refused(host, "blockcommit c xvda --active --keep-relative", "relative", "--keep-relative, by name")
    good(host, f"blockcommit c xvda --top {host.root}/c.s2 --base {host.root}/c.s1 --wait --verbose", "blockcommit of one in the middle")
    tap.ok(watcher.expect(r"'block-job-2' for domain 'c': Block Commit for xvda completed", 10), "event: block-job-2", watcher.text)
    tap.ok(re.search(r"'block-job' for domain 'c': Block Commit for \S*/c.s3 completed", watcher.text), "event: block-job")
    tap.equal(chain(host, "c"), ["c.s3", "c.s1", "c.img"], "it is not in the chain any more")
    is_fine(console, "commit")
    good(host, "blockcommit c xvda --active --wait --verbose", "blockcommit --active")
    tap.ok(re.search(r"Active Block Commit: \[100(\.00)? %\]", progress(host, "c")), "blockjob")
    tap.ok(re.search(r"<mirror type='file' job='active-commit' ready='yes'>", good(host, "dumpxml c")), "the document has a mirror")
    tap.ok("<mirror" not in good(host, "dumpxml c --inactive"), "of what runs alone")
    refused(host, "blockcommit c xvda --active", "already in active block job", "a second job")
    refused(host, "snapshot-create-as c x --disk-only", "active block job", "a snapshot meanwhile")
    refused(host, f"save c {host.root}/c.save", "active block job", "saving meanwhile")
    refused(host, "detach-disk c xvda --live", "active block job", "detaching meanwhile")
    refused(host, "blockresize c xvda 20MiB", "active block job", "growing meanwhile")
    good(host, "blockjob c xvda --abort", "blockjob --abort")
    tap.ok(watcher.expect(r"Active Block Commit for xvda canceled", 10), "event: canceled", watcher.text[-500:])
    tap.equal(source(host, "c"), "c.s3", "it is where it was")
    is_fine(console, "abort")
    good(host, "blockcommit c xvda --active --pivot --verbose --delete", "blockcommit --pivot --delete")
    tap.ok(watcher.expect(r"Active Block Commit for xvda completed", 10), "event: completed", watcher.text[-500:])
    tap.equal((source(host, "c"), source(host, "c", "--inactive")), ("c.img", "c.img"), "on the first image, in both documents")
    tap.ok(not os.path.exists(f"{host.root}/c.s3") and not os.path.exists(f"{host.root}/c.s1"), "the others are removed")
    tap.ok(wait_for(lambda: not host.processes("qemu-storage-daemon"), 10), "which is raw again, with nothing in between")
    is_fine(console, "pivot")
    tap.equal("".join(read(console, at=at) for at in range(4)), "abcd", "all that was written is there")
    console.close()
    good(host, "destroy c")
    tap.equal(content(raw, "raw"), "abcd", "in the image")
    watcher.close()


def pulls(host):
    raw = make(host, "p.img", "raw")
    define(host, "p", disk(raw, "xvda", "raw"))
    console = boot(host, "p")
    stack(host, "p", console)
    good(host, f"blockpull p xvda --base {host.root}/p.s1 --wait --verbose", "blockpull --base")
    tap.equal(chain(host, "p"), ["p.s3", "p.s1", "p.img"], "what is above the base is pulled")
    good(host, "blockpull p xvda --bandwidth 1 --bytes", "a pull that takes its time")
    out = progress(host, "p", "--bytes")
    tap.ok(re.search(r"Block Pull: \[ *[\d.]+ %\]", out) and "limit: 1 bytes/s" in out, "blockjob tells of it", out)
    tap.contains(good(host, "domstats p --block"), "block.0.name", "and others can ask for other things")
    good(host, "blockjob p xvda --bandwidth 7", "another speed")
    tap.contains(progress(host, "p"), "7.000 MiB/s", "is told")
    good(host, "blockjob p xvda --abort", "or none")
    tap.contains(progress(host, "p"), "No current block job", "it is gone")
    good(host, "blockpull p xvda --bandwidth 1 --bytes", "another")
    host.stop(signal.SIGKILL)
    host.start()
    tap.contains(progress(host, "p"), "Block Pull", "a new domusd knows of it")
    good(host, "blockjob p xvda --bandwidth 0")
    tap.ok(wait_for(lambda: "No current" in progress(host, "p"), 30), "and of its end")
    tap.equal(chain(host, "p"), ["p.s3"], "the disk is on one image")
    console.close()
    console = attach(host, "p")
    is_fine(console, "pull")
    tap.equal("".join(read(console, at=at) for at in range(4)), "abcd", "which has everything")
    console.close()
    good(host, "destroy p")
    tap.equal(content(f"{host.root}/p.s3", "qcow2"), "abcd", "by itself")


def copies(host):
    raw = make(host, "y.img", "raw")
    define(host, "y", disk(raw, "xvda", "raw"))
    console = boot(host, "y")
    write(console, "a")
    one, two = f"{host.root}/y.one", f"{host.root}/y.two"
    good(host, f"blockcopy y xvda {one} --format qcow2 --wait --verbose --pivot", "blockcopy of a raw disk, --pivot")
    tap.equal((source(host, "y"), source(host, "y", "--inactive")), ("y.one", "y.one"), "on the copy, in both documents")
    tap.contains(good(host, "dumpxml y"), "<driver type='qcow2'", "of another format")
    is_fine(console, "copy")
    tap.equal(read(console), "a", "with the same in it")
    write(console, "b", at=1)
    good(host, f"blockcopy y xvda {two} --format raw --wait --finish", "--finish leaves a copy")
    tap.equal(source(host, "y"), "y.one", "and the disk where it was")
    tap.equal(content(two, "raw")[:2], "ab", "the copy is complete")
    is_fine(console, "finish")
    refused(host, f"blockcopy y xvda {two} --format raw", "already exists", "a destination that is there")
    refused(host, f"blockcopy y xvda {host.root}/no/where", "no/where", "one that cannot be made")
    refused(host, f"blockcopy y xvda {host.root}/y.vmdk --format vmdk", "'vmdk'", "a format")
    refused(host, f"blockcopy y xvdz {host.root}/y.x", "xvdz", "a disk")
    refused(host, "blockjob y xvda --pivot", "does not have an active block job", "a pivot of nothing")
    good(host, f"blockcopy y xvda {two} --reuse-external --format raw --wait --pivot --synchronous-writes",
         "--reuse-external --synchronous-writes")
    tap.ok(wait_for(lambda: not host.processes("qemu-storage-daemon"), 10), "raw again")
    is_fine(console, "copy to raw")
    shallow(host, console)
    killed(host, console)
    good(host, "destroy y")
    tap.equal(content(f"{host.root}/y.last", "qcow2")[:3], "abk", "the last copy has everything")


def shallow(host, console):
    good(host, "snapshot-create-as y top --disk-only --no-metadata", "an overlay")
    write(console, "s", at=2)
    good(host, f"blockcopy y xvda {host.root}/y.shallow --shallow --wait --pivot", "blockcopy --shallow")
    tap.equal(chain(host, "y"), ["y.shallow", "y.two"], "copies the top alone")
    is_fine(console, "shallow")
    tap.equal("".join(read(console, at=at) for at in range(3)), "abs", "on the same image")


def killed(host, console):
    """A storage daemon that is killed ends the job; domusd that is killed does not."""
    good(host, f"blockcopy y xvda {host.root}/y.dead --format qcow2 --bandwidth 1 --bytes", "a copy that takes its time")
    refused(host, "blockjob y xvda --pivot", "not ready for pivot", "a pivot too early")
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    time.sleep(1)
    os.kill(host.processes("qemu-storage-daemon")[0], signal.SIGKILL)
    tap.ok(watcher.expect(r"Block Copy for xvda failed", 30), "a killed storage daemon: event failed", watcher.text[-500:])
    watcher.close()

    def answers():  # what was written and not made safe pauses the domain
        if host.state("y") == "paused":
            host.virsh("resume y")
        console.text = ""
        console.send("dd if=/dev/xvda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null; echo re''ad $?\n")
        return console.expect("read 0", 2)

    tap.ok(wait_for(answers, 90), "which is started again", console.text[-1000:])
    run(console, "rm -f /tmp/wrong")  # the guest was told of what failed, as the disk's policy is
    is_fine(console, "after it")
    good(host, f"blockcopy y xvda {host.root}/y.last --format qcow2 --wait", "another copy")
    write(console, "k", at=2)
    host.stop(signal.SIGKILL)
    host.start()
    good(host, "blockjob y xvda --pivot", "a new domusd ends it")
    tap.equal(chain(host, "y"), ["y.last"], "on the copy")
    console.close()
    console = attach(host, "y")
    is_fine(console, "pivot after a restart")
    console.close()


def backups(host):
    raw, cow = make(host, "b.img", "raw"), make(host, "b.qcow2", "qcow2")
    define(host, "b", disk(raw, "xvda", "raw") + disk(cow, "xvdb", "qcow2"))
    console = boot(host, "b")
    write(console, "a")
    write(console, "b", "xvdb")
    one, two = f"{host.root}/b.one", f"{host.root}/b.two"

    def backup(text, *options):
        return host.virsh_args("backup-begin", "b", host.write_xml(text, "backup.xml"), *options)

    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    time.sleep(1)
    result = backup(f"<domainbackup mode='push'><disks><disk name='xvda' type='file'><target file='{one}'/></disk>"
                    f"<disk name='xvdb' type='file'><driver type='raw'/><target file='{two}'/></disk></disks></domainbackup>")
    tap.equal(result.status, 0, "backup-begin") or tap.note(result)
    write(console, "x")
    write(console, "y", "xvdb")
    tap.ok(watcher.expect(r"'job-completed' for domain 'b':\s+operation: 9", 30), "event: job-completed", watcher.text[-600:])
    tap.ok(re.search(r"Backup for xvda completed", watcher.text) and "Backup for xvdb completed" in watcher.text, "and block-job-2")
    tap.equal((content(one, "qcow2")[0], content(two, "raw")[0]), ("a", "b"), "what was on the disks then, in both")
    tap.ok(re.search(r"Job type: +Completed\s+Operation: +Backup", good(host, "domjobinfo b --completed")), "domjobinfo")
    tap.ok(wait_for(lambda: len(host.processes("qemu-storage-daemon")) == 1, 10), "the raw disk is as before")
    is_fine(console, "backup")
    refused(host, "backup-dumpxml b", "no domain backup job present", "the XML of none")
    for text, part in (("<domainbackup mode='pull'/>", "needs a <server>"),
                       ("<domainbackup><incremental>c</incremental></domainbackup>", "there is no checkpoint 'c'"),
                       (f"<domainbackup><disks><disk name='xvda' type='file'><target file='{one}'/></disk></disks></domainbackup>",
                        "already exists"),
                       ("<domainbackup><disks><disk name='xvdz'/></disks></domainbackup>", "xvdz"),
                       ("<domainbackup><disks><disk name='xvda' backup='no'/></disks></domainbackup>", "no disks selected"),
                       (f"<domainbackup><disks><disk name='xvda' type='file'><target file='{one}.x'/></disk><disk name='xvdb' "
                        "type='file'><target file='/nonexistent/x'/></disk></disks></domainbackup>", "/nonexistent/x")):
        result = backup(text)
        tap.ok(result.status and part in result.err, f"refused: {part}", result)
    tap.ok(not os.path.exists(one + ".x"), "of two targets one of which cannot be made none is left")
    result = host.virsh_args("backup-begin", "b", host.write_xml("<domainbackup/>", "backup.xml"),
                             host.write_xml("<domaincheckpoint/>", "checkpoint.xml"))
    tap.contains(result.err, "unsupported for storage type raw", "nor with a checkpoint of a raw disk")
    tap.equal(host.virsh_args("backup-begin", "b").status, 0, "without a document")
    tap.ok(watcher.expect(r"(?s)job-completed.*'job-completed' for domain 'b'", 30), "it completes", watcher.text[-600:])
    tap.equal(sorted(n.rsplit(".", 1)[0] for n in os.listdir(host.root) if re.match(r"b\.(img|qcow2)\.\d+$", n)),
              ["b.img", "b.qcow2"], "beside the images")
    is_fine(console, "and after that")
    watcher.close()
    console.close()
    good(host, "destroy b")
    aborted(host)


def aborted(host):
    """Of a disk so large that it takes long, though there is nothing in it."""
    define(host, "t", disk(make(host, "t.img", "raw", 8 << 20), "xvda", "raw"))
    good(host, "start t --paused")
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    time.sleep(1)
    good(host, "backup-begin t", "a backup that takes its time")
    tap.ok(re.search(r"Operation: +Backup", good(host, "domjobinfo t")), "domjobinfo while it is under way")
    tap.ok(re.search(r"<disk name='xvda' backup='yes' type='file' backupmode='full'>\n +<driver type='qcow2'/>\n +<target file='[^']*/t.img.\d+'/>",
                     good(host, "backup-dumpxml t")), "backup-dumpxml")
    result = host.virsh_args("backup-begin", "t")
    tap.ok(result.status and "active block job" in result.err, "refused: a second one", result)
    good(host, "domjobabort t", "domjobabort")
    tap.ok(watcher.expect(r"Backup for xvda canceled", 10), "event: canceled", watcher.text)
    tap.contains(good(host, "domjobinfo t"), "None", "it is over")
    tap.ok(wait_for(lambda: not host.processes("qemu-storage-daemon"), 60), "and the disk is as before")
    watcher.close()
    good(host, "destroy t")


def python(host):
    import libvirt
    libvirt.registerErrorHandler(lambda *_: None, None)
    path = make(host, "l.qcow2", "qcow2")
    define(host, "l", disk(path, "xvda", "qcow2"))
    good(host, "start l --paused")
    connection = libvirt.open(host.uri)
    domain = connection.lookupByName("l")
    tap.equal(domain.blockJobInfo("xvda", 0), {}, "python: no job")
    domain.blockRebase("xvda", f"{host.root}/l.copy", 0,
                       libvirt.VIR_DOMAIN_BLOCK_REBASE_COPY | libvirt.VIR_DOMAIN_BLOCK_REBASE_COPY_RAW)
    tap.equal(domain.blockJobInfo("xvda", 0)["type"], libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY, "python: blockRebase copies")

    def ready():
        info = domain.blockJobInfo("xvda", 0)
        return info and info["cur"] == info["end"]

    tap.ok(wait_for(ready, 20), "python: it becomes ready")
    domain.blockJobAbort("xvda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    tap.contains(domain.XMLDesc(), "l.copy", "python: blockJobAbort pivots")
    for params, part in (({"granularity": 3}, "power of 2"), ({"frob": 1}, "frob")):
        try:
            domain.blockCopy("xvda", f"<disk type='file'><source file='{host.root}/l.x'/></disk>", params, 0)
            tap.ok(False, f"python: refused {params}")
        except libvirt.libvirtError as e:
            tap.contains(str(e), part, f"python: refused {params}")
    try:
        domain.blockCopy("xvda", "<disk type='file'/>", {}, 0)
        tap.ok(False, "python: a destination without a source")
    except libvirt.libvirtError as e:
        tap.equal(e.get_error_code(), libvirt.VIR_ERR_XML_ERROR, "python: a destination without a source")
    connection.close()
    good(host, "destroy l")


def interrupted(host):
    """domusd is killed at some moment of what it does to a disk, and the next one goes on: the guest notices nothing."""
    define(host, "k", disk(make(host, "k.img", "raw"), "xvda", "raw"))
    console = boot(host, "k")
    write(console, "a")
    operations = ("snapshot-create-as k n{0} --disk-only --no-metadata", "blockcopy k xvda {1}/k.copy{0} --format raw --wait --pivot",
                  "blockcommit k xvda --active --pivot")
    for number, milliseconds in enumerate((40, 80, 120, 160, 200, 250, 300, 400, 600)):
        command = operations[number % len(operations)].format(number, host.root)
        client = subprocess.Popen(["virsh", "-c", host.uri, command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(milliseconds / 1000)
        host.stop(signal.SIGKILL)
        client.wait(30)
        host.start()
        console.close()
        console = attach(host, "k")
        is_fine(console, f"{command.split()[0]}, killed after {milliseconds} ms")
        tap.equal(read(console), "a", "what was written before is there")
        tap.equal(source(host, "k"), source(host, "k", "--inactive"), "both documents agree")
        if "No current" not in progress(host, "k"):
            good(host, "blockjob k xvda --abort")
    console.close()
    good(host, "destroy k")


def stalled(host):
    """A storage daemon that stands still for longer than a snapshot waits for it: no request of the guest fails for that."""
    define(host, "w", disk(make(host, "w.qcow2", "qcow2"), "xvda", "qcow2"))
    console = boot(host, "w")
    is_fine(console, "before")
    server, = host.processes("qemu-storage-daemon")
    os.kill(server, signal.SIGSTOP)
    time.sleep(1)
    refused(host, "snapshot-create-as w one --disk-only", "'xvda' does not come to rest", "a snapshot of a disk that stands still")
    os.kill(server, signal.SIGCONT)
    is_fine(console, "when its daemon goes on")
    os.kill(server, signal.SIGSTOP)
    time.sleep(1)
    client = subprocess.Popen(["virsh", "-c", host.uri, "snapshot-create-as w two --disk-only"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    time.sleep(1)
    host.stop(signal.SIGKILL)
    client.wait(30)
    host.start()
    os.kill(server, signal.SIGCONT)
    console.close()
    console = attach(host, "w")
    is_fine(console, "domusd was killed while it waited for that")
    tap.equal(source(host, "w"), "w.qcow2", "the disk is where it was")
    host.virsh("suspend w")  # nothing is with the disk: it is to end at once
    server, = host.processes("qemu-storage-daemon")
    os.kill(server, signal.SIGSTOP)
    client = subprocess.Popen(["virsh", "-c", host.uri, "snapshot-create-as w three --disk-only"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    time.sleep(6)
    os.kill(server, signal.SIGCONT)
    tap.equal(client.wait(60), 0, "a snapshot while the daemon takes its time to end")
    tap.ok("killing it" not in host.log(), "it is not killed with what it has not written", host.log()[-1000:])
    host.virsh("resume w")
    is_fine(console, "after that")
    console.close()
    good(host, "destroy w")


PARTS = (interrupted, stalled, commits, pulls, copies, backups, python)

with Host() as host:
    for part in PARTS:
        if not sys.argv[1:] or part.__name__ in sys.argv[1:]:
            part(host)
tap.done()
