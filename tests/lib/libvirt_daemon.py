"""libvirt's own daemon with some of its drivers, in namespaces of the test's own: nothing of the host is touched."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

from host import wait_for

DRIVERS = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver"
# The daemons of one driver each; Debian 12 has none of them.
MODULAR = all(shutil.which(f"virt{driver}d") for driver in ("network", "storage", "nodedev", "interface", "secret", "nwfilter"))


def skip(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


def enter_namespaces(path):
    """Starts the test at @path anew with network, mounts and /sys of its own."""
    if os.environ.get("DOMUS_TEST_NAMESPACES"):
        subprocess.run("mount -t sysfs sysfs /sys", shell=True, check=True)
        return
    if not shutil.which("libvirtd"):
        skip("there is no libvirtd")
    if subprocess.run(["unshare", "-m", "-n", "true"], stderr=subprocess.DEVNULL).returncode:
        skip("no namespaces can be made here")
    os.environ["DOMUS_TEST_NAMESPACES"] = "1"
    os.execvp("unshare", ["unshare", "-m", "-n", sys.executable, os.path.abspath(path)])


class LibvirtDaemon:
    def __init__(self, scheme, *drivers, modular=False, on_disk=False, settings=()):
        self.uri = f"{scheme}:///system"
        self.folder = tempfile.mkdtemp(prefix="domus-test-libvirt-")
        self.schemes = drivers
        self.programs = [f"virt{driver}d" for driver in drivers] if modular else ["libvirtd"]
        for folder in ("/run/libvirt", "/etc/libvirt", "/var/lib/libvirt"):
            os.makedirs(folder, exist_ok=True)
            own = tempfile.mkdtemp(dir=self.folder)
            subprocess.run(["mount", "--bind", own, folder] if on_disk else ["mount", "-t", "tmpfs", "tmpfs", folder],
                           check=True)
        for name, text in settings:
            with open(f"/etc/libvirt/{name}", "w") as f:
                f.write(text)
        os.mkdir("/run/libvirt/drivers")
        for driver in drivers:
            shutil.copy(f"{DRIVERS}/libvirt_driver_{driver}.so", "/run/libvirt/drivers")
        subprocess.run(["mount", "--bind", "/run/libvirt/drivers", DRIVERS], check=True)
        self.start()

    def start(self):
        with open(f"{self.folder}/log", "ab") as log:
            self.processes = [subprocess.Popen([program, "-p", f"/run/libvirt/{program}.pid"], stdin=subprocess.DEVNULL,
                                               stdout=log, stderr=log) for program in self.programs]
        if not wait_for(lambda: all(self.virsh("-c", f"{scheme}:///system", "uri").returncode == 0 for scheme in self.schemes), 60):
            raise RuntimeError("libvirtd does not answer:\n" + self.log())

    def log(self):
        with open(f"{self.folder}/log", errors="replace") as f:
            return f.read()

    def virsh(self, *args):
        return subprocess.run(["virsh", "-q", "-c", self.uri, *args], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)

    def define(self, prefix, xml, start=False):
        """<network> and the like, by virsh's PREFIX-define and PREFIX-start."""
        path = f"{self.folder}/object.xml"
        with open(path, "w") as f:
            f.write(xml)
        result = self.virsh(f"{prefix}-define", path)
        if result.returncode == 0 and start:
            name = xml.split("<name>")[1].split("</name>")[0]
            result = self.virsh(f"{prefix}-start", name)
        if result.returncode:
            raise RuntimeError(result.stdout + self.log())

    def stop(self, with_signal=signal.SIGTERM):
        for process in self.processes:
            process.send_signal(with_signal)
            process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.processes[0].poll() is None:
            for name in self.virsh("net-list", "--name").stdout.split() if "network" in self.schemes else ():
                self.virsh("net-destroy", name)  # ends its dnsmasq
            self.stop()
        for folder in (DRIVERS, "/run/libvirt", "/etc/libvirt", "/var/lib/libvirt"):
            subprocess.run(["umount", "-l", folder])
        shutil.rmtree(self.folder, ignore_errors=True)
