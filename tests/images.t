#!/usr/bin/python3
"""Disks that are not raw files: images of other formats, exports of NBD servers, drives; limits, errors, locks.

Stock virsh, qemu-img and qemu-nbd, and a real guest that reads and writes.
"""
import hashlib
import os
import re
import signal
import socket as socketlib
import subprocess
import sys
import time
from contextlib import closing

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Console, Host, alive, wait_for

MIB = 1 << 20
FORMATS = ("qcow2", "vmdk", "vhdx", "vdi", "vpc")


def qemu_img(*args):
    return subprocess.run(["qemu-img", *args], check=True, stdout=subprocess.PIPE, text=True).stdout


def make_raw(host, name, mib=8):
    path = f"{host.root}/{name}"
    with open(path, "wb") as f:
        f.write(os.urandom(mib * MIB))
    return path


def make(host, name, form, mib=8):
    """An image of random content, and the same content raw."""
    raw, path = make_raw(host, name + ".raw", mib), f"{host.root}/{name}"
    qemu_img("convert", "-f", "raw", "-O", form, raw, path)
    return path, raw


def digest(path, offset=0, size=None):
    with open(path, "rb") as f:
        f.seek(offset)
        return hashlib.md5(f.read(size) if size else f.read()).hexdigest()


def content(path, form):
    """The digest of what is in the image."""
    qemu_img("convert", "-f", form, "-O", "raw", path, path + ".out")
    return digest(path + ".out")


def disk(path, target, form="raw", extra="", driver=""):
    return f"<disk type='file'><driver type='{form}' {driver}/><source file='{path}'/><target dev='{target}'/>{extra}</disk>"


def network_disk(socket, target, name="", driver=""):
    return f"<disk type='network'><driver type='raw' {driver}/><source protocol='nbd' name='{name}'>" \
           f"<host transport='unix' socket='{socket}'/></source><target dev='{target}'/></disk>"


def with_devices(xml, devices):
    return xml.replace("<console", devices + "<console")


def define(host, name, devices):
    text = with_devices(host.xml(name=name, cmdline="console=hvc0 guest.modules"), devices)
    if name in host.virsh("list --all --name").out.split():
        host.virsh(f"undefine {name}")
    result = host.virsh_args("define", host.write_xml(text, f"{name}.xml"))
    tap.equal(result.status, 0, f"define {name}") or tap.note(result)


def start(host, name, devices):
    define(host, name, devices)
    result = host.virsh(f"start {name}")
    tap.equal(result.status, 0, f"start {name}") or tap.note(result)
    console = host.console(name)
    tap.ok(console.prompt(), f"{name} boots", console.text[-2000:])
    run(console, "dmesg -n 1")
    return console


def run(console, command, seconds=30):
    return (console.run(command, seconds) or "").strip()


def guest_digest(console, device, options=""):
    return (run(console, f"echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/{device} bs=64k {options} 2>/dev/null | md5sum").split() or [""])[0]


def storage_pids(host):
    return host.processes("qemu-storage-daemon")


