#!/usr/bin/python3
"""A whole Debian in an image of examples/debian-image.sh: two guests of it boot to a login, get addresses by DHCP,
talk to their host and to each other, answer through their agents, work under load, and come back after their power is cut.

As root, in a network namespace of its own. DOMUS_DEBIAN_IMAGE names an image made before with fio and iperf3.
"""
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import TOP, Host, wait_for

BRIDGE, HOST_IP = "domus0", "192.0.2.1"
FIO = ("fio --name=v --filename=/var/tmp/fio --size=256M --bs=16k --ioengine=libaio --iodepth=16 --direct=1 "
       "--rw=randwrite --verify=crc32c --output-format=json --output=/root/fio.json")


@contextlib.contextmanager
def network(folder):
    """A bridge with a DHCP server."""
    for command in ("ip link set lo up", f"ip link add {BRIDGE} type bridge",
                    f"ip addr add {HOST_IP}/24 dev {BRIDGE}", f"ip link set {BRIDGE} up"):
        subprocess.run(command.split(), check=True)
    server = subprocess.Popen(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", f"--interface={BRIDGE}",
                               "--bind-interfaces", "--port=0", "--dhcp-range=192.0.2.10,192.0.2.99,1h",
                               f"--dhcp-leasefile={folder}/leases", f"--pid-file={folder}/dnsmasq.pid"])
    try:
        yield
    finally:
        server.terminate()
        server.wait()


class Guest:
    def __init__(self, host, folder, image, name, vcpus):
        self.host, self.name = host, name
        disk = f"{folder}/{name}.img"
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", image, disk], check=True)
        # Its kernel is where it would be under Xen: in its disk, for pygrub.
        xml = re.sub(r"\s*<(kernel|initrd|cmdline)>.*", "", host.xml(name=name, memory_mib=1024, vcpus=vcpus))
        xml = xml.replace("<os>", "<bootloader>pygrub</bootloader><os>")
        devices = (f"<disk type='file'><driver type='raw' cache='none'/><source file='{disk}'/><target dev='xvda'/>"
                   f"</disk><interface type='bridge'><source bridge='{BRIDGE}'/></interface>"
                   "<channel type='unix'><target type='xen' name='org.qemu.guest_agent.0'/></channel>")
        tap.equal(host.virsh_args("define", host.write_xml(xml.replace("<console", devices + "<console"))).status, 0,
                  f"{name}: define")

    def boot(self):
        began = time.monotonic()
        result = self.host.virsh(f"start {self.name}")
        tap.equal(result.status, 0, f"{self.name}: start {result}")
        self.console = self.host.console(self.name)
        if not tap.ok(self.console.expect(r"login: "), f"{self.name}: a login", self.console.text[-3000:]):
            tap.done()
        tap.note(f"{self.name}: login after {time.monotonic() - began:.1f} s")
        self.console.send("root\n")
        self.console.expect("# ")
        self.run("bind 'set enable-bracketed-paste off'; PS1='# '; dmesg -n 1")

    def run(self, command, seconds=120):
        return (self.console.run(command, seconds) or "").strip()

    def address(self):
        """IPv4, once DHCP gave one."""
        def found():
            match = re.search(r"inet (192\.0\.2\.\d+)/", self.run("ip -4 addr show scope global"))
            return match and match.group(1)
        return wait_for(found, 60, 1)


def check_system(guest):
    tap.equal(guest.run("systemctl --failed --plain --no-legend | wc -l"), "0", f"{guest.name}: no unit failed")
    log = guest.run("dmesg | grep -ciE 'oops|call trace|BUG:|hung task|I/O error'")
    tap.equal(log, "0", f"{guest.name}: the kernel has no complaint")


def check_network(one, two):
    addresses = [one.address(), two.address()]
    if not tap.ok(all(addresses) and addresses[0] != addresses[1], f"both have addresses: {addresses}"):
        return
    for guest in (one, two):
        tap.contains(guest.run(f"ping -c 3 -i 0.2 {HOST_IP}"), " 0% packet loss", f"the host answers {guest.name}")
    tap.contains(one.run(f"ping -c 3 -i 0.2 {addresses[1]}"), " 0% packet loss", "the other guest answers")
    tap.contains(two.host.virsh(f"domifaddr {two.name} --source arp").out, addresses[1], "domifaddr knows it")
    two.run("iperf3 -s -D")
    for options in ("", "-R"):
        out = one.run(f"iperf3 -c {addresses[1]} -t 5 -f m {options} | tail -4")
        rate = re.search(r"(\d+) Mbits/sec\s+receiver", out)
        if tap.ok(rate, f"iperf3 {options} goes through", out):
            tap.note(f"guest to guest {options}: {rate.group(1)} Mbit/s")


