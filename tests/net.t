#!/usr/bin/python3
"""Network interfaces of Debian's kernel (xen-netfront): a tap and passt, in a network namespace of the test's own."""
import contextlib
import ctypes
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from control import Control
from host import BOOT_SECONDS, Console, guest_files, program, wait_for

MIB = 1 << 20
CLONE_NEWNET = 0x40000000
HOST, GUEST = "10.9.0.1", "10.9.0.2"
HOST6, GUEST6 = "fd09::1", "fd09::2"
GATEWAY = "192.0.2.1"  # passt gives the host's own services by this address


def ip(command):
    subprocess.run(["ip", *command.split()], check=True)


@contextlib.contextmanager
def guest(*options, vcpus=1):
    files = guest_files()
    control = Control()
    argv = [program("domus-hv"), "run", "--kernel", f"{files}/vmlinuz", "--ramdisk", f"{files}/initrd.gz", "--cmdline",
            f"console=hvc0 guest.modules xen_netfront.max_queues={vcpus}", "--memory", "256", "--vcpus", str(vcpus),
            "--control-fd", str(control.child.fileno()), *options]
    try:
        with Console(argv) as console:
            tap.ok(console.expect(r"guest: up after [\d.]+ s", BOOT_SECONDS), "the guest boots", console.text[-3000:])
            console.prompt()
            yield console, control
            console.send("poweroff -f\n")
            tap.equal(console.wait(60), 0, "the guest powers off")
    finally:
        control.close()


def pinged(text):
    return re.search(r" 0% packet loss", text or "")


def serve(address, handle):
    """Listens on a port of its own; one connection goes to handle(), whose result ends up in the list."""
    server = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    server.settimeout(BOOT_SECONDS)
    results = []

    def run():
        with contextlib.suppress(OSError), server, server.accept()[0] as connection:
            connection.settimeout(BOOT_SECONDS)
            start = time.monotonic()
            results.append(handle(connection))
            results.append(time.monotonic() - start)

    thread = threading.Thread(target=run)
    thread.start()
    return server.getsockname()[1], thread, results


def digest_of(connection):
    digest, total = hashlib.md5(), 0
    while data := connection.recv(1 << 18):
        digest.update(data)
        total += len(data)
    return total, digest.hexdigest()


def download(address):
    """What the guest's web server sends: whole buffers at once, which its kernel leaves to be segmented."""
    start, digest, total = time.monotonic(), hashlib.md5(), 0
    with urllib.request.urlopen(f"http://[{address}]:8080/f" if ":" in address else f"http://{address}:8080/f",
                                timeout=BOOT_SECONDS) as answer:
        while data := answer.read(1 << 18):
            digest.update(data)
            total += len(data)
    return total, digest.hexdigest(), time.monotonic() - start


def transfer(console, host, mib, what, listen=None, guest_address=None):
    """The same data to the guest and back, each way checked."""
    data = os.urandom(mib * MIB)
    digest = hashlib.md5(data).hexdigest()

    # The guest's nc keeps its standard input open: passt of Debian 12 repeats data to who said that it sends no more.
    def send(connection):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)

    port, thread, results = serve(listen or host, send)
    console.run(f"nc {host} {port} >/tmp/f", BOOT_SECONDS)
    thread.join()
    if results:
        tap.note(f"{what}, host to guest: {mib / results[1]:.1f} MiB/s")
    tap.contains(console.run("md5sum /tmp/f", BOOT_SECONDS) or "", digest, f"{what}: {mib} MiB arrive in the guest")
    if guest_address:
        total, got, seconds = download(guest_address)
    else:
        port, thread, results = serve(listen or host, digest_of)
        console.run(f"nc {host} {port} </tmp/f", BOOT_SECONDS)
        thread.join()
        (total, got), seconds = results or ((0, ""), 0)
    tap.equal((total, got), (mib * MIB, digest), f"{what}: {mib} MiB arrive from the guest")
    if total:
        tap.note(f"{what}, guest to host: {mib / seconds:.1f} MiB/s")


def host_link(name):
    """What the host's kernel says of an interface."""
    out = subprocess.run(["ip", "-json", "-statistics", "link", "show", name], stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)[0]


def compared_counters(control):
    """By how much the host has counted more than the domain: what it queued before the guest was there."""
    host, ours = host_link("t0")["stats64"], control.vif_stats(0)
    return host["rx"]["bytes"] - ours["rx_bytes"], host["tx"]["bytes"] - ours["tx_bytes"]


def check_link(console, control):
    control.vif_set_link(0, False)
    tap.equal(wait_for(lambda: "NO-CARRIER" in host_link("t0")["flags"]), True,
              "with the link down the host has no carrier")
    tap.ok("100% packet loss" in (console.run(f"ping -c 2 -W 1 {HOST}") or ""), "and the guest reaches nobody")
    dropped = control.vif_stats(0)["rx_dropped"]
    tap.ok(dropped > 0, "what it sends is counted as dropped", dropped)
    control.vif_set_link(0, True)
    tap.ok(wait_for(lambda: pinged(console.run(f"ping -c 1 -W 1 {HOST}")), 20), "with the link up it does again")


