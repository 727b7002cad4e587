#!/usr/bin/python3
"""Saving and restoring a guest with a disk, an interface and two vCPUs: it does not notice; damaged images are refused.

As root, in a network namespace of its own, as tests/devices.t.
"""
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Console, Host, wait_for

MIB = 1 << 20
BRIDGE, HOST_IP, GUEST_IP = "domus0", "192.0.2.1", "192.0.2.2"
MAC = "00:16:3e:12:34:57"


def enter_namespace():
    if os.environ.get("DOMUS_TEST_NETNS"):
        return
    if subprocess.run(["unshare", "-n", "true"], stderr=subprocess.DEVNULL).returncode:
        tap.skip_all("no network namespace can be made here")
    os.environ["DOMUS_TEST_NETNS"] = "1"
    os.execvp("unshare", ["unshare", "-n", sys.executable, os.path.abspath(__file__)])


def make_bridge():
    for command in (f"ip link set lo up", f"ip link add {BRIDGE} type bridge",
                    f"ip addr add {HOST_IP}/24 dev {BRIDGE}", f"ip link set {BRIDGE} up"):
        subprocess.run(command.split(), check=True)


def run(console, command, seconds=60):
    return (console.run(command, seconds) or "").strip()


def image(host, name, mib=16):
    path = f"{host.root}/{name}"
    with open(path, "wb") as f:
        f.truncate(mib * MIB)
    return path


def boot(host):
    disk = f"<disk type='file'><source file='{image(host, 'root.img')}'/><target dev='xvda'/></disk>"
    nic = f"<interface type='bridge'><mac address='{MAC}'/><source bridge='{BRIDGE}'/></interface>"
    text = host.xml(name="g1", vcpus=2, cmdline="console=hvc0 guest.modules")
    text = text.replace("<console", disk + nic + "<console")
    host.virsh_args("define", host.write_xml(text))
    result = host.virsh("start g1")
    tap.equal(result.status, 0, "start") or tap.note(result)
    console = host.console("g1")
    tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
    run(console, "dmesg -n 1")
    run(console, f"ip addr add {GUEST_IP}/24 dev eth0; ip link set eth0 up")
    tap.contains(run(console, f"ping -c 1 {HOST_IP}"), "1 packets received", "it reaches the host")
    # A program that looks at the clock and writes to the disk and to memory all the time.
    run(console, "dd if=/dev/urandom of=/tmp/data bs=1M count=20 2>/dev/null; md5sum </tmp/data >/tmp/sum; "
                 "dd if=/tmp/data of=/dev/xvda bs=1M 2>/dev/null; dd if=/dev/xvda bs=1M count=16 2>/dev/null | md5sum >/tmp/disk")
    run(console, "(n=0; last=0; while :; do now=$(cut -d. -f1 /proc/uptime); [ $now -lt $last ] && echo back >>/tmp/wrong; "
                 "last=$now; n=$((n+1)); echo $n >/tmp/n; dd if=/tmp/data of=/dev/xvda bs=64k count=1 conv=fsync 2>/dev/null "
                 "|| echo disk >>/tmp/wrong; done) & true")
    return console


def check(console, what):
    first = run(console, "cat /tmp/n")
    tap.ok(wait_for(lambda: run(console, "cat /tmp/n") != first, 30), f"{what}: its program goes on")
    tap.equal(run(console, "cat /tmp/wrong 2>/dev/null"), "", f"{what}: nothing went wrong for it")
    tap.equal(run(console, "md5sum </tmp/data"), run(console, "cat /tmp/sum"), f"{what}: memory is what it was")
    tap.equal(run(console, "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/xvda bs=1M count=16 2>/dev/null | md5sum"),
              run(console, "cat /tmp/disk"), f"{what}: the disk is what it was")
    tap.contains(run(console, f"ping -c 2 {HOST_IP}"), "2 packets received", f"{what}: the network works")
    tap.equal(run(console, "cat /sys/devices/system/cpu/online"), "0-1", f"{what}: both vCPUs are there")
    trouble = run(console, "dmesg | grep -E 'BUG: |detected stall|soft lockup -|blocked for more|Call Trace|marked unstable'")
    tap.equal(trouble, "", f"{what}: the kernel has nothing to complain about")


def again(host):
    console = host.console("g1")
    tap.ok(console.prompt(), "the console goes on", console.text[-500:])
    return console


def save_and_restore(host, console, path, watcher):
    console.close()
    result = host.virsh(f"save g1 {path}")
    tap.equal(result.status, 0, "save") or tap.note(result)
    tap.equal(host.state("g1"), "shut off", "it does not run any more")
    tap.ok(watcher.expect(r"'lifecycle' for domain 'g1': Stopped Saved", 10), "event: saved", watcher.text[-500:])
    tap.contains(host.virsh("domstate g1 --reason").out, "saved", "and says why")
    size = os.stat(path)
    tap.ok(size.st_blocks * 512 < size.st_size, "pages of zeroes take no room")
    start = time.time()
    result = host.virsh(f"restore {path}")
    tap.equal(result.status, 0, "restore") or tap.note(result)
    tap.note(f"restored in {1000 * (time.time() - start):.0f} ms, virsh included")
    tap.ok(watcher.expect(r"'lifecycle' for domain 'g1': Started Restored", 10), "event: restored", watcher.text[-500:])
    tap.equal(host.state("g1"), "running", "it runs")


def refused(host, path, why, name):
    result = host.virsh(f"restore {path}")
    tap.ok(result.status != 0 and why in result.err, f"refused: {name}", result)
    tap.equal(host.state("g1"), "shut off", "and nothing runs")


