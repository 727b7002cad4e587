#!/usr/bin/python3
"""What libvirt's own daemons do for clients of xen:///system: networks, storage, node devices, interfaces, secrets and
network filters, with their events and streams.

As root, in namespaces of its own. With the modular daemons where there are any, and with libvirtd, which is both.
"""
import contextlib
import hashlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for
from libvirt_daemon import MODULAR, LibvirtDaemon, enter_namespaces

enter_namespaces(__file__)
import libvirt  # noqa: E402

MIB = 1 << 20
DRIVERS = ("network", "storage", "nodedev", "interface", "secret", "nwfilter")
NETWORK = """<network><name>rl0</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fb0</uuid><bridge name='rlbr0'/>
<ip address='192.168.177.1' netmask='255.255.255.0'><dhcp><range start='192.168.177.10' end='192.168.177.20'/></dhcp></ip>
</network>"""
SECRET = """<secret ephemeral='no' private='no'><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fb1</uuid>
<usage type='volume'><volume>/a/b</volume></usage></secret>"""
UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fb1"
FILTER = "<filter name='rl-nothing' chain='root'><rule action='drop' direction='in'/></filter>"
HOST_XML = "<host mac='52:54:00:00:00:01' ip='192.168.177.11'/>"


def check(host, command, *words, status=0):
    """The command ends so and says all of the words (regular expressions)."""
    result = host.virsh(command)
    missing = [word for word in words if not re.search(word, result.out + result.err)]
    tap.ok(result.status == status and not missing, f"virsh {command.replace(host.root, '')[:90]}", f"no {missing} in {result}")
    return result.out


def digest(path):
    with open(path, "rb") as f:
        return hashlib.md5(f.read()).hexdigest()


# ---- a walk through the commands

def walk_networks(host):
    path = host.write_xml(NETWORK, "net.xml")
    check(host, f"net-define {path}", "Network rl0 defined")
    check(host, "net-start rl0", "started")
    check(host, "net-list", r"rl0\s+active\s+no\s+yes")
    check(host, "net-info rl0", "Bridge:\\s+rlbr0")
    check(host, "net-autostart rl0", "marked")
    check(host, f"net-update rl0 add ip-dhcp-host \"{HOST_XML}\" --live --config", "Updated network")
    check(host, "net-dumpxml rl0", "ip='192.168.177.11'")
    check(host, "net-dhcp-leases rl0", "Expiry Time")
    check(host, "net-port-list rl0", "UUID")
    check(host, "net-uuid rl0", "4dea22b3")
    check(host, "net-destroy rl0", "destroyed")
    check(host, "net-undefine rl0", "undefined")
    check(host, "net-info rl0", "error: failed to get network 'rl0'", status=1)


def walk_pools(host):
    os.makedirs(f"{host.root}/pool", exist_ok=True)
    check(host, f"pool-define-as rlpool dir --target {host.root}/pool", "defined")
    check(host, "pool-build rlpool", "built")
    check(host, "pool-start rlpool", "started")
    check(host, "pool-list --details", r"rlpool\s+running")
    check(host, "pool-info rlpool", "State:\\s+running")
    check(host, "pool-dumpxml rlpool", f"<path>{host.root}/pool</path>")
    check(host, "pool-autostart rlpool", "marked")
    check(host, "pool-capabilities", "<pool type='dir' supported='yes'>")
    check(host, "find-storage-pool-sources disk", "unsupported|not supported|sources", status=1)
    check(host, "pool-refresh rlpool", "refreshed")


def walk_volumes(host):
    check(host, "vol-create-as rlpool a.img 4M", "created")
    check(host, "vol-create-as rlpool q.qcow2 8M --format qcow2", "created")
    check(host, "vol-clone --pool rlpool a.img b.img", "cloned")
    check(host, "vol-resize --pool rlpool b.img 6M", "changed to 6M")
    check(host, "vol-list rlpool --details", r"a.img.*4.00 MiB", r"b.img.*6.00 MiB", r"q.qcow2.*8.00 MiB")
    check(host, "vol-info --pool rlpool b.img", "Capacity:\\s+6.00 MiB")
    check(host, "vol-dumpxml --pool rlpool q.qcow2", "<format type='qcow2'/>")
    check(host, f"vol-pool {host.root}/pool/b.img", "rlpool")
    check(host, f"vol-key --pool rlpool b.img", f"{host.root}/pool/b.img")
    check(host, "vol-wipe --pool rlpool b.img", "wiped")
    check(host, "vol-delete --pool rlpool b.img", "deleted")
    check(host, "vol-path --pool rlpool b.img", "Storage volume not found|no storage vol", status=1)


