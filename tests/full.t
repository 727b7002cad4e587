#!/usr/bin/python3
"""A guest with all the devices that it can have at once: 24 disks and 8 network interfaces, some of them hotplugged.

As root, in a network namespace of its own.
"""
import hashlib
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from host import Host, wait_for

MIB = 1 << 20
BRIDGE = "domus0"
NR_DISKS, NR_COLD_DISKS, NR_NICS, NR_COLD_NICS = 24, 22, 8, 6
TARGETS = [f"xvd{chr(ord('a') + i)}" for i in range(NR_DISKS)]


def mac(index):
    return f"00:16:3e:00:77:{index:02x}"


def make_images(host):
    """Path and format of each; one in six is no raw file."""
    images = []
    for i in range(NR_DISKS):
        raw, form = f"{host.root}/disk{i}.img", "qcow2" if i % 6 == 5 else "raw"
        with open(raw, "wb") as f:
            f.write(os.urandom(MIB))
        if form != "raw":
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, raw, f"{raw}.{form}"], check=True)
        images.append((raw if form == "raw" else f"{raw}.{form}", form))
    return images


def content(path, form):
    """The digest of what is in an image."""
    if form != "raw":
        subprocess.run(["qemu-img", "convert", "-U", "-f", form, "-O", "raw", path, path + ".out"], check=True)
        path += ".out"
    with open(path, "rb") as f:
        return hashlib.md5(f.read(MIB)).hexdigest()


def disk_xml(image, target):
    path, form = image
    return f"<disk type='file'><driver type='{form}'/><source file='{path}'/><target dev='{target}'/></disk>"


def nic_xml(index):
    return f"<interface type='bridge'><mac address='{mac(index)}'/><source bridge='{BRIDGE}'/></interface>"


def run(console, command, seconds=120):
    return (console.run(command, seconds) or "").strip()


def plug(host, console, images):
    for i, xml in enumerate([disk_xml(images[i], TARGETS[i]) for i in range(NR_COLD_DISKS, NR_DISKS)] +
                            [nic_xml(i) for i in range(NR_COLD_NICS, NR_NICS)]):
        result = host.virsh_args("attach-device", "g1", host.write_xml(xml, f"device{i}.xml"), "--live")
        tap.equal(result.status, 0, f"attached: {xml[:40]}") or tap.note(result)
    count = lambda: run(console, "echo $(ls /sys/block | grep -c xvd) $(ls /sys/class/net | grep -c eth)").splitlines()[-1]
    tap.ok(wait_for(lambda: count() == f"{NR_DISKS} {NR_NICS}", 30), "the guest has them all", count())


def disks_work(console, images):
    names = " ".join(TARGETS)
    sums = run(console, f"for d in {names}; do md5sum </dev/$d; done")
    tap.equal(re.findall(r"[0-9a-f]{32}", sums), [content(*image) for image in images], "all disks are read")
    sums = run(console, f"for d in {names}; do (yes $d | dd of=/dev/$d bs=64k count=16 iflag=fullblock conv=fsync 2>/dev/null) & "
                        "done; wait; echo written")
    tap.contains(sums, "written", "and written at the same time")
    wanted = [hashlib.md5((f"{target}\n".encode() * MIB)[:MIB]).hexdigest() for target in TARGETS]
    tap.equal([content(*image) for image in images], wanted, "each to its own image")


def nics_work(console):
    addresses = run(console, f"for i in $(seq 0 {NR_NICS - 1}); do cat /sys/class/net/eth$i/address; done")
    tap.equal(re.findall(r"00:16:\S+", addresses), [mac(i) for i in range(NR_NICS)], "all interfaces have their addresses")
    run(console, f"for i in $(seq 0 {NR_NICS - 1}); do ip addr add 192.0.$i.2/24 dev eth$i; ip link set eth$i up; done; "
                 "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore")
    out = run(console, f"for i in $(seq 0 {NR_NICS - 1}); do (ping -c 2 -I eth$i 192.0.$i.1 >/tmp/ping$i; "
                       "grep -q '2 packets received' /tmp/ping$i && echo eth$i reaches) & done; wait; echo do''ne")
    tap.equal(sorted(re.findall(r"(eth\d) reaches", out)), [f"eth{i}" for i in range(NR_NICS)], "all reach the host at once")


def unplug(host, console):
    """The other way, with what was there from the start."""
    for i in range(3):
        tap.equal(host.virsh(f"detach-disk g1 {TARGETS[i]} --live").status, 0, f"{TARGETS[i]} is detached")
        tap.equal(host.virsh(f"detach-interface g1 bridge --mac {mac(i)} --live").status, 0, f"eth{i} too")
    tap.ok(wait_for(lambda: run(console, "echo $(ls /sys/block | grep -c xvd) $(ls /sys/class/net | grep -c eth)")
                    .splitlines()[-1] == f"{NR_DISKS - 3} {NR_NICS - 3}", 30), "the guest has lost them")
    tap.ok(re.search(r"2 packets received", run(console, f"ping -c 2 192.0.{NR_NICS - 1}.1")), "and the others work")


netns.enter()
netns.make_bridge(BRIDGE, [f"192.0.{i}.1/24" for i in range(NR_NICS)])
with Host() as host:
    images = make_images(host)
    devices = "".join(disk_xml(images[i], TARGETS[i]) for i in range(NR_COLD_DISKS))
    devices += "".join(nic_xml(i) for i in range(NR_COLD_NICS))
    xml = host.xml(name="g1", vcpus=2, cmdline="console=hvc0 guest.modules").replace("<console", devices + "<console")
    tap.equal(host.virsh_args("define", "--validate", host.write_xml(xml)).status, 0, "define")
    result = host.virsh("start g1")
    tap.equal(result.status, 0, "start") or tap.note(result)
    with host.console("g1") as console:
        tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
        run(console, "dmesg -n 1")
        plug(host, console, images)
        disks_work(console, images)
        nics_work(console)
        unplug(host, console)
        complaints = run(console, "dmesg | grep -ciE 'oops|BUG:|call trace|I/O error'")
        tap.ok(complaints.endswith("0"), "the kernel has no complaint", complaints)
    tap.equal(host.virsh("destroy g1").status, 0, "destroy")
    tap.ok("vif" not in subprocess.run(["ip", "link"], stdout=subprocess.PIPE, text=True).stdout, "no tap is left")
    tap.ok(wait_for(lambda: not host.processes("qemu-storage-daemon"), 20), "nor a storage daemon")
tap.done()
