#!/usr/bin/python3
"""Interfaces in libvirt's virtual networks: ports, leases, what is told of them, and what goes wrong.

As root, in network and mount namespaces of its own, so that libvirt's daemon there, its bridges and its filters are
nobody else's.
"""
import os
import re
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for
from libvirt_daemon import LibvirtDaemon, enter_namespaces

MAC = "00:16:3e:77:00:{:02x}"
BRIDGE = "nbr0"
NAT = """<network><name>nat</name><forward mode='nat'/><bridge name='nvirbr0'/>
  <ip address='192.0.2.1' netmask='255.255.255.128'><dhcp><range start='192.0.2.10' end='192.0.2.20'/></dhcp></ip>
</network>"""
OTHERS = {
    "isolated": "<bridge name='nvirbr1'/><ip address='198.51.100.1' netmask='255.255.255.0'/>",
    "route": "<forward mode='route'/><bridge name='nvirbr2'/><ip address='203.0.113.1' netmask='255.255.255.0'/>",
    "open": "<forward mode='open'/><bridge name='nvirbr3'/><mtu size='1400'/><ip address='198.51.101.1' netmask='255.255.255.0'/>",
    "bridge": f"<forward mode='bridge'/><bridge name='{BRIDGE}'/><portgroup name='staff'/>",
    "direct": "<forward mode='bridge'><interface dev='nv0'/></forward>",
    "idle": "<bridge name='nvirbr4'/>",
}
UDHCPC = ("printf '#!/bin/sh\\n[ -z \"$ip\" ] || ip addr replace $ip/$mask dev $interface\\n' >/tmp/s; chmod +x /tmp/s; "
          "ip link set eth0 up; udhcpc -i eth0 -n -q -t 20 -T 1 -s /tmp/s")


def nic(number, network, extra="", source=""):
    return f"<interface type='network'><mac address='{MAC.format(number)}'/><source network='{network}' {source}/>" \
           f"{extra}</interface>"


def run(console, command, seconds=60):
    return (console.run(command, seconds) or "").strip()


def live_interface(host, number, *options):
    """The lines of an interface in a running domain's XML."""
    xml = host.virsh_args("dumpxml", "g1", *options).out
    found = [i for i in re.findall(r"<interface .*?</interface>", xml, re.S) if MAC.format(number) in i]
    return found[0] if found else ""


def ports(networks, name):
    return re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", networks.virsh("net-port-list", name).stdout)


def attach(host, xml):
    return host.virsh_args("attach-device", "g1", host.write_xml(xml, "nic.xml"), "--live")


def detach(host, xml):
    return host.virsh_args("detach-device", "g1", host.write_xml(xml, "nic.xml"), "--live")


def master_of(link):
    out = subprocess.run(["ip", "-o", "link", "show", link], stdout=subprocess.PIPE, text=True).stdout
    match = re.search(r"mtu (\d+) .* master (\S+)", out)
    return match.groups() if match else None


def lease(host, console):
    tap.contains(run(console, UDHCPC, 120), "192.0.2.1", "the guest gets a lease")
    address = run(console, "ip -4 addr show eth0")
    match = re.search(r"inet (192\.0\.2\.\d+)/25", address)
    tap.ok(match, "and an address", address)
    tap.contains(run(console, "ping -c 2 192.0.2.1"), "2 packets received", "it reaches the host")
    out = host.virsh("domifaddr g1").out
    tap.ok(match and re.search(rf"vif\d+\.0 +{MAC.format(0)} +ipv4 +{re.escape(match.group(1))}/25", out),
           "domifaddr --source lease", out)


