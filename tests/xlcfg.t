#!/usr/bin/python3
"""xl's configuration files: converted by stock virsh, and taken as they are by domsh."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import TOP, Host, guest_files, program


def config(host, **changes):
    files = guest_files()
    values = {"name": "'g1'", "type": "'pvh'", "memory": 256, "vcpus": 2, "kernel": f"'{files}/vmlinuz'",
              "ramdisk": f"'{files}/initrd.gz'", "extra": "'console=hvc0 guest.modules'", "disk": f"[ '{host.root}/d.img,raw,xvda,rw' ]"}
    values.update(changes)
    path = host.root + "/guest.cfg"
    with open(path, "w") as f:
        f.writelines(f"{key} = {value}\n" for key, value in values.items() if value is not None)
    return path


def domsh(host, *words):
    return host.client(program("domsh"), "-c", host.uri, *words)


with Host() as host:
    with open(host.root + "/d.img", "wb") as f:
        f.truncate(64 << 20)
    path = config(host)
    result = host.virsh_args("domxml-from-native", "xen-xl", path)
    tap.ok(result.status == 0, "virsh domxml-from-native", result)
    tap.equal(host.virsh_args("define", "--validate", host.write_xml(result.out)).status, 0, "what it prints is a definition")
    back = host.virsh_args("domxml-to-native", "xen-xl", "--domain", "g1")
    tap.ok(back.status == 0 and "type = \"pvh\"" in back.out, "virsh domxml-to-native", back)
    with open(host.root + "/back.cfg", "w") as f:
        f.write(back.out)
    again = host.virsh_args("domxml-from-native", "xen-xl", host.root + "/back.cfg")
    tap.equal(again.out, result.out, "which gives the same domain")
    host.virsh("undefine g1")

    started = domsh(host, "create", path)
    tap.ok(started.status == 0, "domsh create takes the file", started)
    with host.console("g1") as console:
        if tap.ok(console.expect(r"guest: up") and console.prompt(), "and it boots", console.text[-3000:]):
            tap.equal((console.run("cat /sys/block/xvda/size") or "").strip(), str((64 << 20) // 512), "with its disk")
    live = host.virsh_args("domxml-to-native", "xen-xl", "--domain", "g1")
    tap.ok(live.status == 0 and "/d.img" in live.out, "a running domain as a file", live)
    host.virsh("destroy g1")

    for what, changes, message in (
            ("a PV guest", {"type": None}, "paravirtual guests are not supported"),
            ("a PCI device", {"pci": "[ '0000:00:02.0' ]"}, "pci = "),
            ("no list", {"disk": "'x'"}, "disk = \"x\": is not a list"),
            ("no file at all", {"name": "= ="}, "cannot read the configuration: xl.cfg")):
        result = domsh(host, "define", config(host, **changes))
        tap.ok(result.status == 1 and message in result.err, f"{what}: refused by name", result)
    result = host.virsh_args("domxml-from-native", "xen-sxpr", path)
    tap.ok(result.status == 1 and "unsupported config type xen-sxpr" in result.err, "another format", result)
    tap.equal(host.virsh("list --all --name").out.strip(), "", "nothing is left")

    # The example, as far as it goes without what it names.
    result = host.virsh_args("domxml-from-native", "xen-xl", os.path.join(TOP, "examples", "pvh.cfg"))
    tap.ok(result.status == 0 and "<bootloader>pygrub</bootloader>" in result.out, "examples/pvh.cfg", result)
tap.done()
