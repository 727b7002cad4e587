#!/usr/bin/python3
"""migrate.py: live migration, save and restore by domusd and by libvirt's own daemon with its QEMU driver (TCG), side by side.

Two hosts of each kind on this machine, the same kernel, ramdisk and bridge, stock virsh. The guest tells each millisecond that it
runs (tests/lib/worker.c); "stop" is the longest silence of it during a migration, stamped by the host's kernel. "sent" is what
went over the loopback. They run in turn, round after round; figures are medians. As root, in namespaces of its own.
Settings, from the environment:
  MIGRATE_ROUNDS   rounds (5)
  MIGRATE_VCPUS    of the guest (1)
  MIGRATE_ONLY     domus, or qemu (both)
  MIGRATE_RATES    MB/s that the guest writes, idle is 0 ("0 50 200")
"""
import ctypes
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
import netns
from host import Host, guest_files, wait_for
from libvirt_daemon import DRIVERS, enter_namespaces
from worker import HOST_IP, Worker, make_ramdisk

MEMORY_MIB, FILL_MIB, DIRTY_MIB = 512, 64, 256
BRIDGE, MAC = "domus0", "00:16:3e:12:34:60"
ROUNDS, VCPUS = int(os.environ.get("MIGRATE_ROUNDS", "5")), int(os.environ.get("MIGRATE_VCPUS", "1"))
RATES = [int(rate) for rate in os.environ.get("MIGRATE_RATES", "0 50 200").split()]
SETTLE_SECONDS = 2
PR_SET_CHILD_SUBREAPER = 36
# Nothing that would have to be cleaned up in the machine's control groups; no daemon beside it for logs.
QEMU_CONF = ('user = "root"\ngroup = "root"\ncgroup_controllers = []\nnamespaces = []\nsecurity_driver = "none"\n'
             'stdio_handler = "file"\n')
QEMU_XML = """<domain type='qemu'>
  <name>g1</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>{vcpus}</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel><initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 guest.modules net.ifnames=0{line}</cmdline></os>
  <features><acpi/></features>
  <devices>
    <interface type='bridge'><mac address='{mac}'/><source bridge='{bridge}'/><model type='virtio'/></interface>
    <serial type='pty'/>
    <memballoon model='none'/>
  </devices>
</domain>"""


# ---- libvirt's daemon, in namespaces of its own

def run_libvirtd(folder, number):
    """The process that `migrate.py --daemon` is. Its children's children are its own: libvirt takes a zombie for alive."""
    subprocess.run(["hostname", f"bench{number}"], check=True)
    for place in ("/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"):
        own = folder + place
        os.makedirs(own)
        os.makedirs(place, exist_ok=True)
        subprocess.run(["mount", "--bind", own, place], check=True)
    for name, line in (("passwd", "libvirt-qemu:x:64055:64055::/nonexistent:/bin/false\n"), ("group", "libvirt-qemu:x:64055:\n"),
                       ("hosts", f"127.0.1.1 bench{number}\n")):
        with open(f"/etc/{name}") as there, open(f"{folder}/{name}", "w") as ours:
            ours.write(there.read() + line)
        subprocess.run(["mount", "--bind", f"{folder}/{name}", f"/etc/{name}"], check=True)
    os.makedirs(f"{folder}/drivers")
    shutil.copy(f"{DRIVERS}/libvirt_driver_qemu.so", f"{folder}/drivers")
    subprocess.run(["mount", "--bind", f"{folder}/drivers", DRIVERS], check=True)
    with open("/etc/libvirt/qemu.conf", "w") as f:
        f.write(QEMU_CONF)
    with open("/etc/libvirt/libvirtd.conf", "w") as f:
        f.write(f'host_uuid = "00000000-1111-2222-3333-44444444444{number}"\nauth_unix_rw = "none"\n')
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    daemon = os.spawnvp(os.P_NOWAIT, "libvirtd", ["libvirtd", "-p", "/run/libvirt/pid"])
    signal.signal(signal.SIGTERM, lambda *_: os.kill(daemon, signal.SIGTERM))
    while os.wait()[0] != daemon:
        pass