def told(host, networks):
    vif = f"vif{host.virsh('domid g1').out.strip()}.0"
    mine = ports(networks, "nat")
    tap.equal(len(mine), 1, "the network has a port") or tap.note(networks.virsh("net-port-list", "nat").stdout)
    xml = networks.virsh("net-port-dumpxml", "nat", mine[0]).stdout if mine else ""
    uuid = host.virsh("domuuid g1").out.strip()
    tap.ok(f"<uuid>{uuid}</uuid>" in xml and "<name>g1</name>" in xml and MAC.format(0) in xml, "of the domain", xml)
    live = live_interface(host, 0)
    tap.contains(live, f"<source network='nat' portid='{mine[0] if mine else ''}' bridge='nvirbr0'/>", "dumpxml tells it")
    tap.contains(live, f"<target dev='{vif}'/>", "and the tap")
    inactive = live_interface(host, 0, "--inactive")
    tap.contains(inactive, "<source network='nat'/>", "the definition has the network alone")
    tap.equal(master_of(vif), ("1500", "nvirbr0"), "the tap is in the bridge")
    tap.ok(re.search(rf"{re.escape(vif)} +network +nat +\S+ +{MAC.format(0)}", host.virsh("domiflist g1").out), "domiflist")
    path = host.write_xml(host.virsh("dumpxml g1").out, "live.xml")
    tap.equal(subprocess.run(["virt-xml-validate", path, "domain"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL).returncode, 0,
              "the schema has it so") if shutil.which("virt-xml-validate") else tap.skip("no virt-xml-validate")


def kinds(host, networks):
    """One of each kind of network, by hot-plug."""
    vif = f"vif{host.virsh('domid g1').out.strip()}"
    for number, (name, bridge, shown, source, mtu) in enumerate((
            ("isolated", "nvirbr1", "network", "", "1500"), ("route", "nvirbr2", "network", "", "1500"),
            ("open", "nvirbr3", "network", "", "1400"), ("bridge", BRIDGE, "bridge", "portgroup='staff'", "1500")), 1):
        xml = nic(number, name, source=source)
        result = attach(host, xml)
        tap.equal(result.status, 0, f"{name}: attach-device") or tap.note(result)
        tap.equal(master_of(f"{vif}.{number}"), (mtu, bridge), f"{name}: the tap is in its bridge, with its MTU")
        tap.contains(live_interface(host, number), f"<interface type='{shown}'>", f"{name}: told as {shown}")
        tap.equal(len(ports(networks, name)), 1, f"{name}: a port")
    tap.contains(live_interface(host, 4), "portgroup='staff'", "and the port group")
    for number, name in enumerate(("isolated", "route", "open", "bridge"), 1):
        tap.equal(detach(host, nic(number, name)).status, 0, f"{name}: detach-device")
        tap.equal(ports(networks, name), [], f"{name}: no port is left")


def direct(host, networks):
    """A network without a bridge: its interfaces are on top of one of the host's."""
    tap.equal(attach(host, nic(5, "direct")).status, 0, "direct: attach-device")
    live = live_interface(host, 5)
    tap.ok("<interface type='direct'>" in live and "dev='nv0' mode='bridge'/>" in live and "network='direct'" in live,
           "direct: told as direct", live)
    tap.equal(len(ports(networks, "direct")), 1, "direct: a port")
    tap.equal(detach(host, nic(5, "direct")).status, 0, "direct: detach-device")
    tap.equal(ports(networks, "direct"), [], "direct: no port is left")


def isolated(host):
    xml = f"<interface type='bridge'><mac address='{MAC.format(6)}'/><source bridge='{BRIDGE}'/><port isolated='yes'/></interface>"
    tap.equal(attach(host, xml).status, 0, "isolated: attach-device")
    tap.contains(live_interface(host, 6), "<port isolated='yes'/>", "isolated: told")
    out = subprocess.run(["ip", "-d", "-o", "link", "show", "master", BRIDGE], stdout=subprocess.PIPE, text=True).stdout
    tap.contains(out, "isolated on", "isolated: so is the port")
    tap.equal(detach(host, xml).status, 0, "isolated: detach-device")


def filtered(host, networks, console):
    """What the guest sends under another address does not come through."""
    def filters(*args):
        return networks.virsh("-c", "nwfilter:///system", *args).stdout

    filters("nwfilter-define", host.write_xml(
        "<filter name='n-honest' chain='root'><rule action='drop' direction='out' priority='500'>"
        "<mac match='no' srcmacaddr='$MAC'/></rule></filter>", "filter.xml"))
    xml = nic(7, "nat", "<filterref filter='n-honest'><parameter name='IP' value='192.0.2.77'/></filterref>")
    result = attach(host, xml)
    if not tap.equal(result.status, 0, "filter: attach-device"):
        tap.note(result)
        return
    vif = f"vif{host.virsh('domid g1').out.strip()}.1"
    tap.contains(filters("nwfilter-binding-list"), vif, "filter: bound to the tap")
    told = filters("nwfilter-binding-dumpxml", vif)
    tap.ok("value='192.0.2.77'" in told and MAC.format(7) in told and "<name>g1</name>" in told, "filter: parameters", told)
    tap.contains(live_interface(host, 7), "<filterref filter='n-honest'>", "filter: told")
    wait_for(lambda: MAC.format(7) in run(console, "cat /sys/class/net/eth1/address"), 20)
    run(console, "ip link set eth0 down; ip addr add 192.0.2.77/25 dev eth1; ip link set eth1 up")
    tap.ok(wait_for(lambda: "1 packets received" in run(console, "ping -c 1 -W 1 192.0.2.1"), 20), "filter: an honest guest passes")
    run(console, "ip link set eth1 down; ip link set eth1 address 00:16:3e:77:00:99; ip link set eth1 up")
    tap.contains(run(console, "ping -c 3 -W 1 192.0.2.1"), " 0 packets received", "filter: another address does not")
    run(console, "ip link set eth0 up")
    tap.equal(detach(host, xml).status, 0, "filter: detach-device")
    tap.equal(filters("nwfilter-binding-list").strip(), "", "filter: no binding is left")
    err = attach(host, nic(7, "nat", "<filterref filter='n-none'/>")).err
    tap.contains(err, "n-none", "filter: one that is not there is named")


def refused(host, networks):
    before = host.virsh("dumpxml g1").out
    for xml, words in ((nic(9, "nowhere"), ("Network not found", "'nowhere'")),
                       (nic(9, "idle"), ("'idle' is not active",)),
                       (nic(9, "nat", "<target dev='nvirbr0'/>"), ("'nvirbr0'",)),
                       (nic(9, "nat", "<mac address='01:00:00:00:00:00'/>"), ("more than once",))):
        err = attach(host, xml).err
        tap.ok(err and all(word in err for word in words), f"refused: {words[-1]}", err)
    tap.equal(host.virsh("dumpxml g1").out, before, "the domain is as it was")
    tap.equal(len(ports(networks, "nat")), 1, "no port is left")
    host.virsh_args("define", host.write_xml(host.xml(name="g2").replace("<console", nic(8, "nowhere") + "<console")))
    tap.contains(host.virsh("start g2").err, "Network not found", "start: a missing network is named")
    tap.equal(host.state("g2"), "shut off", "and nothing runs")


def killed_daemon(host, networks):
    before, mine = host.virsh("dumpxml g1").out, ports(networks, "nat")
    host.stop(signal.SIGKILL)
    host.start()
    tap.equal(host.virsh("dumpxml g1").out, before, "a new daemon knows the port")
    tap.equal(ports(networks, "nat"), mine, "which is there")
    host.stop(signal.SIGKILL)
    for pid in host.hv_pids():
        os.kill(pid, signal.SIGKILL)
    host.start()
    tap.equal(host.state("g1"), "shut off", "a domain that died while there was no daemon")
    tap.equal(ports(networks, "nat"), [], "leaves no port")


enter_namespaces(__file__)
subprocess.run(f"ip link set lo up; ip link add nv0 type veth peer name nv1; ip link set nv0 up; "
               f"ip link add {BRIDGE} type bridge; ip link set {BRIDGE} up", shell=True, check=True)
with LibvirtDaemon("network", "network", "nwfilter") as networks, Host() as host:
    networks.define("net", NAT, start=True)
    for name, text in OTHERS.items():
        networks.define("net", f"<network><name>{name}</name>{text}</network>", start=name != "idle")
    text = host.xml(name="g1", cmdline="console=hvc0 guest.modules").replace("<console", nic(0, "nat") + "<console")
    result = host.virsh_args("define", "--validate", host.write_xml(text))
    tap.equal(result.status, 0, "define") or tap.note(result)
    result = host.virsh("start g1")
    if not tap.equal(result.status, 0, "start"):
        raise RuntimeError(str(result))
    console = host.console("g1")
    tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
    run(console, "dmesg -n 1")
    lease(host, console)
    told(host, networks)
    kinds(host, networks)
    direct(host, networks)
    isolated(host)
    filtered(host, networks, console)
    refused(host, networks)
    console.close()
    killed_daemon(host, networks)
    tap.equal(host.virsh("start g1").status, 0, "it starts again")
    tap.equal(host.virsh("destroy g1").status, 0, "destroy")
    tap.equal(ports(networks, "nat"), [], "no port is left")
    networks.stop()
    tap.contains(host.virsh("start g1").err, "cannot reach libvirt's network daemon", "no network daemon: is told")
    networks.start()  # which then ends what its networks have running
tap.done()
