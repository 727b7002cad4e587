#!/usr/bin/python3
"""Disks on volumes of storage pools: in definitions, plugged in, and by virt-install and virt-clone.

As root, in namespaces of its own.
"""
import hashlib
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, guest_files, wait_for
from image import convert, make_image
from libvirt_daemon import LibvirtDaemon, enter_namespaces

enter_namespaces(__file__)
MIB = 1 << 20


def digest(path):
    with open(path, "rb") as f:
        return hashlib.md5(f.read()).hexdigest()


def disk(volume, target, form="raw", pool="vlpool", more="", device="disk"):
    return f"<disk type='volume' device='{device}'><driver type='{form}'/><source pool='{pool}' volume='{volume}'{more}/>" \
           f"<target dev='{target}'/></disk>"


def make_pool(host):
    os.mkdir(f"{host.root}/pool")
    for command in (f"pool-define-as vlpool dir --target {host.root}/pool", "pool-start vlpool", "vol-create-as vlpool a.img 8M",
                    "vol-create-as vlpool b.img 4M", "vol-create-as vlpool c.iso 1M", f"pool-define-as idle dir --target {host.root}/idle"):
        result = host.virsh(command)
        tap.equal(result.status, 0, command.split()[0]) or tap.note(result)
    with open(f"{host.root}/data", "wb") as f:
        f.write(os.urandom(8 * MIB))
    host.virsh(f"vol-upload --pool vlpool a.img {host.root}/data")
    host.virsh("vol-create-as vlpool q.qcow2 8M --format qcow2")
    subprocess.run(["qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", f"{host.root}/data", f"{host.root}/pool/q.qcow2"], check=True)


def refused(host, xml, *words):
    out = host.virsh_args("attach-device", "g1", host.write_xml(xml, "refused.xml"), "--live").err
    tap.ok(all(word in out for word in words), f"{words[0]}: is told", out)


def running(host):
    text = host.xml(name="g1", cmdline="console=hvc0 guest.modules").replace(
        "<console", disk("a.img", "xvda", more=" mode='host'") + disk("q.qcow2", "xvdb", "qcow2") +
        "<disk type='volume' device='cdrom'><target dev='xvdc'/></disk><console")
    result = host.virsh_args("define", "--validate", host.write_xml(text))
    tap.equal(result.status, 0, "define") or tap.note(result)
    tap.contains(host.virsh("domblkinfo g1 xvda").out, "8388608", "the size of a volume is told before it runs")
    result = host.virsh("start g1")
    tap.equal(result.status, 0, "start") or tap.note(result)
    console = host.console("g1")
    tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
    tap.contains(console.run("md5sum </dev/xvda") or "", digest(f"{host.root}/data"), "it reads the raw volume")
    tap.contains(console.run("md5sum </dev/xvdb") or "", digest(f"{host.root}/data"), "and the qcow2 one")
    xml = host.virsh("dumpxml g1").out
    tap.contains(xml, "<source pool='vlpool' volume='a.img' mode='host'/>", "it is a volume while it runs")
    tap.ok("privateData" not in xml, "and what it is stays ours", xml)
    tap.contains(host.virsh("domblklist g1").out, "a.img", "domblklist")
    tap.contains(host.virsh("domstats --block g1").out, f"{host.root}/pool/a.img", "domstats tells where it is")
    return console


def plugged(host, console):
    result = host.virsh_args("attach-device", "g1", host.write_xml(disk("b.img", "xvdd"), "b.xml"), "--live", "--config")
    tap.equal(result.status, 0, "a volume is plugged in") or tap.note(result)
    tap.ok(wait_for(lambda: "8192" in (console.run("cat /sys/block/xvdd/size") or ""), 60), "the guest has it")
    tap.contains(host.virsh("dumpxml --inactive g1").out, "<source pool='vlpool' volume='b.img'/>", "so has the definition")
    result = host.virsh_args("detach-device", "g1", f"{host.root}/b.xml", "--live", "--config")
    tap.equal(result.status, 0, "and taken away") or tap.note(result)
    result = host.virsh_args("update-device", "g1", host.write_xml(disk("c.iso", "xvdc", device="cdrom"), "c.xml"), "--live")
    tap.equal(result.status, 0, "a volume is put into a drive") or tap.note(result)
    tap.ok(wait_for(lambda: "2048" in (console.run("cat /sys/block/xvdc/size") or ""), 60), "the guest sees it")
    refused(host, disk("a.img", "xvde"), "in use by domain 'g1'")
    refused(host, disk("x", "xvde", pool="nopool"), "nopool", "torage pool not found")
    refused(host, disk("x", "xvde", pool="idle"), "'idle' containing volume 'x'", "not active")
    refused(host, disk("x.img", "xvde"), "x.img", "torage volume not found")