def formats(host):
    images = [make(host, f"{form}.img", form) for form in FORMATS]
    targets = [f"xvd{chr(ord('a') + i)}" for i in range(len(images))]
    console = start(host, "g1", "".join(disk(path, target, form) for (path, _), target, form
                                       in zip(images, targets, FORMATS)))
    tap.equal(len(storage_pids(host)), len(images), "each image has a storage daemon")
    with open(f"/proc/{storage_pids(host)[0]}/status") as f:
        tap.ok(os.geteuid() != 0 or re.search(r"CapPrm:\s0000000000000002\n", f.read()), "with few privileges")
    for (path, raw), target, form in zip(images, targets, FORMATS):
        with open(raw, "rb") as f:
            wanted = f.read()
        run(console, f"md5sum </dev/{target}")
        tap.equal(guest_digest(console, target, f"count={len(wanted) // 65536}"), hashlib.md5(wanted).hexdigest(),
                  f"{form}: the guest reads what is in it")
        run(console, f"dd if=/dev/urandom of=/dev/{target} bs=256k count=8 seek=3 conv=notrunc,fsync 2>/dev/null")
    written = {target: guest_digest(console, target) for target in targets}
    out = host.virsh("domblkinfo g1 xvda").out
    tap.ok(re.search(r"Capacity: +8388608\b", out), "domblkinfo tells the size inside", out)
    tap.equal(host.virsh("blockresize g1 xvda 12MiB").status, 0, "blockresize of qcow2")
    tap.ok(wait_for(lambda: run(console, "cat /sys/block/xvda/size") == str(12 * MIB // 512), 20), "the guest sees more")
    tap.contains(host.virsh("blockresize g1 xvda 4MiB").err, "cannot become smaller", "but never less")
    run(console, "mke2fs -F /dev/xvdb >/dev/null 2>&1 && mkdir -p /m && mount -t ext2 /dev/xvdb /m && "
                 "dd if=/dev/urandom of=/m/file bs=64k count=32 2>/dev/null; sync; md5sum </m/file >/tmp/sum; umount /m; "
                 "mount -t ext2 /dev/xvdb /m")
    tap.equal(run(console, "md5sum </m/file"), run(console, "cat /tmp/sum"), "a file system lives on one")
    run(console, "umount /m")
    out = host.virsh("domblklist g1 --details").out
    tap.ok(re.search(r"file +disk +xvda +" + re.escape(images[0][0]), out), "domblklist", out)
    console.close()
    killed_daemon(host, images[0][0])
    tap.equal(host.virsh("destroy g1").status, 0, "destroy")
    tap.ok(wait_for(lambda: not storage_pids(host), 10), "the storage daemons end with the domain", storage_pids(host))
    out = host.virsh("domblkinfo g1 xvda").out
    tap.ok(re.search(r"Capacity: +12582912\b", out), "domblkinfo of what does not run", out)
    qemu_img("resize", "-q", images[0][0], "16M")
    tap.contains(host.virsh("domblkinfo g1 xvda").out, "16777216", "looks inside")
    tap.equal([n for n in os.listdir(f"{host.root}/run/domus") if "xvd" in n], [], "and leave nothing")
    for (path, _), target, form in list(zip(images, targets, FORMATS))[2:]:
        tap.equal(content(path, form), written[target], f"{form}: what the guest wrote is in it")


def killed_daemon(host, image):
    """domusd goes and comes; a storage daemon goes and is started again, also when domusd is not there to see it."""
    before = sorted(storage_pids(host))
    host.stop(signal.SIGKILL)
    host.start()
    tap.equal(sorted(storage_pids(host)), before, "storage daemons outlive domusd")
    console = host.console("g1")
    console.prompt()
    tap.ok(run(console, "dd if=/dev/xvdc of=/dev/null bs=64k iflag=direct count=20 2>/dev/null; echo $?").endswith("0"),
           "and go on serving")
    run(console, "touch /go /unread; (while [ -e /go ]; do for d in a b c d e; do dd if=/dev/xvd$d bs=64k count=20 iflag=direct "
                 "of=/dev/null 2>/dev/null || echo xvd$d >>/unread; done; done) & true")
    os.kill(before[0], signal.SIGKILL)
    tap.ok(wait_for(lambda: len(storage_pids(host)) == len(before) and before[0] not in storage_pids(host), 20),
           "one that is killed is started again")
    tap.equal(run(console, "rm /go; wait; cat /unread", 60), "", "the guest has noticed nothing")
    console.close()
    host.stop(signal.SIGKILL)
    victim = storage_pids(host)[1]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not alive(victim), 10)
    host.start()
    tap.ok(wait_for(lambda: len(storage_pids(host)) == len(before), 20), "a new domusd starts what is missing")
    console = host.console("g1")
    console.prompt()
    tap.ok(wait_for(lambda: not [t for t in ("xvda", "xvdb", "xvdc", "xvdd", "xvde") if not run(
        console, f"dd if=/dev/{t} of=/dev/null bs=64k count=20 iflag=direct 2>/dev/null; echo $?").endswith("0")], 20),
           "all disks can be read")
    console.close()


def hotplug(host):
    console = start(host, "g2", "")
    path, raw = make(host, "plug.qcow2", "qcow2")
    result = host.virsh(f"attach-disk g2 {path} xvda --subdriver qcow2 --live")
    tap.equal(result.status, 0, "attach-disk of qcow2") or tap.note(result)
    tap.ok(wait_for(lambda: run(console, "cat /sys/block/xvda/size") == str(8 * MIB // 512), 20), "the guest sees it")
    tap.equal(guest_digest(console, "xvda"), digest(raw), "and reads it")
    tap.equal(host.virsh("detach-disk g2 xvda --live").status, 0, "detach-disk")
    tap.ok(wait_for(lambda: not storage_pids(host), 10), "its storage daemon is gone")
    return console


def bad_images(host, console):
    path, raw = make(host, "bad.qcow2", "qcow2")
    out = host.virsh(f"attach-disk g2 {raw} xvdb --subdriver qcow2 --live").err
    tap.ok(raw in out and "not in qcow2 format" in out, "a wrong format is told", out)
    out = host.virsh(f"attach-disk g2 {host.root}/absent xvdb --subdriver vmdk --live").err
    tap.ok("absent" in out and "No such file" in out, "a missing image", out)
    with open(path, "r+b") as f:
        f.seek(8)
        f.write(b"\xff" * 200)
    out = host.virsh(f"attach-disk g2 {path} xvdb --subdriver qcow2 --live").err
    tap.ok(path in out and "disk 'xvdb'" in out, "a damaged one", out)
    tap.equal(storage_pids(host), [], "no storage daemon is left of them")
    tap.ok("xvdb" not in host.virsh("dumpxml g2").out, "nor a disk")
    tap.contains(host.virsh(f"attach-disk g2 {raw} xvdb --subdriver ploop --live").err, "'ploop'", "an unknown one is named")
    tap.ok(run(console, "ls /sys/block | grep -c xvd").endswith("0"), "the guest has seen none of it")


def locks(host, console):
    path, _ = make(host, "lock.qcow2", "qcow2")
    raw = make_raw(host, "lock.img")
    for image, form in ((path, "qcow2"), (raw, "raw")):
        tap.equal(host.virsh(f"attach-disk g2 {image} xvda --subdriver {form} --live").status, 0, f"{form}: attached")
        define(host, "g3", disk(image, "xvda", form))
        tap.contains(host.virsh("start g3").err, f"image '{image}' of disk 'xvda' is in use by domain 'g2'",
                     f"{form}: refused to another domain, by name")
        result = subprocess.run(["qemu-img", "resize", "-f", form, image, "8M"], stderr=subprocess.PIPE, text=True,
                                stdout=subprocess.DEVNULL)
        tap.ok(result.returncode and "lock" in result.stderr, f"{form}: and to qemu-img", result.stderr)
        tap.equal(host.virsh("detach-disk g2 xvda --live").status, 0, f"{form}: detached")
        tap.equal(subprocess.run(["qemu-img", "resize", "-f", form, image, "8M"], stdout=subprocess.DEVNULL).returncode, 0,
                  f"{form}: free again")
    server = subprocess.Popen(["qemu-nbd", "-f", "raw", "-k", f"{host.root}/lock.sock", "-t", raw])
    wait_for(lambda: os.path.exists(f"{host.root}/lock.sock"))
    tap.contains(host.virsh("start g3").err, "is in use by another disk or process", "what QEMU has is refused to us")
    server.terminate()
    server.wait()
    result = host.virsh(f"attach-disk g2 {raw} xvda --mode readonly --live")
    tap.equal(result.status, 0, "a read-only disk")
    define(host, "g3", disk(raw, "xvda", "raw", "<readonly/>"))
    tap.equal(host.virsh("start g3 --paused").status, 0, "can be read by two")
    tap.equal(host.virsh("destroy g3").status, 0, "destroy")
    define(host, "g3", disk(raw, "xvda"))
    tap.contains(host.virsh("start g3").err, "in use by domain 'g2'", "and not written meanwhile")
    host.virsh("detach-disk g2 xvda --live")
    result = host.virsh(f"attach-disk g2 {raw} xvda --mode shareable --live")
    tap.equal(result.status, 0, "a shareable disk") or tap.note(result)
    tap.contains(host.virsh("start g3").err, "in use by domain 'g2'", "is not had alone by another")
    define(host, "g3", disk(raw, "xvda", "raw", "<shareable/>"))
    tap.equal(host.virsh("start g3 --paused").status, 0, "but shared")
    host.virsh("destroy g3")
    host.virsh("detach-disk g2 xvda --live")


def nbd(host, console):
    raw, socket = make_raw(host, "nbd.img"), f"{host.root}/nbd.sock"
    argv = ["qemu-nbd", "-f", "raw", "-k", socket, "-t", "-x", "vol", "--shared=4", raw]
    server = subprocess.Popen(argv)
    wait_for(lambda: os.path.exists(socket))
    xml = host.write_xml(network_disk(socket, "xvda", "vol", "error_policy='stop'"), "nbd.xml")
    result = host.virsh_args("attach-device", "g2", xml, "--live")
    tap.equal(result.status, 0, "a network disk") or tap.note(result)
    tap.ok(wait_for(lambda: run(console, "cat /sys/block/xvda/size") == str(8 * MIB // 512), 20), "the guest sees it")
    tap.equal(guest_digest(console, "xvda"), digest(raw), "and reads it")
    run(console, "dd if=/dev/urandom of=/dev/xvda bs=64k count=64 conv=fsync 2>/dev/null")
    tap.equal(guest_digest(console, "xvda"), digest(raw), "what it writes is there after an fsync")
    tap.equal(storage_pids(host), [], "with nothing in between")
    tap.contains(host.virsh("domblkinfo g2 xvda").out, str(8 * MIB), "domblkinfo")
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    time.sleep(1)
    server.kill()
    server.wait()
    console.send("dd if=/dev/zero of=/dev/xvda bs=64k count=4 conv=fsync 2>/dev/null; echo do''ne $?\n")
    tap.ok(wait_for(lambda: host.virsh("domstate g2 --reason").out.split() == ["paused", "(I/O", "error)"], 20),
           "the server goes: the domain waits", host.virsh("domstate g2 --reason"))
    tap.ok(watcher.expect(r"'io-error-reason' for domain 'g2': .*xvda.*pause", 10), "event: I/O error", watcher.text)
    tap.ok(watcher.expect(r"'lifecycle' for domain 'g2': Suspended I/O Error", 10), "event: suspended", watcher.text)
    tap.contains(host.virsh("domblkerror g2").out, "xvda: unspecified error", "domblkerror")
    tap.contains(host.virsh("resume g2").err, socket, "it cannot go on without it")
    tap.equal(host.virsh("domstate g2").out.split(), ["paused"], "and waits on")
    server = subprocess.Popen(argv)
    tap.ok(wait_for(lambda: host.virsh("resume g2").status == 0, 20), "the server comes again: resume")
    tap.ok(console.expect(r"done 0", 30), "the guest has noticed nothing", console.text[-500:])
    tap.equal(digest(raw, 0, 4 * 65536), hashlib.md5(bytes(4 * 65536)).hexdigest(), "what was held is written")
    tap.contains(host.virsh("domblkerror g2").out, "No errors found", "domblkerror")
    tap.contains(host.virsh_args("attach-device", "g2", host.write_xml(network_disk(socket, "xvdb", "other"), "n.xml"),
                                 "--live").err, "other", "an export that is not there is named")
    tap.contains(host.virsh("blockresize g2 xvda 16MiB").err, "on the network", "its size is the server's")
    tap.equal(host.virsh("detach-disk g2 xvda --live").status, 0, "detached")
    server.terminate()
    server.wait()
    watcher.close()
    nbd_by_tcp(host, console, raw)


def free_port():
    with closing(socketlib.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def nbd_by_tcp(host, console, raw):
    """By TCP, with a server that is there and says nothing in the end."""
    port = free_port()
    argv = ["qemu-nbd", "-f", "raw", "-b", "127.0.0.1", "-p", str(port), "-t", "--shared=4", raw]
    server = subprocess.Popen(argv)
    xml = network_disk("", "xvdb").replace("transport='unix' socket=''/>",
                                           f"name='127.0.0.1' port='{port}'/><reconnect delay='120'/>")
    path = host.write_xml(xml, "tcp.xml")
    tap.ok(wait_for(lambda: host.virsh_args("attach-device", "g2", path, "--live").status == 0, 10), "an export by TCP")
    wait_for(lambda: run(console, "ls /dev/xvdb").startswith("/dev/xvdb"), 20)
    tap.equal(guest_digest(console, "xvdb"), digest(raw), "is read")
    define(host, "g7", xml)
    tap.equal(host.virsh("start g7 --paused").status, 0, "and by another domain, if its server likes")
    server.send_signal(signal.SIGSTOP)
    console.send("dd if=/dev/xvdb of=/dev/null bs=64k count=4 iflag=direct 2>/dev/null; echo si''lent $?\n")
    time.sleep(1)
    begin = time.monotonic()
    tap.equal(host.virsh("destroy g7").status, 0, "a domain with a disk whose server is silent can be destroyed")
    tap.ok(time.monotonic() - begin < 10, "in time", time.monotonic() - begin)
    server.send_signal(signal.SIGCONT)
    tap.ok(console.expect("silent 0", 20), "the server speaks again, and the guest has waited")
    server.kill()
    server.wait()
    console.send("dd if=/dev/xvdb of=/dev/null bs=64k count=4 iflag=direct 2>/dev/null; echo g''one $?\n")
    time.sleep(1)
    server = subprocess.Popen(argv)
    tap.ok(console.expect("gone 0", 30), "it goes and comes, which the guest was to wait for")
    tap.equal(host.virsh("detach-disk g2 xvdb --live").status, 0, "detached")
    server.terminate()
    server.wait()
    tap.contains(host.virsh_args("attach-device", "g2", path, "--live").err, f"nbd://127.0.0.1:{port}/",
                 "a server that is not there is named")


def rate(console, seconds_for, command):
    out = run(console, f"t=$(cut -d. -f1 /proc/uptime); {command}; echo took $(( $(cut -d. -f1 /proc/uptime) - t ))", 120)
    return int(re.search(r"took (\d+)", out).group(1)) if "took" in out else -1


def limits(host, console):
    raw = make_raw(host, "slow.img", 16)
    host.virsh(f"attach-disk g2 {raw} xvda --live --config")
    wait_for(lambda: run(console, "ls /dev/xvda").startswith("/dev/xvda"), 20)
    read = "dd if=/dev/xvda of=/dev/null bs=64k count=128 iflag=direct 2>/dev/null"
    tap.ok(rate(console, 0, read) <= 2, "8 MiB without a limit")
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    time.sleep(1)
    result = host.virsh("blkdeviotune g2 xvda --total-bytes-sec 2097152 --live --config")
    tap.equal(result.status, 0, "blkdeviotune") or tap.note(result)
    tap.ok(watcher.expect(r"'tunable' for domain 'g2':[^']*blkdeviotune.disk: xvda\s+blkdeviotune.total_bytes_sec: 2097152", 10),
           "event: tunable", watcher.text)
    watcher.close()
    took = rate(console, 0, read)
    tap.ok(3 <= took <= 8, "8 MiB at 2 MiB a second", took)
    out = host.virsh("blkdeviotune g2 xvda").out
    tap.ok(re.search(r"total_bytes_sec *: 2097152\b", out), "is told", out)
    tap.ok(host.virsh("dumpxml g2").out.count("<total_bytes_sec>2097152<") == 1 and
           host.virsh("dumpxml g2 --inactive").out.count("<total_bytes_sec>2097152<") == 1, "in both documents")
    console.close()
    host.stop(signal.SIGKILL)
    host.start()
    console = host.console("g2")
    console.prompt()
    tap.contains(host.virsh("blkdeviotune g2 xvda").out, "2097152", "after a restart of domusd as well")
    tap.equal(host.virsh("blkdeviotune g2 xvda --total-bytes-sec 0 --write-iops-sec 20 --live").status, 0, "another one")
    took = rate(console, 0, "dd if=/dev/zero of=/dev/xvda bs=4k count=80 oflag=direct 2>/dev/null")
    tap.ok(3 <= took <= 8, "80 writes at 20 a second", took)
    tap.ok(rate(console, 0, read) <= 2, "reads are as fast as ever")
    tap.contains(host.virsh("blkdeviotune g2 xvda --total-iops-sec 10 --read-iops-sec 10 --live").err, "total and of read",
                 "limits that contradict each other are refused")
    tap.contains(host.virsh("blkdeviotune g2 xvda --size-iops-sec 10 --live").err, "size_iops_sec", "others by name")
    tap.equal(host.virsh("blkdeviotune g2 xvda --write-iops-sec 0 --live").status, 0, "and none")
    tap.ok("iotune" not in host.virsh("dumpxml g2").out, "which leaves nothing in the document")
    with host.unsaveable("g2"):
        tap.equal(host.virsh("blkdeviotune g2 xvda --total-bytes-sec 1048576 --live --config").status, 1,
                  "a definition that cannot be saved")
    tap.ok(rate(console, 0, read) <= 2, "leaves the disk as fast as it was")
    host.virsh("detach-disk g2 xvda --live --config")
    return console


def no_space(host, console):
    """An image on a file system that is full."""
    folder = f"{host.root}/small"
    os.mkdir(folder)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]).returncode:
        tap.ok(True, "no space # SKIP nothing can be mounted here")
        return
    try:
        qemu_img("create", "-f", "qcow2", f"{folder}/a.qcow2", "16M")
        with open(f"{folder}/b.img", "wb") as f:
            f.truncate(16 * MIB)
        for image, form in ((f"{folder}/a.qcow2", "qcow2"), (f"{folder}/b.img", "raw")):
            xml = host.write_xml(disk(image, "xvda", form, "", "error_policy='enospace'"), "space.xml")
            result = host.virsh_args("attach-device", "g2", xml, "--live")
            tap.equal(result.status, 0, f"{form}: attached") or tap.note(result)
            wait_for(lambda: run(console, "ls /dev/xvda").startswith("/dev/xvda"), 20)
            console.send("dd if=/dev/urandom of=/dev/xvda bs=64k count=100 conv=fsync 2>/dev/null; echo fi''lled $?\n")
            tap.ok(wait_for(lambda: "I/O error" in host.virsh("domstate g2 --reason").out, 30), f"{form}: full, and it waits")
            tap.contains(host.virsh("domblkerror g2").out, "xvda: no space", f"{form}: domblkerror")
            subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
            tap.equal(host.virsh("resume g2").status, 0, f"{form}: with more space")
            tap.ok(console.expect(r"filled 0", 60), f"{form}: it goes on", console.text[-300:])
            console.text = ""
            tap.equal(host.virsh("detach-disk g2 xvda --live").status, 0, f"{form}: detached") 
            os.unlink(image)
            subprocess.run(["mount", "-o", "remount,size=4m", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", folder])


def shrinks(host, console):
    raw = make_raw(host, "shrink.img")
    host.virsh(f"attach-disk g2 {raw} xvda --live")
    wait_for(lambda: run(console, "ls /dev/xvda").startswith("/dev/xvda"), 20)
    os.truncate(raw, MIB)
    tap.ok(run(console, "dd if=/dev/xvda of=/dev/null bs=64k skip=100 count=1 iflag=direct 2>/dev/null; echo $?").endswith("1"),
           "an image that shrinks: an I/O error for who reads there")
    tap.ok(run(console, "dd if=/dev/xvda of=/dev/null bs=64k count=8 iflag=direct 2>/dev/null; echo $?").endswith("0"),
           "and not elsewhere")
    tap.equal(host.virsh("detach-disk g2 xvda --live").status, 0, "detached")


def drives(host):
    one, two = make_raw(host, "one.iso", 4), make_raw(host, "two.iso", 6)
    three, three_raw = make(host, "three.qcow2", "qcow2", 2)
    cdrom = f"<disk type='file' device='cdrom'><source file='{one}'/><target dev='xvdc'/></disk>" \
            "<disk type='file' device='cdrom'><target dev='xvdd'/></disk>"
    console = start(host, "g4", cdrom)
    size = lambda target: run(console, f"cat /sys/block/{target}/size")
    tap.equal(run(console, "cat /sys/block/xvdc/ro /sys/block/xvdc/removable").split(), ["1", "1"], "a drive in the guest")
    tap.equal(guest_digest(console, "xvdc"), digest(one), "reads its medium")
    tap.equal(size("xvdd"), "0", "another one is empty")
    tap.contains(host.virsh("domblkinfo g4 xvdd").err, "does not currently have a source", "as domblkinfo says")
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    time.sleep(1)
    result = host.virsh("change-media g4 xvdc --eject --live --config")
    tap.equal(result.status, 0, "change-media --eject") or tap.note(result)
    tap.ok(wait_for(lambda: size("xvdc") == "0", 20), "the guest's drive is empty")
    tap.ok(watcher.expect(r"'tray-change' for domain 'g4' disk xvdc: opened", 10), "event: tray", watcher.text)
    tap.ok("one.iso" not in host.virsh("dumpxml g4").out + host.virsh("dumpxml g4 --inactive").out, "and in both documents")
    tap.contains(host.virsh("dumpxml g4").out, "tray='open'", "the tray is open")
    tap.contains(host.virsh("change-media g4 xvdc --eject --live").err, "doesn't have media", "twice it cannot be")
    result = host.virsh(f"change-media g4 xvdc {two} --insert --live --config")
    tap.equal(result.status, 0, "change-media --insert") or tap.note(result)
    tap.ok(wait_for(lambda: size("xvdc") == str(6 * MIB // 512), 20), "the guest sees another medium")
    tap.equal(guest_digest(console, "xvdc"), digest(two), "and reads it")
    tap.equal(host.virsh(f"change-media g4 xvdc {one} --update --live").status, 0, "change-media --update")
    tap.ok(wait_for(lambda: size("xvdc") == str(4 * MIB // 512), 20), "the guest sees the first again")
    tap.equal(guest_digest(console, "xvdc"), digest(one), "and reads it")
    tap.ok("two.iso" in host.virsh("dumpxml g4 --inactive").out, "the definition has the other")
    tap.contains(host.virsh("change-media g4 xvdc /nonexistent.iso --update --live").err, "/nonexistent.iso", "a missing one")
    tap.equal(guest_digest(console, "xvdc"), digest(one), "changes nothing")
    xml = f"<disk type='file' device='cdrom'><driver type='qcow2'/><source file='{three}'/><target dev='xvdd'/></disk>"
    result = host.virsh_args("update-device", "g4", host.write_xml(xml, "three.xml"), "--live")
    tap.equal(result.status, 0, "a medium of another format") or tap.note(result)
    tap.ok(wait_for(lambda: size("xvdd") == str(2 * MIB // 512), 20) and guest_digest(console, "xvdd") == digest(three_raw),
           "is read as well")
    tap.equal(len(storage_pids(host)), 1, "through a storage daemon")
    result = host.virsh_args("update-device", "g4", host.write_xml(xml.replace("three.qcow2'", "three.qcow2' "), "three.xml"), "--live")
    tap.equal(result.status, 0, "the same once more") or tap.note(result)
    tap.equal(len(storage_pids(host)), 1, "through one as before")
    tap.equal(host.virsh("change-media g4 xvdd --eject --live").status, 0, "ejected")
    tap.ok(wait_for(lambda: not storage_pids(host), 10), "which ends")
    xml = disk(two, "xvdc").replace("<disk ", "<disk device='disk' ")
    tap.contains(host.virsh_args("update-device", "g4", host.write_xml(xml, "x.xml"), "--live").err, "'xvdc' cannot be changed",
                 "a drive does not become a disk")
    watcher.close()
    console.close()
    tap.equal(host.virsh("destroy g4").status, 0, "destroy")


def twice(host):
    one, two = make_raw(host, "one.img", 1), make_raw(host, "two.img", 1)
    text = with_devices(host.xml(name="g6"), disk(one, "xvda") + disk(two, "xvda"))
    tap.contains(host.virsh_args("define", host.write_xml(text, "twice.xml")).err, "target 'xvda' duplicated",
                 "one target twice is refused")


with Host() as host:
    chosen = sys.argv[1:]
    if not chosen or "formats" in chosen:
        formats(host)
    if not chosen or set(chosen) & {"bad", "locks", "nbd", "limits", "space", "shrinks"}:
        console = hotplug(host)
        for name, part in (("bad", bad_images), ("locks", locks), ("nbd", nbd), ("limits", limits), ("space", no_space),
                           ("shrinks", shrinks)):
            if not chosen or name in chosen:
                console = part(host, console) or console
        console.close()
    if not chosen or "drives" in chosen:
        drives(host)
    if not chosen or "twice" in chosen:
        twice(host)
tap.done()
