#!/usr/bin/python3
"""io.py HV: disk and network of guests of ours and of QEMU's TCG with virtio side by side, and prints a table.

HV is domus-hv. Both have the same kernel, programs, disk image and host: raw images through the host's page cache and
io_uring, taps on one bridge. They run in turn, round after round; figures are medians. Needs root, and has a network
namespace of its own. Settings, from the environment:
  IO_ROUNDS   rounds (3)
  IO_SECONDS  of each measurement (4)
  IO_ONLY     rows, as a regular expression (all)
  IO_VCPUS    of each guest (2)
"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
sys.path.insert(0, HERE)
import netns
from bench import TCG
from host import Console, guest_files, wait_for

MEMORY_MIB, DATA_MIB = 512, 512
BRIDGE, HOST_IP = "domus0", "192.0.2.1"
ROUNDS, SECONDS = int(os.environ.get("IO_ROUNDS", "3")), int(os.environ.get("IO_SECONDS", "4"))
VCPUS = os.environ.get("IO_VCPUS", "2")

# Name, fio's options, and whether more is better: then MB/s or operations a second, else microseconds.
DISK_ROWS = [
    ("sequential read, 1 MiB, depth 8", "--rw=read --bs=1M --iodepth=8", "MB/s"),
    ("sequential write, 1 MiB, depth 8", "--rw=write --bs=1M --iodepth=8", "MB/s"),
    ("random read, 4 KiB, depth 1", "--rw=randread --bs=4k --iodepth=1", "op/s"),
    ("random read, 4 KiB, depth 32", "--rw=randread --bs=4k --iodepth=32", "op/s"),
    ("random write, 4 KiB, depth 1", "--rw=randwrite --bs=4k --iodepth=1", "op/s"),
    ("random write, 4 KiB, depth 32", "--rw=randwrite --bs=4k --iodepth=32", "op/s"),
    ("write and fsync, 4 KiB: fsync", "--rw=write --bs=4k --iodepth=1 --fsync=1", "us"),
]
NET_ROWS = [
    ("network, guest to host", HOST_IP, ""),
    ("network, host to guest", HOST_IP, "-R"),
    ("network, guest to guest", "guest", ""),
]


class Guest:
    """One guest of a subject, on a console with a shell."""

    def __init__(self, subject, number):
        self.tap, self.address = f"io-{subject.name}{number}", f"192.0.2.{10 + number}"
        self.letter = subject.disk_letter
        self.console = Console(subject.argv(self.tap, number))
        if not self.console.expect("guest: up") or not self.console.prompt():
            sys.exit(f"{subject.name} does not boot:\n{self.console.text[-3000:]}")
        for command in (f"ip link set {self.tap} master {BRIDGE}", f"ip link set {self.tap} up"):
            subprocess.run(command.split(), check=True)
        self.run("dmesg -n 1; mkdir /t; mount -t ext4 -o ro /dev/%sda /t && for d in dev:devtmpfs proc:proc sys:sysfs tmp:tmpfs; do "
                 "mount -t ${d#*:} x /t/${d%%:*}; done" % self.letter)
        self.run(f"ip addr add {self.address}/24 dev eth0; ip link set eth0 up")
        if not wait_for(lambda: " 0% packet loss" in self.run(f"ping -c 1 {HOST_IP}"), 30):
            sys.exit(f"{subject.name} has no network:\n{self.console.text[-3000:]}")

    def run(self, command, seconds=300):
        return (self.console.run(command, seconds) or "").strip()

    def tool(self, command):
        return self.run(f"chroot /t {command}")

    def json(self, command):
        text = self.tool(command)
        try:
            return json.loads(text[text.index("{"):text.rindex("}") + 1])
        except ValueError:
            sys.exit(f"{command}:\n{text}")


class Domus:
    name, disk_letter = "domus", "xv"

    def __init__(self, hv, files, images):
        self.hv, self.files, self.images = hv, files, images

    def argv(self, tap, number):
        return [self.hv, "run", "--kernel", f"{guest_files()}/vmlinuz", "--ramdisk", f"{guest_files()}/initrd.gz",
                "--cmdline", "console=hvc0 guest.modules", "--memory", str(MEMORY_MIB), "--vcpus", VCPUS,
                "--disk", f"{self.files}/tools.img,ro", "--disk", self.images[number],
                "--nic", f"tap={tap},mac=00:16:3e:00:78:0{number}"]


class Qemu:
    name, disk_letter = "tcg", "v"

    def __init__(self, files, images):
        self.files, self.images = files, images

    def argv(self, tap, number):
        line = "console=ttyS0 guest.modules net.ifnames=0" + (" tsc=reliable" if VCPUS != "1" else "")
        drives = [f"file={self.files}/tools.img,readonly=on", f"file={self.images[number]}"]
        options = [x for i, drive in enumerate(drives) for x in (
            "-drive", f"{drive},id=d{i},if=none,format=raw,cache=writeback,aio=io_uring",
            "-device", f"virtio-blk-pci,drive=d{i}")]
        return TCG + ["-m", str(MEMORY_MIB), "-smp", VCPUS, "-kernel", f"{guest_files()}/vmlinuz",
                      "-initrd", f"{self.files}/initrd.gz", "-append", line, *options,
                      "-netdev", f"tap,id=n,ifname={tap},script=no,downscript=no",
                      "-device", f"virtio-net-pci,netdev=n,mac=00:16:3e:00:78:1{number}"]


def wanted(name):
    return re.search(os.environ.get("IO_ONLY", ""), name)


def measure_disk(guest, figures):
    for name, options, unit in DISK_ROWS:
        if not wanted(name):
            continue
        job = guest.json(f"/bin/fio --name=x --filename=/dev/{guest.letter}db --ioengine=libaio --direct=1 --runtime={SECONDS} "
                         f"--time_based --size={DATA_MIB}M --output-format=json {options}")["jobs"][0]
        part = job["read" if "read" in name else "write"]
        figures[name] = {"MB/s": part["bw_bytes"] / 1e6, "op/s": part["iops"],
                         "us": job["sync"]["lat_ns"]["mean"] / 1000}[unit]


def measure_network(guest, other, figures):
    for name, server, options in NET_ROWS:
        if not wanted(name):
            continue
        if server == "guest":
            other.run("chroot /t /bin/iperf3 -s -D")
            server = other.address
        end = guest.json(f"/bin/iperf3 -c {server} -t {SECONDS} -J {options}")["end"]
        figures[name] = end["sum_received"]["bits_per_second"] / 1e6
    for name, address in (("ping, guest to host", HOST_IP), ("ping, guest to guest", other.address)):
        if wanted(name):
            out = guest.tool(f"/bin/ping -q -c {SECONDS * 100} -i 0.005 {address}")
            figures[name] = float(re.search(r"= [\d.]+/([\d.]+)/", out).group(1)) * 1000


def measure(subject):
    """One round: name and figure of each row."""
    figures = {}
    guest, other = Guest(subject, 0), Guest(subject, 1)
    try:
        measure_disk(guest, figures)
        measure_network(guest, other, figures)
    finally:
        for one in (guest, other):
            one.console.close()
    return figures


def unit_of(name):
    units = {row: unit for row, _, unit in DISK_ROWS}
    return units.get(name, "us" if name.startswith("ping") else "Mbit/s")


def report(samples):
    """A line for each row: the median of both, and how many times better ours is."""
    print(f"{'':36}{'':>8}{'ours':>10}{'QEMU':>10}{'ratio':>8}")
    for name in samples["domus"][0]:
        ours, theirs = (statistics.median(s[name] for s in samples[x]) for x in ("domus", "tcg"))
        ratio = theirs / ours if unit_of(name) == "us" else ours / theirs
        print(f"{name:36}{unit_of(name):>8}{ours:10.0f}{theirs:10.0f}{ratio:8.2f}")


def main():
    # Made, if they are not there, while there is still a way to Debian's archive.
    files = subprocess.run([f"{HERE}/io-files.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    netns.enter()
    netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
    with tempfile.TemporaryDirectory(prefix="domus-io-", dir="/var/tmp") as folder:
        images = [f"{folder}/{i}.img" for i in range(2)]
        for image in images:
            subprocess.run(["dd", "if=/dev/urandom", f"of={image}", "bs=1M", f"count={DATA_MIB}", "status=none"], check=True)
        server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)
        subjects = [Domus(os.path.abspath(sys.argv[1]), files, images), Qemu(files, images)]
        samples = {subject.name: [] for subject in subjects}
        try:
            for number in range(ROUNDS):
                for subject in subjects:
                    samples[subject.name].append(measure(subject))
                    print(f"round {number + 1}: {subject.name} done", file=sys.stderr, flush=True)
        finally:
            server.terminate()
            server.wait()
        report(samples)


if __name__ == "__main__":
    main()