def without_daemons(host, daemon):
    """Who runs needs no storage daemon, nor the same domusd."""
    daemon.stop()
    host.stop(signal.SIGKILL)
    host.start()
    tap.equal(host.state("g1"), "running", "the domain is found again")
    tap.contains(host.virsh("domblkinfo g1 xvda").out, "8388608", "with its volume")
    tap.contains(host.virsh("dumpxml g1").out, "<source pool='vlpool' volume='a.img'", "which is one still")
    refused(host, disk("b.img", "xvde"), "cannot reach libvirt's storage daemon")
    tap.equal(host.virsh("destroy g1").status, 0, "destroy")
    tap.contains(host.virsh("start g1").err, "cannot reach libvirt's storage daemon", "it cannot start without one")
    daemon.start()
    host.virsh("pool-start vlpool")
    tap.equal(host.virsh("start g1").status, 0, "and can with one again")
    tap.equal(host.virsh("destroy g1").status, 0, "destroy")


def install(host, name, disk_option):
    files = guest_files()
    result = host.client("virt-install", "--connect", host.uri, "--virt-type", "xen", "--name", name, "--memory", "256",
                         "--disk", disk_option, "--network", "none", "--graphics", "none", "--osinfo", "detect=off,require=off",
                         "--import", "--noautoconsole", "--boot",
                         f"kernel={files}/vmlinuz,initrd={files}/initrd.gz,kernel_args=console=hvc0 guest.modules", seconds=600)
    tap.equal(result.status, 0, f"virt-install --disk {disk_option}") or tap.note(result)


def installed(host):
    """virt-install makes volumes, in a pool and in the one that it defines for itself; virt-clone copies one."""
    install(host, "vi1", "pool=vlpool,size=0.0625,format=qcow2")
    tap.contains(host.virsh("vol-list vlpool").out, "vi1.qcow2", "there is a volume")
    console = host.console("vi1")
    tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
    tap.ok(wait_for(lambda: "131072" in (console.run("cat /sys/block/xvda/size") or ""), 60), "and has the disk", console.text[-2000:])
    console.run("echo kept >/dev/xvda; sync")
    console.close()
    host.virsh("destroy vi1")
    install(host, "vi2", "size=0.0625")
    tap.contains(host.virsh("vol-list default").out, "vi2.img", "without a pool, virt-install makes one")
    host.virsh("destroy vi2")
    result = host.client("virt-clone", "--connect", host.uri, "--original", "vi1", "--name", "vi3", "--auto-clone", seconds=600)
    tap.equal(result.status, 0, "virt-clone") or tap.note(result)
    tap.contains(host.virsh("vol-list vlpool").out, "vi3.qcow2", "the clone has a volume of its own")
    tap.equal(host.virsh("start vi3").status, 0, "it starts")
    console = host.console("vi3")
    tap.ok(console.prompt(), "boots", console.text[-2000:])
    tap.contains(console.run("head -c 4 /dev/xvda") or "", "kept", "and has what was on the disk")
    console.close()
    host.virsh("destroy vi3")


def cloud_image(host):
    """An image with a whole system in it, as distributions give them away."""
    make_image(f"{host.root}/system.img")
    result = host.client("virt-install", "--connect", host.uri, "--name", "vi4", "--memory", "256", "--import", "--noautoconsole",
                         "--disk", f"path={convert(f'{host.root}/system.img', 'qcow2')}", "--network", "none",
                         "--osinfo", "detect=off,require=off")
    tap.ok(result.status == 0, "virt-install of a qcow2 image", result)
    console = host.console("vi4")
    tap.ok(console.prompt(), "it boots", console.text[-3000:])
    tap.contains(console.run("cat /proc/cmdline") or "", "from=grub", "with the kernel that is in it")
    console.close()
    host.virsh("destroy vi4")


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with LibvirtDaemon("storage", "storage", "secret") as daemon, Host(start=False) as host:
    os.makedirs(f"{host.root}/etc/domus")
    with open(f"{host.root}/etc/domus/domusd.conf", "w") as f:
        f.write("[relay]\nsockets = /run/libvirt\n")
    host.start()
    make_pool(host)
    console = running(host)
    plugged(host, console)
    console.close()
    without_daemons(host, daemon)
    installed(host)
    cloud_image(host)
tap.done()
