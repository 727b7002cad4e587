#!/usr/bin/python3
"""Disks and network interfaces in the driver: definitions, what is refused and how it is named, with a guest of a few
instructions that has no drivers."""
import os
import re
import subprocess
import sys
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "tests", "lib")]
if os.path.exists("libxldrv/domusd"):
    os.environ.setdefault("DOMUS_BUILD", os.getcwd())
import tap
import tinyguest
from host import Console, Host, wait_for

XML = """<domain type='xen'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='xenpvh'>xenpvh</type><kernel>{kernel}</kernel></os>
  <devices>{devices}<console type='pty'/></devices></domain>"""


def define(host, name, devices):
    text = XML.format(name=name, uuid=uuid.uuid5(uuid.NAMESPACE_DNS, name), kernel=f"{host.root}/sleep", devices=devices)
    return host.virsh_args("define", "--validate", host.write_xml(text, f"{name}.xml"))


def disk(path, target="xvda", extra="", kind="file", attribute="file"):
    return f"<disk type='{kind}'><source {attribute}='{path}'/><target dev='{target}'/>{extra}</disk>"


def image(host, name, size=1 << 20):
    path = f"{host.root}/{name}"
    with open(path, "wb") as f:
        f.truncate(size)
    return path


def leftovers(host):
    return [line for line in host.client("xenstore-ls", "-f").out.splitlines() if re.search("/(vbd|vif)/[0-9]", line)]


def images_that_fail(host):
    """A disk, and what the error of starting says."""
    pipe = f"{host.root}/pipe"
    os.mkfifo(pipe)
    good = image(host, "good.img")
    rows = [(disk("/nonexistent/a.img"), "'/nonexistent/a.img' of disk 'xvda': No such file"),
            (disk(host.root), f"'{host.root}' of disk 'xvda'"),
            (disk(pipe), f"'{pipe}' of disk 'xvda' is not a regular file"),
            (disk("/dev/null", kind="block", attribute="dev"), "'/dev/null' of disk 'xvda' is not a block device"),
            (disk(good, kind="block", attribute="dev"), f"'{good}' of disk 'xvda' is not a block device"),
            (disk(good) + disk(good, "xvdb"), f"'{good}' of disk 'xvdb' is in use")]
    for devices, message in rows:
        tap.equal(define(host, "bad", devices).status, 0, f"define: {message}")
        result = host.virsh("start bad")
        tap.ok(result.status != 0, "start fails")
        tap.contains(result.err, message, "and says of what")
        tap.equal((host.state("bad"), leftovers(host), host.hv_pids()), ("shut off", [], []), "nothing is left of it")
    host.virsh("undefine bad")


def interfaces_that_fail(host):
    rows = [("<interface type='bridge'><source bridge='nobridge0'/></interface>", "'nobridge0'"),
            ("<interface type='bridge'><source bridge='lo'/></interface>", "'lo' is not a bridge")]
    for devices, message in rows:
        tap.equal(define(host, "bad", devices).status, 0, f"define: {message}")
        result = host.virsh("start bad")
        tap.contains(result.err, message, "start fails and says why")
        tap.equal((host.state("bad"), leftovers(host), host.hv_pids()), ("shut off", [], []), "nothing is left of it")
    host.virsh("undefine bad")


def locks(host):
    path = image(host, "shared.img")
    rows = [("", "", False), ("<readonly/>", "", False), ("", "<readonly/>", False),
            ("<readonly/>", "<readonly/>", True), ("<shareable/>", "<shareable/>", True), ("", "<shareable/>", False)]
    for first, second, together in rows:
        define(host, "one", disk(path, extra=first))
        define(host, "two", disk(path, extra=second))
        tap.equal(host.virsh("start one").status, 0, f"{first or 'alone'}: start")
        result = host.virsh("start two")
        tap.equal(result.status == 0, together, f"{first or 'alone'} and {second or 'alone'}")
        if not together:
            tap.contains(result.err, f"image '{path}' of disk 'xvda' is in use", "the image is named")
        host.virsh("destroy one")
        tap.equal(host.virsh("start two").status == 0, not together, "free when the first is gone")
        host.virsh("destroy two")
    for name in ("one", "two"):
        host.virsh(f"undefine {name}")


def store(host):
    path = image(host, "store.img")
    define(host, "nodes", disk(path, extra="<serial>S1</serial>") + disk(path + "2", "xvdb", "<readonly/>"))
    image(host, "store.img2", 2 << 20)
    tap.equal(host.virsh("start nodes").status, 0, "start with two disks")
    domid = host.virsh("domid nodes").out.strip()
    front, back = f"/local/domain/{domid}/device/vbd/51712", f"/local/domain/0/backend/vbd/{domid}/51712"
    rows = [(f"{front}/backend", back), (f"{front}/backend-id", "0"), (f"{front}/virtual-device", "51712"),
            (f"{front}/device-type", "disk"), (f"{front}/serial", "S1"), (f"{front}/state", "1"),
            (f"{back}/frontend", front), (f"{back}/frontend-id", domid), (f"{back}/mode", "w"),
            (f"{back}/dev", "xvda"), (f"{back}/online", "1"),
            (f"/local/domain/0/backend/vbd/{domid}/51728/mode", "r"),
            (f"/libxl/{domid}/device/vbd/51712/params", path)]
    for node, value in rows:
        tap.equal(host.client("xenstore-read", node).out.strip(), value, f"store: {node}")
    tap.ok(path not in "".join(line for line in host.client("xenstore-ls", "-f").out.splitlines()
                               if not line.startswith("/libxl")), "the guest does not see paths of the host")
    out = host.virsh("domstats nodes --block").out
    tap.ok("block.count=2" in out and "block.1.capacity=2097152" in out and "block.0.rd.reqs=0" in out,
           "domstats --block", out)
    host.virsh("destroy nodes")
    tap.equal(leftovers(host), [], "nothing is left in the store")
    out = host.virsh("domblkinfo nodes xvdb").out
    tap.ok(re.search(r"Capacity: +2097152", out), "domblkinfo of a domain that is off", out)
    host.virsh("undefine nodes")