def check_unplug(console, control):
    control.vif_detach(0)

    def gone():
        try:
            control.vif_stats(0)
        except OSError as error:
            return error.strerror
        return None

    tap.equal(wait_for(gone, 20), "ENODEV", "the device is detached")
    # Its kernel forgets the interface when a toolstack removes the nodes; there is none here.
    tap.ok(not pinged(console.run(f"ping -c 1 -W 1 {HOST}")), "and carries nothing for the guest")


def test_tap():
    ip("tuntap add dev t0 mode tap vnet_hdr")
    ip(f"address add {HOST}/24 dev t0")
    ip(f"address add {HOST6}/64 dev t0 nodad")
    ip("link set t0 up")
    with guest("--nic", "tap=t0,mac=00:16:3e:11:22:33") as (console, control):
        tap.contains(console.run("ip link show eth0") or "", "00:16:3e:11:22:33", "the guest has the MAC address")
        console.run(f"ip link set eth0 up; ip addr add {GUEST}/24 dev eth0; ip addr add {GUEST6}/64 dev eth0")
        tap.ok(wait_for(lambda: pinged(console.run(f"ping -c 1 -W 1 {HOST}")), 20), "the guest reaches the host")
        for size in (56, 20000):
            tap.ok(pinged(console.run(f"ping -c 3 -s {size} {HOST}")), f"ping of {size} bytes from the guest")
            out = subprocess.run(["ping", "-c", "3", "-s", str(size), GUEST], stdout=subprocess.PIPE, text=True)
            tap.ok(pinged(out.stdout), f"ping of {size} bytes to the guest", out.stdout)
        console.run("httpd -p 8080 -h /tmp")
        before = compared_counters(control)
        transfer(console, HOST, 24, "TCP over IPv4", guest_address=GUEST)
        tap.ok(wait_for(lambda: pinged(console.run(f"ping -c 1 -W 1 {HOST6}")), 20), "IPv6 works")
        transfer(console, HOST6, 4, "TCP over IPv6", guest_address=GUEST6)
        tap.equal(wait_for(lambda: compared_counters(control) == before, 10), True, "statistics agree with the host's")
        stats = control.vif_stats(0)
        tap.note(stats)
        tap.equal((stats["rx_errors"], stats["tx_errors"]), (0, 0), "there are no errors")
        tap.ok(stats["rx_bytes"] / stats["rx_packets"] > 1514, "the guest leaves segmenting to the host")
        tap.ok(stats["tx_bytes"] / stats["tx_packets"] > 1514, "and the host to the guest")
        check_link(console, control)
        check_unplug(console, control)
    ip("link delete t0")


def test_queues_and_mtu():
    ip("tuntap add dev t1 mode tap vnet_hdr multi_queue")
    ip(f"address add {HOST}/24 dev t1")
    ip("link set t1 mtu 9000 up")
    with guest("--nic", "tap=t1,queues=2,mtu=9000", vcpus=2) as (console, _):
        tap.contains(console.run("ls /sys/class/net/eth0/queues") or "", "tx-1", "the guest has two queues")
        console.run(f"ip link set eth0 mtu 9000 up; ip addr add {GUEST}/24 dev eth0")
        tap.ok(wait_for(lambda: pinged(console.run(f"ping -c 1 -W 1 {HOST}")), 20), "the guest reaches the host")
        out = subprocess.run(["ping", "-c", "3", "-M", "do", "-s", "8972", GUEST], stdout=subprocess.PIPE, text=True)
        tap.ok(pinged(out.stdout), "frames of 9000 bytes pass unfragmented", out.stdout)
        transfer(console, HOST, 4, "two queues, large frames")
    ip("link delete t1")


def test_user():
    if not shutil.which("passt"):
        tap.skip("no passt here")
        return
    ip("tuntap add dev d0 mode tap")
    ip("address add 192.0.2.10/24 dev d0")
    ip("link set d0 up")
    ip(f"route add default via {GATEWAY}")
    with guest("--nic", "user") as (console, _):
        console.run("ip link set eth0 up; ip addr add 192.0.2.10/24 dev eth0; ip route add default via 192.0.2.1")
        transfer(console, GATEWAY, 4, "a user's network", listen="127.0.0.1")


def main():
    if os.geteuid() != 0 or not os.access("/dev/net/tun", os.W_OK) or not shutil.which("ip") or \
            ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        tap.skip_all("needs root, /dev/net/tun and a network namespace")
    ip("link set lo up")
    for test in (test_tap, test_queues_and_mtu, test_user):
        if len(sys.argv) < 2 or test.__name__ in sys.argv:
            test()
    tap.done()


main()
