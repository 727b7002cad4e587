#!/usr/bin/python3
"""Interfaces of type direct: macvtaps on top of an interface of the host, with several queues.

As root, in a network namespace of its own.
"""
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from host import Host, wait_for

DEV, PEER, PEER_IP, GUEST_IP = "dv0", "dv1", "192.0.2.1", "192.0.2.2"
DATA = os.urandom(2 << 20)
MAC = "00:16:3e:d1:00:{:02x}"


def nic(number, mode="bridge", dev=DEV, extra=""):
    return f"<interface type='direct'><mac address='{MAC.format(number)}'/><source dev='{dev}' mode='{mode}'/>" \
           f"{extra}</interface>"


def run(console, command, seconds=60):
    return (console.run(command, seconds) or "").strip()


def link(name):
    return subprocess.run(["ip", "-d", "-o", "link", "show", name], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True).stdout


def change(host, verb, xml):
    return host.virsh_args(f"{verb}-device", "g1", host.write_xml(xml, "nic.xml"), "--live")


def serve():
    """The data to everyone who connects."""
    with socket.create_server((PEER_IP, 8000)) as server:
        while True:
            with server.accept()[0] as connection:
                connection.sendall(DATA)


def works(host, console):
    name = f"vif{host.virsh('domid g1').out.strip()}.0"
    tap.ok(f"{name}@{DEV}:" in link(name) and "macvtap mode bridge" in link(name) and MAC.format(0) in link(name),
           "a macvtap with the guest's address", link(name))
    tap.ok(re.search(rf"{re.escape(name)} +direct +{DEV} +\S+ +{MAC.format(0)}", host.virsh("domiflist g1").out), "domiflist")
    tap.contains(run(console, "ls /sys/class/net/eth0/queues"), "tx-1", "the guest has two queues")
    run(console, f"ip addr add {GUEST_IP}/24 dev eth0; ip link set eth0 up")
    tap.contains(run(console, f"ping -c 3 {PEER_IP}"), "3 packets received", "it reaches the other end")
    tap.contains(run(console, f"ping -c 2 -s 20000 {PEER_IP}"), "2 packets received", "in many pieces as well")
    for number in range(4):  # other ports, so other queues
        tap.contains(run(console, f"nc {PEER_IP} 8000 | md5sum", 300), hashlib.md5(DATA).hexdigest(),
                     f"TCP connection {number} brings {len(DATA)} bytes whole")


def hotplug(host, console):
    for number, mode in enumerate(("vepa", "private", "bridge"), 1):
        tap.equal(change(host, "attach", nic(number, mode)).status, 0, f"attach, {mode}")
        name = f"vif{host.virsh('domid g1').out.strip()}.1"
        tap.contains(link(name), f"macvtap mode {mode}", f"it is {mode}")
        tap.ok(wait_for(lambda: MAC.format(number) in run(console, "cat /sys/class/net/eth1/address"), 20), "the guest sees it")
        tap.equal(change(host, "detach", nic(number, mode)).status, 0, "detach")
        tap.equal(link(name), "", "the macvtap is gone")
    tap.equal(change(host, "attach", nic(4, "passthrough", "dw0")).status, 0, "attach, passthrough")
    tap.contains(link(f"vif{host.virsh('domid g1').out.strip()}.1"), "macvtap mode passthru", "it is passthrough")
    tap.equal(change(host, "detach", nic(4, "passthrough", "dw0")).status, 0, "detach")


def refused(host):
    before = host.virsh("dumpxml g1").out
    mine = f"vif{host.virsh('domid g1').out.strip()}.0"
    for xml, words in ((nic(9, dev="nodev0"), ("'nodev0'",)), (nic(9, extra=f"<target dev='{PEER}'/>"), (f"'{PEER}'",)),
                       (nic(9, "passthrough"), (f"'{DEV}'",))):
        err = change(host, "attach", xml).err
        tap.ok(err and all(word in err for word in words), f"refused: {words[-1]}", err)
    tap.equal(host.virsh("dumpxml g1").out, before, "the domain is as it was")
    tap.ok(link(mine) and link(PEER), "and nothing was taken away")


def killed(host):
    before = host.virsh("dumpxml g1").out
    name = f"vif{host.virsh('domid g1').out.strip()}.0"
    host.stop(signal.SIGKILL)
    host.start()
    tap.equal(host.virsh("dumpxml g1").out, before, "a new daemon knows it")
    host.stop(signal.SIGKILL)
    for pid in host.hv_pids():
        os.kill(pid, signal.SIGKILL)
    host.start()
    tap.ok(wait_for(lambda: not link(name), 10), "a domain that died while there was no daemon leaves no macvtap")


netns.enter()
for command in ("ip link set lo up", f"ip link add {DEV} type veth peer name {PEER}", f"ip addr add {PEER_IP}/24 dev {PEER}",
                f"ip link set {DEV} up", f"ip link set {PEER} up", "ip link add dw0 type veth peer name dw1",
                "ip link set dw0 up", "ip link set dw1 up"):
    subprocess.run(command.split(), check=True)
with Host() as host:
    threading.Thread(target=serve, daemon=True).start()
    text = host.xml(name="g1", vcpus=2, cmdline="console=hvc0 guest.modules xen_netfront.max_queues=2")
    text = text.replace("<console", nic(0, extra="<driver queues='2'/>") + "<console")
    result = host.virsh_args("define", "--validate", host.write_xml(text))
    tap.equal(result.status, 0, "define") or tap.note(result)
    result = host.virsh("start g1")
    if not tap.equal(result.status, 0, "start"):
        raise RuntimeError(str(result))
    console = host.console("g1")
    tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
    run(console, "dmesg -n 1")
    works(host, console)
    hotplug(host, console)
    refused(host)
    console.close()
    killed(host)
tap.done()
