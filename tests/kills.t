#!/usr/bin/python3
"""What was synced is there, whoever is killed: a guest writes files with patterns to a raw and to a qcow2 disk and says
of each when its fsync has come back; the hypervisor, domusd, the storage daemon or all of them get a SIGKILL at random
moments, or the guest's power is cut. Then the file systems are in order, and each file told of has its pattern.

Settings, from the environment:
  KILLS_ROUNDS  how many times (one of each kind)
  KILLS_SEED    of the random moments (the same each time)
"""
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, alive, wait_for

DISKS = {"a": "raw", "b": "qcow2"}
NEW_DISKS_AFTER = 8  # rounds: they get full
WRITER = ("w() { i=$2; while :; do yes \"$1 $i\" | head -c $((i * 7919 % 61 * 1024 + 700)) | "
          "dd of=/$1/f$i bs=256k conv=fsync 2>/dev/null || { echo $1 fails; break; }; echo acked $1 $i; i=$((i + 1)); done; }")


def pattern(disk, number):
    line = f"{disk} {number}\n".encode()
    size = number * 7919 % 61 * 1024 + 700
    return (line * (size // len(line) + 1))[:size]


def run(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class Disks:
    """The images, the file systems in them, and what the guest has been promised of them."""

    def __init__(self, folder):
        self.folder = folder
        self.acked = {disk: [] for disk in DISKS}

    def path(self, disk):
        return f"{self.folder}/{disk}.{DISKS[disk]}"

    def make(self):
        for disk, form in DISKS.items():
            raw = f"{self.folder}/new.raw"
            with open(raw, "wb") as f:
                f.truncate(96 << 20)
            subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", raw], check=True)
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", form, raw, self.path(disk)], check=True)
            self.acked[disk] = []

    def xml(self):
        return "".join(f"<disk type='file'><driver type='{form}'/><source file='{self.path(disk)}'/>"
                       f"<target dev='xvd{disk}'/></disk>" for disk, form in DISKS.items())

    def learn(self, log):
        with open(log, errors="replace") as f:
            for disk, number in re.findall(r"^acked (\w) (\d+)\r?$", f.read(), re.M):
                self.acked[disk].append(int(number))

    def check(self, disk, what):
        raw, form = f"{self.folder}/check.raw", DISKS[disk]
        if form != "raw":
            checked = run("qemu-img", "check", "-f", form, self.path(disk))
            tap.ok(checked.returncode in (0, 3), f"{what}: {form} has no errors", checked.stdout)  # 3: leaked clusters
        subprocess.run(["qemu-img", "convert", "-f", form, "-O", "raw", self.path(disk), raw], check=True)
        replay, check = run("e2fsck", "-p", raw), run("e2fsck", "-f", "-n", raw)
        tap.ok(replay.returncode in (0, 1) and check.returncode == 0, f"{what}: the file system of the {form} disk is whole",
               replay.stdout + check.stdout)
        files = f"{self.folder}/files"
        os.mkdir(files)
        run("debugfs", "-R", f"rdump / {files}", raw)
        bad = [number for number in self.acked[disk] if not self.has_pattern(f"{files}/f{number}", disk, number)]
        tap.equal(bad, [], f"{what}: all {len(self.acked[disk])} files of the {form} disk that were synced are there")
        shutil.rmtree(files)

    @staticmethod
    def has_pattern(path, disk, number):
        try:
            with open(path, "rb") as f:
                return f.read() == pattern(disk, number)
        except OSError:
            return False


def kill(pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(alive, pids)), 20)


def kill_daemon(host):
    host.stop(signal.SIGKILL)


def kill_all(host):
    """Within moments of each other."""
    pids = host.hv_pids() + host.processes("qemu-storage-daemon")
    random.shuffle(pids)
    host.daemon.kill()
    kill(pids)
    host.daemon.wait()


# What is done, and whether the guest goes on after it.
KINDS = {
    "the hypervisor is killed": (lambda host: kill(host.hv_pids()), False),
    "domusd is killed": (kill_daemon, True),
    "the storage daemon is killed": (lambda host: kill(host.processes("qemu-storage-daemon")), True),
    "all are killed": (kill_all, False),
    "the power is cut": (lambda host: host.virsh("destroy g1"), False),
}


def run_guest(host, disks, what, log):
    act, goes_on = KINDS[what]
    first = max(sum(disks.acked.values(), [0])) + 1000
    tap.equal(host.virsh("start g1").status, 0, f"{what}: the domain starts before")
    with host.console("g1") as console:
        console.prompt()
        mounts = " && ".join(f"mkdir /{disk} && mount -t ext4 /dev/xvd{disk} /{disk}" for disk in DISKS)
        console.run(f"dmesg -n 1; {mounts}; {WRITER}")
        console.send("".join(f"w {disk} {first} & " for disk in DISKS) + "\n")
        tap.ok(console.expect(rf"acked a {first + 3}\b") and console.expect(rf"acked b {first + 3}\b"),
               f"{what}: the guest writes", console.text[-2000:])
        time.sleep(random.uniform(0, 2))
        act(host)
        if host.daemon.poll() is not None:
            host.start()
        if goes_on:
            wait_goes_on(host, log, what)
            time.sleep(random.uniform(0, 2))
            kill(host.hv_pids())
    tap.ok(wait_for(lambda: host.state("g1") == "shut off", 30), f"{what}: the domain has ended")
    tap.ok(wait_for(lambda: not host.processes("qemu-storage-daemon"), 20), f"{what}: no storage daemon is left")


def is_waiting(host):
    return host.virsh("domstate g1 --reason").out.split() == ["paused", "(I/O", "error)"]


def wait_goes_on(host, log, what):
    """The guest writes on; or it could not, or it waits, as what it wrote may be lost."""
    def text():
        with open(log, errors="replace") as f:
            return f.read()

    def goes_on():
        now = text()
        return all(f"acked {disk}" in now[start:] or f"{disk} fails" in now for disk in DISKS) or is_waiting(host)

    start = len(text())
    tap.ok(wait_for(goes_on, 60), f"{what}: the guest goes on", text()[-1000:] + host.virsh("domstate g1 --reason").out)


def check_flush(host, disks):
    """A storage daemon takes with it what it had not made safe: the guest's next flush does not come back as if it had."""
    disks.make()
    tap.equal(host.virsh("start g1").status, 0, "the domain starts")
    with host.console("g1") as console:
        console.prompt()
        console.run("dmesg -n 1")
        write = "dd if=/dev/urandom of=/dev/xvdb bs=64k oflag=direct seek=200 2>/dev/null; echo $?"
        tap.ok(console.run(write.replace("seek", "count=40 seek")).strip().endswith("0"), "the guest writes and flushes nothing")
        before = len(host.log())
        kill(host.processes("qemu-storage-daemon"))
        tap.ok(wait_for(lambda: "disk 'xvdb' of domain 'g1' is served again" in host.log()[before:], 30),
               "there is another storage daemon")
        console.send("dd if=/dev/zero of=/dev/xvdb bs=4k count=1 conv=fsync 2>/dev/null; echo syn''ced $?\n")
        tap.ok(wait_for(lambda: is_waiting(host), 30), "the next fsync pauses the domain")
        tap.contains(host.virsh("domblkerror g1").out, "xvdb: unspecified error", "domblkerror")
        tap.equal(host.virsh("resume g1").status, 0, "whoever resumes it knows")
        tap.ok(console.expect("synced 0", 30), "and then it goes on", console.text[-500:])
    host.virsh("destroy g1")


random.seed(os.environ.get("KILLS_SEED", "domus"))
with Host() as host:
    disks, log = Disks(host.root), f"{host.root}/console.log"
    devices = f"{disks.xml()}<console type='pty'><log file='{log}'/></console>"
    xml = host.xml(name="g1", cmdline="console=hvc0 guest.modules").replace("<console type='pty'/>", devices)
    tap.equal(host.virsh_args("define", "--validate", host.write_xml(xml)).status, 0, "define")
    for number in range(int(os.environ.get("KILLS_ROUNDS", len(KINDS)))):
        if number % NEW_DISKS_AFTER == 0:
            disks.make()
        kind = list(KINDS)[number % len(KINDS)]
        run_guest(host, disks, kind, log)
        disks.learn(log)
        for disk in DISKS:
            disks.check(disk, kind)
    check_flush(host, disks)
tap.done()