def walk_streams(host):
    """Up and down, byte by byte; holes stay holes."""
    with open(f"{host.root}/data", "wb") as f:
        f.write(os.urandom(20 * MIB + 4096 + 17))
    check(host, "vol-create-as rlpool up.img 21M", "created")
    check(host, f"vol-upload --pool rlpool up.img {host.root}/data --length {20 * MIB + 4096 + 17}")
    check(host, f"vol-download --pool rlpool up.img {host.root}/down --length {20 * MIB + 4096 + 17}")
    tap.equal(digest(f"{host.root}/down"), digest(f"{host.root}/data"), "what was uploaded is what is downloaded")
    with open(f"{host.root}/sparse", "wb") as f:
        for at in (3, 90, 190):
            f.seek(at * MIB)
            f.write(os.urandom(MIB))
        f.truncate(256 * MIB)
    check(host, "vol-create-as rlpool sparse.img 256M --allocation 0", "created")
    check(host, f"vol-upload --sparse --pool rlpool sparse.img {host.root}/sparse")
    check(host, f"vol-download --sparse --pool rlpool sparse.img {host.root}/sparse-down")
    tap.equal(digest(f"{host.root}/sparse-down"), digest(f"{host.root}/sparse"), "a sparse file goes both ways")
    used = [os.stat(f"{host.root}/{name}").st_blocks * 512 for name in ("pool/sparse.img", "sparse-down")]
    tap.ok(all(n < 8 * MIB for n in used), "and stays sparse", used)
    check(host, f"vol-upload --pool rlpool nothing {host.root}/data", "Storage volume not found|no storage vol", status=1)
    check(host, f"vol-download --pool rlpool nothing {host.root}/x", "Storage volume not found|no storage vol", status=1)


def walk_others(host):
    check(host, "nodedev-list --tree", "^computer")
    name = check(host, "nodedev-list --cap net").split()[0]
    check(host, f"nodedev-dumpxml {name}", f"<name>{name}</name>", "<capability type='net'>")
    check(host, "nodedev-info nothing", "error", status=1)
    check(host, "nodedev-detach pci_0000_00_00_0", "error", status=1)
    check(host, "iface-list --all", "MAC Address")
    check(host, "iface-dumpxml lo", "<interface type='ethernet' name='lo'")
    check(host, f"secret-define {host.write_xml(SECRET, 'secret.xml')}", f"Secret {UUID} created")
    check(host, f"secret-set-value {UUID} --base64 c2VjcmV0", "value set")
    check(host, f"secret-get-value {UUID}", "c2VjcmV0")
    check(host, "secret-list", r"volume /a/b")
    check(host, f"secret-undefine {UUID}", "deleted")
    check(host, f"nwfilter-define {host.write_xml(FILTER, 'filter.xml')}", "rl-nothing")
    check(host, "nwfilter-list", "rl-nothing")
    check(host, "nwfilter-dumpxml rl-nothing", "action='drop'")
    check(host, "nwfilter-binding-list", "Port Dev")
    check(host, "nwfilter-undefine rl-nothing", "undefined")


def walk_readonly(host):
    def run(command):
        return host.client("virsh", "-r", "-c", f"{host.uri}-ro", command)
    tap.contains(run("vol-list rlpool").out, "a.img", "a read-only client lists volumes")
    connection = libvirt.openReadOnly(f"{host.uri}-ro")
    pool = connection.storagePoolLookupByName("rlpool")
    tap.ok(pool.isActive() and "a.img" in pool.listVolumes(), "and looks at a pool")
    tap.contains(run("pool-destroy rlpool").err, "read only access prevents", "but may not stop it")
    connection.close()