def definitions(host):
    """Devices come and go in what does not run."""
    path = image(host, "config.img")
    define(host, "conf", "")
    tap.equal(host.virsh(f"attach-disk conf {path} xvda --config").status, 0, "attach-disk --config")
    tap.contains(host.virsh(f"attach-disk conf {path} xvda --config").err, "'xvda' duplicated", "not twice")
    tap.contains(host.virsh(f"attach-disk conf {path} vda --config").err, "'vda'", "a target that Xen does not know")
    tap.contains(host.virsh(f"attach-disk conf {path} xvdb --live").err, "not running", "--live needs a running domain")
    tap.contains(host.virsh(f"attach-disk conf {path} xvdb --config --subdriver ploop").err, "'ploop'", "ploop is refused")
    tap.equal(host.virsh("attach-interface conf bridge br0 --config --mac 00:16:3e:00:00:01").status, 0,
              "attach-interface --config")
    tap.ok(re.search(r"bridge +br0 +- +00:16:3e:00:00:01", host.virsh("domiflist conf").out), "domiflist")
    tap.equal(host.virsh("domif-setlink conf 00:16:3e:00:00:01 down --config").status, 0, "domif-setlink --config")
    tap.contains(host.virsh("dumpxml conf").out, "<link state='down'/>", "is kept")
    tap.ok("alias" not in host.virsh("dumpxml conf").out, "no alias in a definition")
    for command in ("detach-disk conf xvda --config", "detach-interface conf bridge --config"):
        tap.equal(host.virsh(command).status, 0, command)
    tap.ok(not re.search("<disk|<interface", host.virsh("dumpxml conf").out), "both are gone")
    missing = host.write_xml(disk(path, "xvdq"), "missing.xml")
    tap.contains(host.virsh(f"detach-device conf {missing} --config").err, "no disk 'xvdq'", "what is not there is named")
    hostdev = host.write_xml("<hostdev mode='subsystem' type='pci'/>", "hostdev.xml")
    tap.contains(host.virsh(f"attach-device conf {hostdev} --config").err, "<hostdev>", "a host device is refused")
    host.virsh("undefine conf")


def hotplug(host):
    """A guest without drivers: nothing has to be let go of."""
    path = image(host, "hot.img")
    define(host, "hot", "")
    host.virsh("start hot")
    tap.equal(host.virsh(f"attach-disk hot {path} xvda --live --config").status, 0, "attach-disk --live --config")
    for options in ("", " --inactive"):
        tap.contains(host.virsh("dumpxml hot" + options).out, path, f"dumpxml{options}")
    tap.contains(host.virsh("dumpxml hot").out, "<alias name='xvda'/>", "it has an alias")
    tap.ok("alias" not in host.virsh("dumpxml hot --inactive").out, "which no definition has")
    tap.ok(host.virsh("domblkstat hot xvda").status == 0, "domblkstat")
    tap.equal(host.virsh("blockresize hot xvda 2MiB").status, 0, "blockresize")
    tap.equal(os.path.getsize(path), 2 << 20, "the image grows")
    tap.contains(host.virsh("blockresize hot xvda 1MiB").err, "cannot become smaller", "but never shrinks")
    result = host.virsh("detach-disk hot xvda --live --config")
    tap.equal(result.status, 0, "detach-disk --live --config") or tap.note(result)
    tap.ok(path not in host.virsh("dumpxml hot").out + host.virsh("dumpxml hot --inactive").out, "it is gone")
    tap.equal(leftovers(host), [], "nothing is left in the store")
    tap.equal(host.virsh(f"attach-disk hot {path} xvda --live").status, 0, "the image is free again")
    tap.ok(path not in host.virsh("dumpxml hot --inactive").out, "--live alone leaves the definition")
    tap.contains(host.virsh("detach-device-alias hot xvdz").err, "'xvdz'", "an alias that is not there is named")
    tap.equal(host.virsh("detach-device-alias hot xvda --live").status, 0, "detach-device-alias")
    tap.equal(host.virsh(f"attach-disk hot {path} xvda --live").status, 0, "and again")
    host.virsh("destroy hot")
    tap.ok(path not in host.virsh("dumpxml hot").out, "and goes with the domain")
    host.virsh("undefine hot")


with Host() as host:
    tinyguest.write(f"{host.root}/sleep", tinyguest.SLEEP)
    definitions(host)
    images_that_fail(host)
    interfaces_that_fail(host)
    locks(host)
    store(host)
    hotplug(host)
tap.done()
