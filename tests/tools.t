#!/usr/bin/python3
"""Programs that manage libvirt hosts find here what they expect: prometheus-libvirt-exporter, Pacemaker's agent
VirtualDomain, libvirt-dbus, by which Cockpit sees a host, and virt-manager on a display that nobody looks at."""
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for
from remote import free_port

EXPORTER = shutil.which("prometheus-libvirt-exporter")
AGENT = "/usr/lib/ocf/resource.d/heartbeat/VirtualDomain"


def scrape(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as page:
            return page.read().decode()
    except OSError:
        return None


def exporter(host):
    if not EXPORTER:
        tap.skip("no prometheus-libvirt-exporter here")
        return
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen([EXPORTER, f"--web.listen-address={address}", f"--libvirt.uri={host.uri}"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    text = wait_for(lambda: scrape(f"http://{address}/metrics"), 30) or ""
    process.terminate()
    process.wait()
    found = dict(re.findall(r'^(libvirt_\w+)(?:\{domain="g1",[^}]*\})? (\S+)$', text, re.M))
    tap.equal((found.get("libvirt_up"), found.get("libvirt_domains_number"), found.get("libvirt_domain_state_code")),
              ("1", "1", "3"), "the exporter tells how many domains there are, and their states")
    tap.equal(found.get("libvirt_domain_info_maximum_memory_bytes"), "2.68435456e+08", "and what they have")


def pacemaker(host):
    if not os.path.exists(AGENT):
        tap.skip("no agent VirtualDomain (resource-agents) here")
        return
    env = dict(os.environ, OCF_ROOT="/usr/lib/ocf", OCF_RESOURCE_INSTANCE="ha", HA_RSCTMP=host.root,
               OCF_RESKEY_config=host.write_xml(host.xml(name="ha"), "ha.xml"), OCF_RESKEY_hypervisor=host.uri,
               OCF_RESKEY_force_stop="1", OCF_RESKEY_CRM_meta_timeout="60000", OCF_RESKEY_CRM_meta_interval="0",
               OCF_RESKEY_autoset_utilization_cpu="false", OCF_RESKEY_autoset_utilization_host_memory="false",
               OCF_RESKEY_autoset_utilization_hv_memory="false")
    # 7: not running. Source: OCF resource agent API.
    for operation, status in (("validate-all", 0), ("monitor", 7), ("start", 0), ("monitor", 0), ("stop", 0), ("monitor", 7)):
        result = subprocess.run([AGENT, operation], env=env, capture_output=True, text=True, timeout=120)
        tap.ok(result.returncode == status, f"the agent's {operation} gives {status}", result)


class Dbus:
    """libvirt-dbus on a bus of its own, with this host where it looks for the system's."""
    CONFIG = """<busconfig><type>system</type><listen>unix:path=%s</listen><policy context="default">
        <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"""

    def __init__(self, host):
        path, config = f"{host.root}/bus", host.write_xml(self.CONFIG % f"{host.root}/bus", "bus.conf")
        self.env = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={path}")
        os.makedirs("/run/libvirt", exist_ok=True)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.processes = [subprocess.Popen(["dbus-daemon", "--config-file", config, "--nofork"], **quiet)]
        wait_for(lambda: os.path.exists(path))
        self.processes.append(subprocess.Popen(
            ["unshare", "-m", "sh", "-c", f"mount --bind {host.root}/run/libvirt /run/libvirt && exec libvirt-dbus --system"],
            env=self.env, **quiet))

    def call(self, path, method, *args):
        argv = ["dbus-send", "--system", "--print-reply", "--reply-timeout=60000", "--dest=org.libvirt", path, method, *args]
        return subprocess.run(argv, env=self.env, capture_output=True, text=True, timeout=120).stdout

    def close(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()


def dbus(host):
    if not all(map(shutil.which, ("libvirt-dbus", "dbus-daemon", "dbus-send"))) or os.geteuid() != 0:
        tap.skip("no libvirt-dbus, dbus-daemon or dbus-send here, or nobody who may mount")
        return
    bus = Dbus(host)
    found = wait_for(lambda: re.search(r'object path "(/org/libvirt/Xen/domain/\w+)"',
                                       bus.call("/org/libvirt/Xen", "org.libvirt.Connect.ListDomains", "uint32:0")), 30)
    if tap.ok(found, "libvirt-dbus lists the domain"):
        path = found.group(1)
        tap.ok(re.search(r'"Name"\s+variant\s+variant\s+string "g1"',
                         bus.call(path, "org.freedesktop.DBus.Properties.GetAll", "string:org.libvirt.Domain")), "with its properties")
        tap.contains(bus.call(path, "org.libvirt.Domain.GetXMLDesc", "uint32:0"), "<name>g1</name>", "its document")
        tap.contains(bus.call(path, "org.libvirt.Domain.GetStats", "uint32:0", "uint32:0"), "state.state", "and statistics")
        bus.call(path, "org.libvirt.Domain.Resume")
        tap.equal(host.state("g1"), "running", "it resumes it")
        bus.call(path, "org.libvirt.Domain.Suspend")
        tap.equal(host.state("g1"), "paused", "and suspends it")
    bus.close()


def virt_manager(host):
    if not all(map(shutil.which, ("virt-manager", "Xvfb", "dbus-run-session"))):
        tap.skip("no virt-manager, Xvfb or dbus-run-session here")
        return
    read_end, write_end = os.pipe()
    display = subprocess.Popen(["Xvfb", "-displayfd", str(write_end), "-screen", "0", "1024x740x24", "-nolisten", "tcp"],
                               pass_fds=[write_end], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write_end)
    with os.fdopen(read_end) as number:
        env = dict(os.environ, DISPLAY=f":{number.readline().strip()}", HOME=host.root, GDK_BACKEND="x11", NO_AT_BRIDGE="1")
    log = f"{host.root}/virt-manager.log"
    with open(log, "w") as out:
        manager = subprocess.Popen(["dbus-run-session", "--", "virt-manager", "--debug", "--no-fork", "--connect", host.uri,
                                    "--show-domain-console", "g1"], env=env, stdout=out, stderr=out, start_new_session=True)

    def text():
        with open(log) as f:
            return f.read()
    tap.ok(wait_for(lambda: "Opening console stream" in text(), 60), "virt-manager connects and opens a domain's console",
           text()[-3000:])
    tap.contains(text(), "domain=g1 status=Running added", "it lists the domain")
    tap.ok(" ERROR (" not in text(), "and complains of nothing but that nobody has networks and storage here", text()[-3000:])
    os.killpg(manager.pid, signal.SIGTERM)
    manager.wait()
    display.terminate()
    display.wait()


def main():
    with Host() as host:
        host.define(name="g1")
        host.virsh("start --paused g1")
        exporter(host)
        pacemaker(host)
        dbus(host)
        host.virsh("resume g1")
        virt_manager(host)
    tap.done()


main()