# ---- events and streams of one connection

class Events:
    """All events of a connection, as words."""

    def __init__(self, connection):
        self.seen = []
        self.connection = connection
        names = {"network": ["define", "undefine", "start", "stop"], "pool": ["define", "undefine", "start", "stop", "create", "delete"],
                 "secret": ["define", "undefine"]}

        def lifecycle(_connection, thing, event, _detail, kind):
            self.seen.append(f"{kind} {names[kind][event]}")
        self.ids = [
            (connection.networkEventDeregisterAny, connection.networkEventRegisterAny(None, 0, lifecycle, "network")),
            (connection.storagePoolEventDeregisterAny, connection.storagePoolEventRegisterAny(None, 0, lifecycle, "pool")),
            (connection.storagePoolEventDeregisterAny, connection.storagePoolEventRegisterAny(
                None, 1, lambda _c, pool, _o: self.seen.append(f"pool refresh {pool.name()}"), None)),
            (connection.secretEventDeregisterAny, connection.secretEventRegisterAny(None, 0, lifecycle, "secret")),
            (connection.secretEventDeregisterAny, connection.secretEventRegisterAny(
                None, 1, lambda *_: self.seen.append("secret value"), None)),
            (connection.nodeDeviceEventDeregisterAny, connection.nodeDeviceEventRegisterAny(
                None, 0, lambda _c, device, event, *_: self.seen.append(f"device {device.name()} {event}"), None)),
        ]

    def wait(self, *words):
        return wait_for(lambda: all(any(word in seen for seen in self.seen) for word in words), 30)

    def end(self):
        for deregister, number in self.ids:
            deregister(number)


def start_event_loop():
    libvirt.virEventRegisterDefaultImpl()

    def run():
        while True:
            libvirt.virEventRunDefaultImpl()
    threading.Thread(target=run, daemon=True).start()


def announce_device(path, subsystem):
    """What udevd says to libudev's listeners in this network namespace when a device has come (systemd's
    sd-device/device-monitor.c: monitor_netlink_header)."""
    properties = b"".join(f"{key}={value}\0".encode() for key, value in (
        ("ACTION", "add"), ("DEVPATH", path), ("SUBSYSTEM", subsystem), ("INTERFACE", os.path.basename(path)),
        ("SEQNUM", "1"), ("USEC_INITIALIZED", "1"), ("UDEV_DATABASE_VERSION", "1")))
    header = b"libudev\0" + struct.pack(">I", 0xfeedcafe) + struct.pack("=III", 40, 40, len(properties)) + bytes(16)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as netlink:  # NETLINK_KOBJECT_UEVENT
        netlink.bind((0, 0))
        netlink.sendto(header + properties, (0, 2))


def events(host):
    connection = libvirt.open(host.uri)
    seen = Events(connection)
    host.virsh_args("net-define", host.write_xml(NETWORK, "net.xml"))
    for command in ("net-undefine rl0", "pool-refresh rlpool", f"secret-define {host.root}/secret.xml",
                    f"secret-set-value {UUID} --base64 YQ==", f"secret-undefine {UUID}"):
        host.virsh(command)
    subprocess.run(["ip", "tuntap", "add", "rl-tap", "mode", "tap"], check=True)
    announce_device("/devices/virtual/net/rl-tap", "net")
    wanted = ["network define", "network undefine", "pool refresh rlpool", "secret define", "secret value", "secret undefine"]
    tap.ok(seen.wait(*wanted), "events of networks, pools and secrets arrive", seen.seen)
    tap.ok(seen.wait("device net_rl_tap"), "and those of node devices", seen.seen)
    subprocess.run(["ip", "link", "del", "rl-tap"], check=True)
    tap.equal([word for word in seen.seen if word.startswith("network")], ["network define", "network undefine"], "once each, in order")
    seen.end()
    before = len(seen.seen)
    host.virsh("pool-refresh rlpool")
    connection.listAllStoragePools()
    tap.equal(len(seen.seen), before, "and none after they were deregistered")
    connection.close()


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])


