#!/usr/bin/python3
"""virt-install, which reads our capabilities, makes a PVH guest that boots."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, guest_files, program, wait_for

with Host() as host:
    files = guest_files()
    result = host.client("virt-install", "--connect", host.uri, "--virt-type", "xen", "--name", "vi1",
                         "--memory", "256", "--vcpus", "1", "--disk", "none", "--network", "none",
                         "--graphics", "none", "--osinfo", "detect=off,require=off", "--import", "--noautoconsole",
                         "--boot", f"kernel={files}/vmlinuz,initrd={files}/initrd.gz,kernel_args=console=hvc0")
    tap.equal(result.status, 0, f"virt-install: {result.err}")
    xml = host.virsh("dumpxml vi1").out
    tap.contains(xml, "<type arch='x86_64' machine='xenpvh'>xenpvh</type>", "it chose PVH by itself")
    tap.contains(xml, f"<emulator>{os.path.realpath(program('domus-hv'))}</emulator>", "and our hypervisor")
    with host.console("vi1") as console:
        tap.ok(console.prompt(), "the guest boots", console.text[-3000:])
    tap.equal(host.virsh("shutdown vi1").status, 0, "shutdown")
    tap.ok(wait_for(lambda: host.state("vi1") == "shut off", 120), "it powers off and is kept")
    tap.equal(host.virsh("undefine vi1").status, 0, "undefine")
tap.done()
