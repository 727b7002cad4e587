#!/usr/bin/python3
"""The main job: stock virsh defines, starts, uses and shuts down Debian's kernel on our hypervisor."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for

with Host() as host:
    tap.equal(host.define(name="g1").status, 0, "define")
    result = host.virsh("start g1")
    tap.equal(result.status, 0, f"start: {result}")
    with host.console("g1") as console:
        up = console.expect(r"guest: up after ([\d.]+) s")
        if not tap.ok(up, "the kernel boots to init", console.text[-3000:]):
            tap.done()
        tap.note(f"boot to init: {up.group(1)} s")
        tap.ok(console.prompt(), "a shell prompts on the console")
        tap.contains(console.run("cat /sys/hypervisor/type") or "", "xen", "the guest sees Xen")
        tap.contains(console.run("cat /sys/hypervisor/guest_type") or "", "PVH", "of kind PVH")
        tap.contains(console.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource") or "",
                     "xen", "and takes its clock from it")
        kernel_log = console.run("dmesg") or ""
        # On AMD Linux looks for a PC's timer before it takes the frequency from Xen, as in Xen's own PVH guests.
        bad = [line for line in kernel_log.splitlines()
               if re.search(r"fail|warn|bug:|oops|unchecked|unexpected|call trace", line, re.I)
               and not line.endswith("Fast TSC calibration failed")]
        tap.equal(bad, [], "the kernel log has no complaint")
        console.send("\x1d")
        tap.equal(console.wait(), 0, "Ctrl-] leaves the console")
    tap.contains(host.virsh("list").out, "running", "list shows it running")
    info = host.virsh("dominfo g1").out
    tap.ok(re.search(r"Max memory:\s+262144 KiB", info), "dominfo tells its memory", info)
    tap.ok(re.search(r"CPU\(s\):\s+1\b", info), "and its vCPUs", info)
    tap.equal(host.virsh("shutdown g1").status, 0, "shutdown")
    tap.equal(wait_for(lambda: host.state("g1") == "shut off", 120), True, "the guest powers off")
    tap.contains(host.virsh("domstate --reason g1").out, "shut off (shutdown)", "for the right reason")
    tap.equal(host.virsh("undefine g1").status, 0, "undefine")
    tap.equal(host.virsh("list --all --name").out.split(), [], "nothing is left")
tap.done()
