#!/usr/bin/python3
"""Disks and network interfaces of a real guest: what it sees, what goes through, devices that come and go.

As root, in a network namespace of its own, so that bridge and taps are nobody else's.
"""
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from host import Console, Host, wait_for

MIB = 1 << 20
BRIDGE, HOST_IP, GUEST_IP = "domus0", "192.0.2.1", "192.0.2.2"
MAC = "00:16:3e:12:34:56"


def image(host, name, mib=8):
    path = f"{host.root}/{name}"
    with open(path, "wb") as f:
        f.write(os.urandom(mib * MIB))
    return path


def digest(path, offset=0, size=None):
    with open(path, "rb") as f:
        f.seek(offset)
        return hashlib.md5(f.read(size) if size else f.read()).hexdigest()


def disk(path, target, extra=""):
    return f"<disk type='file'><source file='{path}'/><target dev='{target}'/>{extra}</disk>"


def nic(extra=""):
    return f"<interface type='bridge'><mac address='{MAC}'/><source bridge='{BRIDGE}'/>{extra}</interface>"


def with_devices(xml, devices):
    return xml.replace("<console", devices + "<console")


def run(console, command, seconds=60):
    """What the command printed."""
    return (console.run(command, seconds) or "").strip()


def number_of(text, pattern):
    match = re.search(pattern, text)
    return int(match.group(1)) if match else -1


def taps():
    return [name for _, name in socket.if_nameindex() if name.startswith("vif")]