def check_agent(guest):
    """What stock virsh asks the guest's agent."""
    def says(command, words):
        result = guest.host.virsh(command.replace(" ", f" {guest.name} ", 1) if " " in command else f"{command} {guest.name}")
        tap.ok(result.status == 0 and re.search(words, result.out), f"{guest.name}: {command}", result)
    tap.ok(wait_for(lambda: "state='connected'" in guest.host.virsh(f"dumpxml {guest.name}").out, 120, 1),
           f"{guest.name}: its agent is there")
    says("domhostname", "debian")
    says("guestinfo", "os.id *: debian")
    says("guestinfo --user", "user.0.name *: root")
    says("domfsinfo", r"/ +xvda +ext4 +xvda")
    says("domifaddr --source agent", re.escape(guest.address() or "no address"))
    says("domtime", r"Time: \d+")
    says("domfsfreeze", "Froze [1-9]")
    says("domfsthaw", "Thawed [1-9]")
    says("domfstrim", "")
    says("set-user-password nobody secret", "")
    tap.ok(guest.run("grep -c '^nobody:[$]' /etc/shadow").endswith("1"), "the password is the guest's")


def check_disk(guest):
    guest.run("rm -f /root/fio.json; touch /root/before; sync")
    tap.equal(guest.run(f"{FIO} >/dev/null; echo $?", 400).splitlines()[-1:], ["0"], "fio --verify is content")
    text = guest.run("cat /root/fio.json")
    with contextlib.suppress(ValueError, IndexError):
        job = json.loads(text[text.index("{"):text.rindex("}") + 1])["jobs"][0]
        tap.note(f"16 KiB random: write {job['write']['iops']:.0f}/s, read {job['read']['iops']:.0f}/s")


def check_power_cut(guest):
    """What was synced is there after a cut in the middle of writing."""
    sums = guest.run("head -c 8M /dev/urandom >/root/kept; sync; md5sum </root/kept")
    guest.run("(while :; do dd if=/dev/zero of=/var/tmp/noise bs=1M count=64 conv=notrunc status=none; done) &")
    time.sleep(2)
    tap.equal(guest.host.virsh(f"destroy {guest.name}").status, 0, "the power is cut under load")
    guest.console.close()
    guest.boot()
    tap.equal(guest.run("md5sum </root/kept"), sums, "what was synced is there")
    check_system(guest)


def check_shutdown(guest, mode):
    tap.equal(guest.host.virsh(f"shutdown {guest.name} --mode {mode}").status, 0, f"{guest.name}: shutdown by {mode}")
    tap.ok(wait_for(lambda: guest.host.state(guest.name) == "shut off", 120), f"{guest.name}: powers off")
    guest.console.close()


def check_all(folder, image):
    with network(folder), Host() as host:
        one, two = Guest(host, folder, image, "one", 2), Guest(host, folder, image, "two", 1)
        for guest in (one, two):
            guest.boot()
            check_system(guest)
        check_network(one, two)
        for guest in (one, two):
            check_agent(guest)
        check_disk(one)
        check_power_cut(one)
        check_shutdown(one, "agent")
        check_shutdown(two, "paravirt")
    tap.done()


def main():
    """Makes the image and starts this test anew where it may change the network and reach no other."""
    if os.getuid():
        tap.skip_all("needs root")
    for tool in ("mmdebstrap", "dnsmasq", "unshare"):
        if not shutil.which(tool):
            tap.skip_all(f"needs {tool}")
    with tempfile.TemporaryDirectory(prefix="domus-debian-", dir="/var/tmp") as folder:
        image = os.environ.get("DOMUS_DEBIAN_IMAGE")
        if not image:
            image = f"{folder}/debian.img"
            subprocess.run([f"{TOP}/examples/debian-image.sh", image, "fio", "iperf3"], check=True, stdout=sys.stderr)
        sys.exit(subprocess.call(["unshare", "-n", sys.executable, os.path.abspath(__file__), folder, image]))


if len(sys.argv) == 3:
    check_all(*sys.argv[1:])
main()
