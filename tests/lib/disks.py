"""Guests with disks: images, definitions, and virsh's commands about them as points of a test."""
import subprocess

import tap


def qemu_img(*args):
    return subprocess.run(["qemu-img", *args], check=True, stdout=subprocess.PIPE, text=True).stdout


def make(host, name, form="qcow2", mib=16):
    """A new image below the host's root; gives its path."""
    path = f"{host.root}/{name}"
    qemu_img("create", "-q", "-f", form, path, f"{mib}M")
    return path


def disk(path, target, form="qcow2", extra=""):
    return f"<disk type='file'><driver type='{form}'/><source file='{path}'/><target dev='{target}'/>{extra}</disk>"


def define(host, name, devices, **options):
    """A domain with more devices, whose guest loads their drivers."""
    text = host.xml(name=name, cmdline="console=hvc0 guest.modules", **options).replace("<console", devices + "<console")
    result = host.virsh_args("define", host.write_xml(text, f"{name}.xml"))
    tap.equal(result.status, 0, f"define {name}") or tap.note(result)


def good(host, command, name=None):
    """A command of virsh's that succeeds; gives what it printed."""
    result = host.virsh(command)
    tap.equal(result.status, 0, name or command.split(" --")[0]) or tap.note(result)
    return result.out


def refused(host, command, part, name):
    """One that does not, with a message that has @part in it."""
    result = host.virsh(command)
    tap.ok(result.status != 0 and part in result.err, f"refused: {name}", result)