def damaged(host, good):
    bad = f"{host.root}/bad.save"
    size = os.path.getsize(good)

    def spoil(change):
        subprocess.run(["cp", "--sparse=always", good, bad], check=True)
        with open(bad, "r+b") as f:
            change(f)

    def flip(at):
        def change(f):
            f.seek(at)
            byte = f.read(1)
            f.seek(at)
            f.write(bytes([byte[0] ^ 1]))
        return change

    spoil(flip(0))
    refused(host, bad, "it is none", "a foreign file")
    spoil(flip(5000))
    refused(host, bad, "it is damaged", "a damaged configuration")
    spoil(flip(size - 5000))
    refused(host, bad, "damaged", "damaged state")
    with open(good, "rb") as f:
        text = f.read()
    at = text.rfind(b"guest.modules", 0, size - MIB)
    spoil(flip(at))
    refused(host, bad, "is damaged", "a damaged page")
    spoil(lambda f: f.truncate(size - 4096))
    refused(host, bad, "cut short", "a file that is cut short")
    spoil(lambda f: f.truncate(50))
    refused(host, bad, "too short", "a file without anything")


def edit_image(host, path):
    xml = host.virsh(f"save-image-dumpxml {path}").out
    tap.contains(xml, "<name>g1</name>", "save-image-dumpxml")
    changed = host.write_xml(xml.replace("<on_crash>destroy", "<on_crash>preserve") if "<on_crash>destroy" in xml
                             else xml.replace("</name>", "</name><title>edited</title>"), "image.xml")
    result = host.virsh(f"save-image-define {path} {changed} --paused")
    tap.equal(result.status, 0, "save-image-define") or tap.note(result)
    other = host.write_xml(xml.replace("<name>g1<", "<name>g2<"), "other.xml")
    tap.contains(host.virsh(f"save-image-define {path} {other}").err, "another domain", "another domain's XML is refused")
    tap.equal(host.virsh(f"restore {path}").status, 0, "restore what was edited")
    tap.equal(host.state("g1"), "paused", "it comes back paused, as it says now")
    tap.ok("preserve" in host.virsh("dumpxml g1").out or "edited" in host.virsh("dumpxml g1").out, "with what was edited")
    tap.equal(host.virsh("resume g1").status, 0, "resume")


def managed(host, console):
    console.close()
    result = host.virsh("managedsave g1")
    tap.equal(result.status, 0, "managedsave") or tap.note(result)
    tap.contains(host.virsh("list --all --managed-save").out, "saved", "list shows it")
    tap.contains(host.virsh("dominfo g1").out, "Managed save:   yes", "dominfo as well")
    tap.contains(host.virsh("undefine g1").err, "managed save", "it is not undefined so")
    host.stop(signal.SIGKILL)
    host.start()
    result = host.virsh("start g1")
    tap.equal(result.status, 0, "start, by another daemon") or tap.note(result)
    tap.contains(host.virsh("dominfo g1").out, "Managed save:   no", "the image is used up")


def cannot_save(host, console):
    before = run(console, "cat /tmp/n")
    result = host.virsh("save g1 /nonexistent/g1.save")
    tap.ok(result.status != 0 and "/nonexistent/g1.save" in result.err, "a place that is not there is named", result)
    small = f"{host.root}/small"
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], check=True)
    try:
        result = host.virsh(f"save g1 {small}/g1.save")
        tap.ok(result.status != 0 and "No space left" in result.err, "a full disk is told", result)
        tap.equal(os.listdir(small), [], "nothing is left on it")
    finally:
        subprocess.run(["umount", small], check=True)
    tap.equal(host.state("g1"), "running", "the guest goes on")
    tap.ok(wait_for(lambda: run(console, "cat /tmp/n") != before, 30), "as if nothing had been")


enter_namespace()
make_bridge()
def stuck_disk(host):
    """A disk whose server does nothing more: the guest is not kept standing for it."""
    path = f"{host.root}/stuck.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
    disk = f"<disk type='file'><driver type='qcow2' cache='none'/><source file='{path}'/><target dev='xvda'/></disk><console"
    host.virsh_args("define", host.write_xml(host.xml(name="g9", cmdline="console=hvc0 guest.modules").replace("<console", disk, 1)))
    host.virsh("start g9")
    with host.console("g9") as console:
        console.prompt()
        run(console, "while [ ! -b /dev/xvda ]; do sleep 1; done")
        server, = host.processes("qemu-storage-daemon")
        os.kill(server, signal.SIGSTOP)
        console.send("dd if=/dev/zero of=/dev/xvda bs=64k count=16 oflag=direct; echo ha''lted\n")
        time.sleep(2)
        result = host.virsh(f"save g9 {host.root}/stuck.save")
        tap.ok(result.status == 1 and "disks are doing does not end" in result.err, "a disk that does not come to rest: refused", result)
        tap.equal(host.state("g9"), "running", "the guest goes on")
        tap.ok(not os.path.exists(f"{host.root}/stuck.save"), "no file is left")
        os.kill(server, signal.SIGCONT)
        tap.ok(console.expect("halted"), "and so does its disk when it can", console.text[-1000:])
    host.virsh("destroy g9")


with Host() as host:
    console = boot(host)
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    path = f"{host.root}/g1.save"
    cannot_save(host, console)
    check(console, "after failures")
    save_and_restore(host, console, path, watcher)
    console = again(host)
    check(console, "restored")
    console.close()
    tap.equal(host.virsh(f"save g1 {path}").status, 0, "save to the file that it came from")
    damaged(host, path)
    edit_image(host, path)
    console = again(host)
    check(console, "restored again")
    managed(host, console)
    console = again(host)
    check(console, "from a managed save")
    console.close()
    watcher.close()
    tap.equal(host.virsh("destroy g1").status, 0, "destroy")
    stuck_disk(host)
tap.done()