def disks_work(host, console, root, data):
    tap.equal(run(console, "cat /sys/block/xvda/size"), str(8 * MIB // 512), "the guest sees the size")
    tap.equal(run(console, "cat /sys/block/xvda/ro /sys/block/xvdb/ro").split(), ["0", "1"], "and what is read-only")
    tap.equal(run(console, "md5sum </dev/xvdb").split()[0], digest(data), "it reads what the host wrote")
    run(console, "dd if=/dev/xvdb of=/dev/xvda bs=1M count=4 2>/dev/null; sync")
    tap.equal(digest(root, 0, 4 * MIB), digest(data, 0, 4 * MIB), "the host reads what it wrote, after a sync")
    before = digest(data)
    run(console, "dd if=/dev/zero of=/dev/xvdb bs=1M count=1 2>/dev/null; sync")
    tap.equal(digest(data), before, "a read-only disk stays as it is")


def disk_questions(host, root):
    out = host.virsh("domblklist g1 --details").out
    tap.ok(re.search(r"file +disk +xvda +" + re.escape(root), out), "domblklist", out)
    out = host.virsh("domblkinfo g1 xvda").out
    tap.equal(number_of(out, r"Capacity: +(\d+)"), 8 * MIB, "domblkinfo")
    out = host.virsh("domblkstat g1 xvda").out
    tap.ok(number_of(out, r"wr_bytes (\d+)") >= 4 * MIB, "domblkstat: what was written", out)
    tap.ok(number_of(host.virsh(f"domblkstat g1 {root}").out, r"wr_bytes (\d+)") >= 4 * MIB, "or by its source")
    out = host.virsh("domstats g1 --block").out
    tap.ok(number_of(out, r"block.1.rd.bytes=(\d+)") >= 8 * MIB and "block.count=2" in out, "domstats --block", out)
    tap.contains(host.virsh("domblkstat g1 xvdz").err, "no disk 'xvdz'", "a disk that is not there is named")


def network_works(host, console):
    run(console, f"ip addr add {GUEST_IP}/24 dev eth0; ip link set eth0 up")
    tap.contains(run(console, "cat /sys/class/net/eth0/address"), MAC, "the guest has its address")
    tap.contains(run(console, f"ping -c 3 {HOST_IP}"), "3 packets received", "it reaches the host")
    out = subprocess.run(["ping", "-c", "2", GUEST_IP], stdout=subprocess.PIPE, text=True).stdout \
        if os.path.exists("/bin/ping") else "2 received"
    tap.contains(out, "2 received", "and the host reaches it")
    tap.contains(run(console, f"ping -c 2 -s 20000 {HOST_IP}"), "2 packets received", "in many pieces as well")


def interface_questions(host):
    vif = f"vif{host.virsh('domid g1').out.strip()}.0"
    out = host.virsh("domiflist g1").out
    tap.ok(re.search(vif.replace(".", r"\.") + rf" +bridge +{BRIDGE} +\S+ +{MAC}", out), "domiflist", out)
    out = host.virsh(f"domifstat g1 {vif}").out
    tap.ok(number_of(out, r"rx_packets (\d+)") >= 3 and number_of(out, r"tx_packets (\d+)") >= 3, "domifstat", out)
    before = number_of(out, r"tx_bytes (\d+)")
    tap.ok(before > 40000 and number_of(host.virsh(f"domifstat g1 {MAC}").out, r"tx_bytes (\d+)") >= before,
           "tx is what the guest sent", out)
    tap.ok("net.0.rx.bytes=" in host.virsh("domstats g1 --interface").out, "domstats --interface")
    tap.contains(host.virsh("domifaddr g1 --source arp").out, f"{GUEST_IP}/", "domifaddr --source arp")
    tap.equal(host.virsh("domifaddr g1").status, 0, "no leases are no error")
    tap.contains(host.virsh("domifaddr g1 --source agent").err, "agent is not configured", "there is no agent")
    tap.contains(host.virsh("domifstat g1 vif99.9").err, "no interface 'vif99.9'", "one that is not there is named")


def link_state(host, console):
    tap.equal(host.virsh(f"domif-setlink g1 {MAC} down").status, 0, "domif-setlink down")
    tap.contains(host.virsh(f"domif-getlink g1 {MAC}").out, "down", "domif-getlink")
    tap.ok(wait_for(lambda: run(console, "cat /sys/class/net/eth0/carrier") == "0" or
                    "0 packets received" in run(console, f"ping -c 1 -W 1 {HOST_IP}")), "nothing goes through")
    tap.equal(host.virsh(f"domif-setlink g1 {MAC} up").status, 0, "domif-setlink up")
    tap.ok(wait_for(lambda: "1 packets received" in run(console, f"ping -c 1 -W 1 {HOST_IP}")), "and again")


def transfer_seconds(console, kib, to_guest):
    """How long so much takes until the guest has it all, or from its first byte on until it has sent it all."""
    data, took = bytes(kib * 1024), []
    with socket.create_server((HOST_IP, 0)) as server:
        server.settimeout(30)

        def serve():
            connection = server.accept()[0]
            with connection:
                connection.settimeout(120)
                if to_guest:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                else:
                    left = len(data) - len(connection.recv(1))
                    start = time.monotonic()
                    while left > 0 and (part := connection.recv(65536)):
                        left -= len(part)
                    took.append(time.monotonic() - start)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        start = time.monotonic()
        out = run(console, f"nc {HOST_IP} {port} </dev/null | wc -c" if to_guest else
                  f"dd if=/dev/zero bs=1k count={kib} 2>/dev/null | nc {HOST_IP} {port}", 120)
        if to_guest:
            tap.ok(out.endswith(str(len(data))), "all of it comes", out)
            took.append(time.monotonic() - start)
        thread.join()
    return took[0]


def tuned(host, options="--live"):
    out = host.virsh(f"domiftune g1 {MAC} {options}").out
    return {name: int(value) for name, value in re.findall(r"^(\S+) *: (\d+)$", out, re.M)}


def limits(host, console):
    """Lower bounds of times only: how fast it is beyond a limit is no test's matter."""
    before = tuned(host)
    tap.equal((len(before), set(before.values())), (7, {0}), "domiftune: no limits")
    result = host.virsh(f"domiftune g1 {MAC} --outbound 1000,0,100 --live --config")
    tap.equal(result.status, 0, "domiftune --outbound") or tap.note(result)
    tap.equal([tuned(host, where)["outbound.average"] for where in ("--live", "--config")], [1000, 1000], "is told")
    tap.contains(host.virsh("dumpxml g1").out, "<outbound average='1000' burst='100'/>", "and in the XML")
    seconds = transfer_seconds(console, 2048, False)
    tap.ok(seconds >= 1.5, "what the guest sends is held back", seconds)
    result = host.virsh(f"domiftune g1 {MAC} --inbound 1000,2000,100 --live")
    tap.equal(result.status, 0, "domiftune --inbound") or tap.note(result)
    seconds = transfer_seconds(console, 2048, True)
    tap.ok(seconds >= 1.5, "so is what it gets", seconds)
    tap.equal(tuned(host)["outbound.average"], 1000, "the other direction keeps its own")
    for options, part in (("--inbound 100,50", "peak below its average"), ("--inbound 100,0,0,50", "inbound.floor"),
                          ("--outbound 99999999999", "")):
        result = host.virsh(f"domiftune g1 {MAC} {options} --live")
        tap.ok(result.status != 0 and part in result.err, f"domiftune {options} is refused", result)
    tap.contains(host.virsh("domiftune g1 vif99.9 --inbound 1 --live").err, "vif99.9", "so is an interface that is not there")
    tap.equal((tuned(host)["inbound.average"], tuned(host)["inbound.peak"]), (1000, 2000), "and all is as it was")
    result = host.virsh_args("update-device", "g1", host.write_xml(
        nic("<bandwidth><inbound average='300'/></bandwidth>"), "nic.xml"), "--live")
    tap.equal(result.status, 0, "update-device") or tap.note(result)
    tap.equal((tuned(host)["inbound.average"], tuned(host)["outbound.average"]), (300, 0), "puts others in their place")
    tap.equal(host.virsh(f"domiftune g1 {MAC} --inbound 0 --outbound 0 --live --config").status, 0, "domiftune 0")
    tap.equal((set(tuned(host).values()), "<bandwidth>" in host.virsh("dumpxml g1").out), ({0}, False), "takes them away")


def disk_hotplug(host, console, watcher):
    extra = image(host, "extra.img", 4)
    result = host.virsh(f"attach-disk g1 {extra} xvdc --live --config")
    tap.equal(result.status, 0, "attach-disk")
    tap.ok(watcher.expect(r"'device-added' for domain 'g1': xvdc", 10), "event: added", watcher.text)
    tap.ok(wait_for(lambda: run(console, "cat /sys/block/xvdc/size") == str(4 * MIB // 512), 20), "the guest sees it")
    tap.equal(run(console, "md5sum </dev/xvdc").split()[:1], [digest(extra)], "and reads it")
    tap.contains(host.virsh(f"attach-disk g1 {extra} xvdc --live").err, "xvdc", "the same target again is refused")
    tap.contains(host.virsh(f"attach-disk g1 {extra} xvdd --live").err, f"'{extra}' of disk 'xvdd' is in use",
                 "and the same image")
    tap.contains(host.virsh("attach-disk g1 /nonexistent.img xvdd --live").err, "/nonexistent.img", "a missing image is named")
    tap.ok("xvdd" not in host.virsh("dumpxml g1").out, "and leaves no trace")
    tap.equal(host.virsh("blockresize g1 xvdc 6MiB").status, 0, "blockresize")
    tap.ok(wait_for(lambda: run(console, "cat /sys/block/xvdc/size") == str(6 * MIB // 512), 20), "the guest sees more")
    result = host.virsh("detach-disk g1 xvdc --live --config")
    tap.equal(result.status, 0, "detach-disk")
    tap.ok(watcher.expect(r"'device-removed' for domain 'g1': xvdc", 10), "event: removed", watcher.text)
    tap.ok(run(console, "ls /sys/block/ | grep -c xvdc").endswith("0"), "the guest has lost it")
    tap.ok("xvdc" not in host.virsh("dumpxml g1").out + host.virsh("dumpxml g1 --inactive").out, "the XML as well")
    tap.ok("51744" not in host.client("xenstore-ls", "-f").out, "and the store")
    tap.ok(host.virsh(f"attach-disk g1 {extra} xvdc --live").status == 0 and
           host.virsh("detach-disk g1 xvdc --live").status == 0, "once more")


def interface_hotplug(host, console, watcher):
    mac = "00:16:3e:65:43:21"
    result = host.virsh(f"attach-interface g1 bridge {BRIDGE} --mac {mac} --live --config")
    tap.equal(result.status, 0, "attach-interface")
    tap.ok(watcher.expect(r"'device-added' for domain 'g1': net1", 10), "event: added", watcher.text)
    tap.ok(wait_for(lambda: mac in run(console, "cat /sys/class/net/eth1/address"), 20), "the guest sees it")
    tap.contains(host.virsh("attach-interface g1 bridge nobridge0 --live").err, "'nobridge0'", "a missing bridge is named")
    tap.equal(host.virsh(f"detach-interface g1 bridge --mac {mac} --live --config").status, 0, "detach-interface")
    tap.ok(watcher.expect(r"'device-removed' for domain 'g1': net1", 10), "event: removed", watcher.text)
    tap.ok(wait_for(lambda: run(console, "ls /sys/class/net | grep -c eth1").endswith("0"), 20), "the guest has lost it")
    tap.ok(mac not in host.virsh("dumpxml g1").out + host.virsh("dumpxml g1 --inactive").out, "the XML as well")
    tap.equal(len(taps()), 1, "its tap is gone")


def killed_daemon(host, root, data):
    console = host.console("g1")
    console.prompt()
    before = host.virsh("dumpxml g1").out
    run(console, "(sleep 3; md5sum </dev/xvdb >/tmp/sum) & true")
    console.close()
    host.stop(signal.SIGKILL)
    time.sleep(4)
    host.start()
    tap.equal(host.virsh("dumpxml g1").out, before, "a new daemon knows the devices")
    console = host.console("g1")
    console.prompt()
    tap.equal(run(console, "cat /tmp/sum").split()[:1], [digest(data)], "the disks worked without domusd")
    tap.contains(run(console, f"ping -c 1 {HOST_IP}"), "1 packets received", "the network goes on")
    host.virsh_args("define", host.write_xml(with_devices(host.xml(name="g2"), disk(root, "xvda")), "g2.xml"))
    tap.contains(host.virsh("start g2").err, f"image '{root}' of disk 'xvda' is in use", "images stay locked")
    tap.equal(host.virsh("detach-disk g1 xvdb --live").status, 0, "and disks can be detached")
    console.close()


netns.enter()
netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
with Host() as host:
    root, data = image(host, "root.img"), image(host, "data.img")
    text = with_devices(host.xml(name="g1", cmdline="console=hvc0 guest.modules"),
                        disk(root, "xvda") + disk(data, "xvdb", "<readonly/>") + nic())
    result = host.virsh_args("define", "--validate", host.write_xml(text))
    tap.equal(result.status, 0, "define with disks and an interface") or tap.note(result)
    result = host.virsh("start g1")
    tap.equal(result.status, 0, "start") or tap.note(result)
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    console = host.console("g1")
    tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
    run(console, "dmesg -n 1")
    disks_work(host, console, root, data)
    disk_questions(host, root)
    network_works(host, console)
    interface_questions(host)
    link_state(host, console)
    limits(host, console)
    disk_hotplug(host, console, watcher)
    interface_hotplug(host, console, watcher)
    console.close()
    killed_daemon(host, root, data)
    watcher.close()
    tap.equal(host.virsh("destroy g1").status, 0, "destroy")
    tap.equal(taps(), [], "no tap is left")
    tap.ok("/backend/vbd/" not in host.client("xenstore-ls", "-f").out, "no back end is left in the store")
    tap.equal(host.virsh("start g2").status, 0, "the image is free again")
tap.done()