class Libvirtd:
    def __init__(self, number):
        self.folder = tempfile.mkdtemp(prefix="domus-bench-libvirt-", dir="/var/tmp")
        self.uri = f"qemu+unix:///system?socket={self.folder}/run/libvirt/libvirt-sock"
        log = open(f"{self.folder}/log", "w")
        self.process = subprocess.Popen(
            ["unshare", "-m", "-u", "--propagation", "private", sys.executable, os.path.abspath(__file__), "--daemon",
             self.folder, str(number)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        if not wait_for(lambda: virsh(self.uri, "uri").returncode == 0, 60):
            with open(f"{self.folder}/log") as f:
                sys.exit("libvirtd does not answer:\n" + f.read())

    def close(self):
        virsh(self.uri, "destroy", "g1")
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


# ---- what is measured

def virsh(uri, *args):
    return subprocess.run(["virsh", "-q", "-c", uri, *args], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def must(uri, *args):
    """How many seconds it took."""
    start = time.monotonic()
    result = virsh(uri, *args)
    if result.returncode:
        sys.exit(f"{' '.join(args)}: {result.stdout}")
    return time.monotonic() - start


class Subject:
    """One kind of host, two of it, and a guest that goes from one to the other."""

    def __init__(self, name, hosts, xml, folder):
        self.name, self.hosts, self.folder, self.figures = name, hosts, folder, {}
        self.path = f"{folder}/{name}.xml"
        with open(self.path, "w") as f:
            f.write(xml)

    def note(self, row, unit, value):
        self.figures.setdefault(row, (unit, []))[1].append(value)

    def boot(self, worker):
        must(self.hosts[0].uri, "create", self.path)
        if not worker.wait_for_tick():
            sys.exit(f"{self.name}: the guest does not work")
        time.sleep(SETTLE_SECONDS)

    def check(self, worker, what):
        result = worker.check()
        if result != (0, 0):
            print(f"{self.name}: {what}: " + (f"{result[0]} pages are WRONG, the clock went back {result[1]} times" if result
                                             else "the guest does not answer"), file=sys.stderr)
            self.note("broken guests", "guests", 1)
        return result is not None

    def migrate(self, worker, rate):
        what = f"{rate} MB/s" if rate else "idle"
        source, target = self.hosts
        worker.ask(f"rate {rate}")
        worker.reset()
        time.sleep(SETTLE_SECONDS)
        self.note(f"{what}: longest silence without", "ms", worker.gap_ns / 1e6)
        sent = lo_bytes()
        worker.reset()
        took = must(source.uri, "migrate", "--live", "g1", target.uri, "--migrateuri", "tcp://127.0.0.1")
        alive = worker.wait_for_tick(10)
        time.sleep(0.3)
        self.hosts.reverse()
        if alive:
            self.note(f"{what}: migration", "ms", took * 1000)
            self.note(f"{what}: stop", "ms", worker.gap_ns / 1e6)
            self.note(f"{what}: sent", "MB", (lo_bytes() - sent) / 1e6)
        return self.check(worker, what)

    def save(self, worker):
        uri, path = self.hosts[0].uri, f"{self.folder}/{self.name}.save"
        worker.ask("rate 0")
        self.note("save", "ms", 1000 * must(uri, "save", "g1", path))
        worker.reset()
        start = time.time()
        self.note("restore, virsh", "ms", 1000 * must(uri, "restore", path))
        if not worker.first_ns and not worker.wait_for_tick(10):
            sys.exit(f"{self.name}: the guest does not come back")
        self.note("restore, until it works", "ms", 1000 * (worker.first_ns / 1e9 - start))
        os.unlink(path)
        return self.check(worker, "restore")

    def round(self, worker):
        alive = False
        for rate in RATES:
            if not alive:
                virsh(self.hosts[0].uri, "destroy", "g1")
                self.boot(worker)
            alive = self.migrate(worker, rate)
        if alive:
            self.save(worker)
        must(self.hosts[0].uri, "destroy", "g1")


def lo_bytes():
    with open("/sys/class/net/lo/statistics/tx_bytes") as f:
        return int(f.read())


# ---- all of it

def domus(folder, initrd):
    host = Host(options=())
    nic = f"<interface type='bridge'><mac address='{MAC}'/><source bridge='{BRIDGE}'/></interface>"
    xml = host.xml(name="g1", memory_mib=MEMORY_MIB, vcpus=VCPUS, cmdline="console=hvc0 guest.modules", initrd=initrd)
    return Subject("domus", [host, Host(options=())], xml.replace("<console", nic + "<console", 1), folder)


def qemu(folder, initrd):
    line = " tsc=reliable" if VCPUS > 1 else ""
    xml = QEMU_XML.format(memory=MEMORY_MIB, vcpus=VCPUS, kernel=f"{guest_files()}/vmlinuz", initrd=initrd, mac=MAC, bridge=BRIDGE,
                          line=line)
    return Subject("qemu", [Libvirtd(1), Libvirtd(2)], xml, folder)


def report(subjects):
    """A line for each row: the median of each, and how many times less ours is."""
    print(f"{'':36}{'':>8}" + "".join(f"{s.name:>12}" for s in subjects) + ("       ratio" if len(subjects) > 1 else ""))
    for name in dict.fromkeys(name for s in subjects for name in s.figures):
        cells = [(s.figures[name][1] if name in s.figures else []) for s in subjects]
        unit = next(s.figures[name][0] for s in subjects if name in s.figures)
        values = [sum(c) if name == "broken guests" else statistics.median(c) if c else None for c in cells]
        line = "".join("           -" if v is None else f"{v:12.1f}" for v in values)
        ratio = f"{values[1] / values[0]:12.2f}" if len(values) > 1 and all(values) else ""
        print(f"{name:36}{unit:>8}{line}{ratio}")


def main():
    only = os.environ.get("MIGRATE_ONLY", "")
    # Made, if they are not there, while there is still a way to Debian's archive.
    bases = {"domus": guest_files()}
    if only != "domus":
        bases["qemu"] = subprocess.run([f"{HERE}/io-files.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    enter_namespaces(__file__)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)) # what was started is ended
    with tempfile.TemporaryDirectory(prefix="domus-migrate-", dir="/var/tmp") as folder:
        netns.make_bridge(BRIDGE, [f"{HOST_IP}/24"])
        worker = Worker()
        subjects = []
        try:
            for name, make, shell in (("domus", domus, "hvc0"), ("qemu", qemu, "ttyS0")):
                if only in ("", name):
                    subjects.append(make(folder, make_ramdisk(folder, f"{bases[name]}/initrd.gz", shell, VCPUS, FILL_MIB,
                                                              DIRTY_MIB, f"{name}.gz")))
            for number in range(ROUNDS):
                for subject in subjects:
                    subject.round(worker)
                    print(f"round {number + 1} of {ROUNDS}: {subject.name} done", file=sys.stderr, flush=True)
        finally:
            for subject in subjects:
                for host in subject.hosts:
                    host.close()
            report(subjects)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--daemon"]:
        run_libvirtd(sys.argv[2], sys.argv[3])
    else:
        main()
