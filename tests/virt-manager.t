#!/usr/bin/python3
"""virt-manager as a person uses it, on a display that nobody looks at."""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from libvirt_daemon import LibvirtDaemon, enter_namespaces
enter_namespaces(__file__)
from desktop import Desktop, missing
from host import Host, wait_for
from image import make_image

NETWORK = """<network><name>default</name><forward mode='nat'/><bridge name='virbr7'/><ip address='192.0.2.1' netmask='255.255.255.0'>
<dhcp><range start='192.0.2.10' end='192.0.2.99'/></dhcp></ip></network>"""


MANAGER, WINDOW = "^Virtual Machine Manager$", "^linux2022 on"


def create(host, desktop):
    """The wizard: an image with a kernel in it, a network, less memory than it proposes."""
    desktop.press("push button", "^New$", MANAGER)
    desktop.press("radio button", "Import existing")
    desktop.press("push button", "Forward")
    desktop.type("text", "import-entry", f"{host.root}/debian.img")
    desktop.type("text", "oslist-entry", "generic")
    desktop.click("table cell", "Generic Linux 2022")
    desktop.press("push button", "Forward")
    desktop.set("spin button", "^$", 256)
    desktop.press("push button", "Forward")
    desktop.press("push button", "Finish")
    desktop.find("frame", WINDOW, seconds=120)
    xml = host.virsh("dumpxml linux2022").out
    tap.ok("<type arch='x86_64' machine='xenpvh'>" in xml and "network='default'" in xml and "<graphics type='vnc'" in xml,
           "the wizard makes a PVH guest with a disk, a network and a screen", xml)


def choose(desktop, console):
    desktop.press("menu", "View", WINDOW)
    desktop.press("menu", "Consoles", WINDOW)
    desktop.press("radio menu item", console, WINDOW)


def consoles(host, desktop, log):
    tap.ok(wait_for(lambda: "Viewer connected" in log(), 60), "its screen is shown", log()[-2000:])
    choose(desktop, "Text Console 1")
    tap.ok(wait_for(lambda: "guest: up" in desktop.words("terminal", "Serial Terminal"), 120), "and its text console, where it is up",
           desktop.text())
    choose(desktop, "Graphical Console VNC")
    desktop.picture(f"{host.root}/virt-manager.png")


def edit(host, desktop):
    desktop.press("radio button", "Details", WINDOW)
    desktop.click("table cell", "^Memory$", WINDOW)
    desktop.set("spin button", "^Memory Select", 200, WINDOW)
    desktop.press("push button", "config-apply", WINDOW)
    tap.ok(wait_for(lambda: "204800" in host.virsh("dommemstat linux2022").out, 30, 0.5), "its memory is changed while it runs",
           host.virsh("dommemstat linux2022"))
    desktop.press("menu", "^File$", WINDOW)
    desktop.press("menu item", "^Close$", WINDOW)


def run_and_migrate(host, other, desktop):
    desktop.click("table cell", "^g1", MANAGER)
    desktop.press("push button", "^Run$", MANAGER)
    tap.ok(wait_for(lambda: host.state("g1") == "running", 60, 0.5), "another one is started by its button")
    desktop.click("table cell", "^g1", MANAGER)
    desktop.press("push button", "^Open$", MANAGER)
    desktop.run("virt-manager", "--debug", "--connect", other.uri, log="second")
    tap.ok(wait_for(lambda: desktop.count("table cell", "^Xen") == 2, 60, 0.5), "a second host is connected to", desktop.text())
    desktop.press("menu", "Virtual Machine", "^g1 on")
    desktop.press("menu item", "Migrate", "^g1 on")
    desktop.type("text", "address-text", "127.0.0.1")
    desktop.press("push button", "^Migrate$", "^Migrate")
    moved = wait_for(lambda: other.state("g1") == "running" and "g1" not in host.virsh("list --all --name").out.split(), 90, 0.5)
    tap.ok(moved, "the guest is migrated to it, for good", desktop.text()[-2000:])


def main():
    lacking = missing() or next((name for name in ("virt-manager", "libvirtd") if not shutil.which(name)), None)
    if lacking:
        tap.skip_all(f"there is no {lacking}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with LibvirtDaemon("network", "network", "storage", "interface", "nodedev") as daemon, Host(start=False) as host, Host() as other:
        os.makedirs(f"{host.root}/etc/domus")
        with open(f"{host.root}/etc/domus/domusd.conf", "w") as f:
            f.write("[relay]\nsockets = /run/libvirt\n")
        host.start()
        # As a user has it: virt-manager takes a host that is reached by a socket's path for another one.
        os.symlink(f"{host.root}/run/libvirt/virtxend-sock", "/run/libvirt/virtxend-sock")
        host.uri = "xen:///system"
        daemon.define("net", NETWORK, start=True)
        make_image(f"{host.root}/debian.img", "console=tty0 console=hvc0 guest.modules")
        host.define(name="g1")
        with Desktop(host.root) as desktop:
            desktop.run("virt-manager", "--debug", "--no-fork", "--connect", host.uri)
            tap.ok(desktop.find("table cell", "g1", MANAGER), "virt-manager connects, and lists a domain")
            create(host, desktop)
            consoles(host, desktop, lambda: desktop.log("virt-manager"))
            edit(host, desktop)
            run_and_migrate(host, other, desktop)
    tap.done()


try:
    main()
except LookupError as e:
    tap.ok(False, "what is to be pressed is there", e)
    tap.done()