def slow_client(host):
    """A client that does not read: its download waits, in nobody's memory."""
    connection = libvirt.open(host.uri)
    pool = connection.storagePoolLookupByName("rlpool")
    volume = pool.storageVolLookupByName("sparse.img")
    before = resident_kib(host.daemon.pid)
    stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
    volume.download(stream, 0, 0, 0)
    time.sleep(2)
    grown = resident_kib(host.daemon.pid) - before
    tap.ok(grown < 32 * 1024, "a download that is not read is kept out of memory", f"{grown} KiB")
    tap.equal(host.virsh("vol-list rlpool").status, 0, "others are served meanwhile")
    other = libvirt.open(host.uri)
    tap.ok(other.listAllStoragePools(), "through the same daemon too")
    other.close()
    stream.abort()
    tap.equal(pool.isActive(), 1, "and the connection goes on when it was aborted")
    connection.close()


def killed_client(host):
    """A client that is killed in the middle of an upload."""
    upload = subprocess.Popen(["virsh", "-c", host.uri, "vol-upload", "--pool", "rlpool", "sparse.img", "/dev/zero"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    upload.kill()
    upload.wait()
    tap.ok(wait_for(lambda: host.virsh("vol-delete --pool rlpool sparse.img").status == 0, 30), "the volume of a killed upload is let go")


# ---- daemons that come and go

def restart(host, daemon):
    connection = libvirt.open(host.uri)
    tap.equal(len(connection.listAllStoragePools()), 1, "a connection")
    stream = connection.newStream()
    connection.storagePoolLookupByName("rlpool").storageVolLookupByName("up.img").upload(stream, 0, 0, 0)
    daemon.stop(signal.SIGKILL)
    code = None
    for _ in range(2):
        try:
            connection.listAllStoragePools()
        except libvirt.libvirtError as error:
            code = error.get_error_code()
    tap.equal(code, libvirt.VIR_ERR_NO_SUPPORT, "whose daemon was killed is told that there is none")
    with contextlib.suppress(libvirt.libvirtError):
        stream.send(b"x")
        stream.finish()
        tap.ok(False, "its upload failed")
    tap.ok(connection.isAlive() and connection.getHostname(), "and lives on")
    daemon.start()
    tap.equal(len(connection.listAllStoragePools()), 1, "and finds the next one")
    tap.equal(host.virsh("pool-destroy rlpool").status, 0, "which does what is asked")
    tap.equal(host.virsh("pool-undefine rlpool").status, 0, "of it")
    connection.close()


def absent(host):
    for command, name, api in (("net-list", "networks", "NumOfNetworks"), ("pool-list", "pools", "NumOfStoragePools"),
                               ("nodedev-list", "node devices", "NumOfDevices"), ("secret-list", "secrets", "NumOfSecrets"),
                               ("iface-list", "interfaces", "NumOfInterfaces"), ("nwfilter-list", "network filters", "NumOfNWFilters")):
        check(host, command, f"Failed to .*{name}",
              f"this function is not supported by the connection driver: vir[A-Z][a-z]+{api}: neither virt[a-z]+d nor libvirtd answers",
              status=1)
    tap.equal(host.virsh("list --all").status, 0, "domains are served all the same")


def walk(host, daemon):
    for part in (walk_networks, walk_pools, walk_volumes, walk_streams, walk_others, walk_readonly, events, slow_client, killed_client):
        tap.note(part.__name__)
        part(host)
    restart(host, daemon)


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
start_event_loop()
with Host(start=False) as host:
    os.makedirs(f"{host.root}/etc/domus")
    with open(f"{host.root}/etc/domus/domusd.conf", "w") as f:
        f.write("[relay]\nsockets = /run/libvirt\n")
    host.start()
    for modular in [False, True] if MODULAR else [False]:
        tap.note("modular daemons" if modular else "libvirtd")
        with LibvirtDaemon("storage", *DRIVERS, modular=modular) as daemon:
            walk(host, daemon)
    absent(host)
tap.done()
