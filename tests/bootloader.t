#!/usr/bin/python3
"""A kernel inside of the guest's own disk: stock pygrub finds it, as under Xen."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host
from image import convert, make_image


def xml(host, image, loader, name="g1", os_rest="", form="raw"):
    disk = (f"<disk type='file' device='disk'><driver name='qemu' type='{form}'/><source file='{image}'/>"
            "<target dev='xvda' bus='xen'/></disk></devices>")
    text = re.sub(r"\s*<(kernel|initrd|cmdline)>.*", "", host.xml(name=name))
    text = text.replace("</os>", os_rest + "</os>").replace("<os>", loader + "<os>")
    return text.replace("</devices>", disk)


def write_loader(path, *lines):
    with open(path, "w") as f:
        f.write("#!/bin/sh\nfor a; do case $a in --output=*) out=${a#*=};; --output-directory=*) dir=${a#*=};; esac; done\n")
        f.write("\n".join(lines) + "\n")
    os.chmod(path, 0o755)
    return f"<bootloader>{path}</bootloader>"


def boots(host, name, what):
    started = host.virsh(f"start {name}")
    if tap.ok(started.status == 0, f"{what}: starts", started):
        with host.console(name) as console:
            tap.ok(console.expect(r"guest: up"), f"{what}: boots", console.text[-3000:])
    host.virsh(f"destroy {name}")


def imported(host, good, empty):
    """As virt-manager and virt-install --import define it: no kernel and no boot loader, but an order of devices."""
    text = xml(host, good, "", name="g3", os_rest="<boot dev='cdrom'/><boot dev='hd'/>").replace("'xvda' bus='xen'", "'hda' bus='ide'")
    text = text.replace("</devices>", f"<disk type='file' device='cdrom'><source file='{empty}'/><target dev='hdc' bus='ide'/></disk></devices>")
    defined = host.virsh_args("define", host.write_xml(text))
    tap.ok(defined.status == 0, "a definition of boot devices alone", defined)
    dump = host.virsh("dumpxml g3").out
    tap.ok(re.search(r"<boot dev='cdrom'/>\s*<boot dev='hd'/>", dump) and "<bootloader>" not in dump, "which comes back", dump)
    boots(host, "g3", "the disk, where the CD-ROM has nothing")
    text = xml(host, empty, "", name="g4").replace("</devices>", f"<disk type='file'><source file='{good}'/><target dev='xvdb'/>"
                                                   "<boot order='1'/></disk></devices>")
    host.virsh_args("define", host.write_xml(text))
    boots(host, "g4", "the disk that is the first in order")
    text = text.replace("</os>", "<boot dev='hd'/></os>").replace("g4", "g5")
    both = host.virsh_args("define", host.write_xml(text))
    tap.ok(both.status == 1 and "per-device boot elements" in both.err, "both kinds of order: refused", both)


def other_formats(host, good, empty):
    """A storage daemon shows such an image as a file, to the loader alone."""
    if not os.path.exists("/dev/fuse") or subprocess.run(["unshare", "--user", "true"], stderr=subprocess.DEVNULL).returncode:
        tap.skip("no FUSE or no user namespaces here")
        return
    for form in ("qcow2", "vmdk"):
        image = convert(good, form)
        host.virsh_args("define", host.write_xml(xml(host, image, "", name=f"g-{form}", form=form)))
        boots(host, f"g-{form}", form)
    tap.ok("domus" not in open("/proc/mounts").read(), "nothing of it is mounted for others", open("/proc/mounts").read())
    image = convert(empty, "qcow2")
    for what, path, form, message in (("qcow2 without a kernel", image, "qcow2", "boot loader 'pygrub' of domain 'bad' failed: .+"),
                                      ("what is no qcow2", good, "qcow2", "boot loader 'pygrub' of domain 'bad' failed: .*qcow2")):
        host.virsh_args("define", host.write_xml(xml(host, path, "<bootloader>pygrub</bootloader>", name="bad", form=form)))
        result = host.virsh("start bad")
        tap.ok(result.status == 1 and re.search(message, result.err), f"{what}: refused by name", result)
        host.virsh("undefine bad")


with Host() as host:
    good, empty = host.root + "/good.img", host.root + "/empty.img"
    make_image(good)
    make_image(empty, None)

    definition = host.write_xml(xml(host, good, "<bootloader>/usr/bin/pygrub</bootloader>"))
    tap.equal(host.virsh_args("define", "--validate", definition).status, 0, "a definition with a boot loader and no kernel")
    dump = host.virsh("dumpxml g1").out
    tap.ok("<bootloader>/usr/bin/pygrub</bootloader>" in dump and "<kernel>" not in dump, "which comes back", dump)
    started = host.virsh("start g1")
    tap.ok(started.status == 0, "it starts", started)
    with host.console("g1") as console:
        if tap.ok(console.expect(r"guest: up") and console.prompt(), "and boots", console.text[-3000:]):
            words = (console.run("cat /proc/cmdline") or "").split()
            tap.ok("from=grub" in words and "root=/dev/xvda" in words, "with the words of its default entry", words)
    left = [name for name in os.listdir(f"{host.root}/run/domus") if name.endswith(".boot")]
    tap.equal(left, [], "no copy is left on the host")
    host.virsh("destroy g1")

    text = xml(host, good, "<bootloader/><bootloader_args>--args='console=hvc0 extra=word'</bootloader_args>",
               name="g2", os_rest="<kernel>/boot/vmlinuz-6.1</kernel><initrd>/boot/initrd.img-6.1</initrd><cmdline>console=hvc0 a=b</cmdline>")
    tap.equal(host.virsh_args("define", host.write_xml(text)).status, 0, "an empty <bootloader>, with names in the disk")
    tap.equal(host.virsh("start g2").status, 0, "it starts")
    with host.console("g2") as console:
        if tap.ok(console.expect(r"guest: up") and console.prompt(), "and boots", console.text[-3000:]):
            words = (console.run("cat /proc/cmdline") or "").split()
            tap.ok("extra=word" in words, "with the words of <bootloader_args>", words)
    host.virsh("destroy g2")

    imported(host, good, empty)

    secret = host.root + "/secret"
    with open(secret, "w") as f:
        f.write("not for guests")
    evil = write_loader(host.root + "/evil", f"printf 'kernel {secret}\\0' >$out")
    link = write_loader(host.root + "/link", f"ln -s {secret} $dir/k; printf 'kernel %s/k\\0' $dir >$out")
    huge = write_loader(host.root + "/huge", "printf '%20000s' x >$out")
    for what, image, loader, message in (
            ("a disk without a kernel", empty, "<bootloader>pygrub</bootloader>", r"boot loader 'pygrub' of domain 'bad' failed: .+"),
            ("a loader that is not there", good, "<bootloader>/usr/bin/nogrub</bootloader>", "cannot find boot loader '/usr/bin/nogrub'"),
            ("no image", host.root + "/none.img", "<bootloader>pygrub</bootloader>", "boot loader 'pygrub' of domain 'bad' failed: .*none.img"),
            ("a loader that names another file", good, evil, "cannot open kernel '.*/secret'"),
            ("a loader that leaves a link", good, link, "cannot open kernel '.*/k'"),
            ("a loader that says too much", good, huge, "boot loader '.*/huge' of domain 'bad' failed"),
            ("arguments that do not end", good, "<bootloader>pygrub</bootloader><bootloader_args>'</bootloader_args>", "bootloader_args")):
        host.virsh_args("define", host.write_xml(xml(host, image, loader, name="bad")))
        result = host.virsh("start bad")
        tap.ok(result.status == 1 and re.search(message, result.err), f"{what}: refused by name", result)
        host.virsh("undefine bad")
    other_formats(host, good, empty)
    left = [name for name in os.listdir(f"{host.root}/run/domus") if name.endswith(".boot")]
    tap.equal(left, [], "nothing is left of them")
tap.done()
