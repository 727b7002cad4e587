#!/usr/bin/python3
"""NUMA: the nodes that Linux finds in a guest, and the host's nodes that its memory is on."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for

MIB = 1024
NODE = "/sys/devices/system/node"


def read(console, path):
    """The one line of a file."""
    lines = (console.run(f"cat {path}") or "").split("\n")
    return next((line.strip() for line in lines if re.match(r"[\d ,-]+\s*$", line)), None)


def memory(console, node):
    found = re.search(r"MemTotal:\s+(\d+) kB", console.run(f"cat {NODE}/node{node}/meminfo") or "")
    return int(found.group(1)) if found else 0


def seen(console, nodes=2):
    """vCPUs and distances of each node."""
    return [(read(console, f"{NODE}/node{n}/cpulist"), read(console, f"{NODE}/node{n}/distance")) for n in range(nodes)]


def with_nodes(text, *cells):
    """Each cell: vCPUs, MiB, and how far it is from the others by their numbers."""
    xml = ""
    for cpus, mib, far in cells:
        siblings = "".join(f"<sibling id='{other}' value='{value}'/>" for other, value in far.items())
        xml += f"<cell cpus='{cpus}' memory='{mib}' unit='MiB'>{siblings and f'<distances>{siblings}</distances>'}</cell>"
    return text.replace("<devices", f"<cpu><numa>{xml}</numa></cpu>\n  <devices", 1)


def both_sides_of_the_hole(host):
    """More memory than fits below the hole: the second node has some above 4 GiB."""
    text = with_nodes(host.xml(name="g1", memory_mib=4096, vcpus=2), ("0", 2048, {1: 21}), ("1", 2048, {0: 31}))
    tap.equal(host.virsh_args("define", "--validate", host.write_xml(text)).status, 0, "two nodes with two vCPUs")
    result = host.virsh("start g1")
    tap.equal(result.status, 0, "they start") or tap.note(result)
    with host.console("g1") as console:
        if not tap.ok(console.expect(r"guest: up") and console.prompt(), "it boots", console.text[-3000:]):
            return
        tap.equal(seen(console), [("0", "10 21"), ("1", "31 10")], "the guest sees its nodes and how far they are")
        sizes = [memory(console, n) / MIB for n in range(2)]
        tap.ok(all(1800 < size <= 2048 for size in sizes), "and their memory, above the hole too", sizes)
        tap.ok("complaint" not in (console.run("dmesg | grep -iE 'SRAT.*(error|not used|invalid)|not covered' && "
                                               "echo complaint") or ""), "with which Linux is content", console.text[-800:])
    tap.equal(len(re.findall(r"^VCPU:", host.virsh("vcpuinfo g1").out, re.M)), 2, "vcpuinfo is as ever")
    host.virsh("destroy g1")


def moved(host, other):
    """A vCPU that comes later finds its node; saving, restoring and migration keep them."""
    text = with_nodes(host.xml(name="g2", vcpus=4), ("0,2", 128, {}), ("1,3", 128, {}))
    text = text.replace("<vcpu", "<vcpu current='3'", 1)
    tap.equal(host.virsh_args("define", "--validate", host.write_xml(text)).status, 0, "two nodes with four vCPUs, one of them to come")
    tap.equal(host.virsh("start g2").status, 0, "they start")
    with host.console("g2") as console:
        if not tap.ok(console.expect(r"guest: up") and console.prompt(), "it boots", console.text[-3000:]):
            return
        tap.equal(seen(console), [("0,2", "10 20"), ("1", "20 10")], "it has them, with libvirt's distances")
        host.virsh("setvcpus g2 4 --live")
        wait_for(lambda: "is there" in (console.run("[ -e /sys/devices/system/cpu/cpu3/online ] && echo is the''re") or ""), 20)
        console.run("echo 1 >/sys/devices/system/cpu/cpu3/online")
        wait_for(lambda: read(console, f"{NODE}/node1/cpulist") == "1,3", 20)
        tap.equal(seen(console), [("0,2", "10 20"), ("1,3", "20 10")], "a vCPU that comes is in its node")
    path = f"{host.root}/g2.save"
    tap.equal((host.virsh(f"save g2 {path}").status, host.virsh(f"restore {path}").status), (0, 0), "saved and restored")
    with host.console("g2") as console:
        console.send("\n")
        console.prompt()
        tap.equal(seen(console), [("0,2", "10 20"), ("1,3", "20 10")], "it has its nodes")
    result = host.virsh(f"migrate --live g2 {other.uri} --migrateuri tcp://127.0.0.1")
    tap.equal(result.status, 0, "migrated") or tap.note(result)
    with other.console("g2") as console:
        console.send("\n")
        console.prompt()
        tap.equal(seen(console), [("0,2", "10 20"), ("1,3", "20 10")], "it has them there too")
    tap.contains(other.virsh("dumpxml g2").out, "<cell id='1' cpus='1,3' memory='131072' unit='KiB'/>", "as dumpxml tells")
    other.virsh("destroy g2")


def fixed(host):
    """What would make the cells wrong is refused."""
    for command, words in (("setmaxmem g2 512M --config", "with NUMA nodes cannot be modified"),
                           ("setvcpus g2 5 --maximum --config", "vCPU 4 is in no NUMA cell"),
                           ("setvcpus g2 3 --maximum --config", "cell '1' has vCPU 3, and the domain only 3 vCPUs")):
        result = host.virsh(command)
        tap.ok(result.status == 1 and words in result.err, f"{command} is refused", result)


def policies(pid):
    """The memory policies of a process's memory."""
    with open(f"/proc/{pid}/numa_maps") as f:
        return {line.split()[1] for line in f}


def placed(host):
    """On which of the host's nodes the memory is: virsh numatune."""
    text = host.xml(name="g3").replace("<os", "<numatune><memory mode='interleave' nodeset='0'/></numatune>\n  <os", 1)
    tap.equal(host.virsh_args("define", "--validate", host.write_xml(text)).status, 0, "a definition with numatune")
    tap.ok(re.search(r"numa_mode +: interleave\nnuma_nodeset +: 0", host.virsh("numatune g3").out), "virsh numatune",
           host.virsh("numatune g3"))
    result = host.virsh("start g3")
    if "not permitted" in result.err:
        tap.ok("NUMA nodes asked for" in result.err, "a host that lets nobody choose is told so", result)
        tap.skip("no memory policy can be set here")
    elif tap.equal(result.status, 0, "it starts") and os.path.exists("/proc/self/numa_maps"):
        tap.equal(policies(host.hv_pids()[0]), {"interleave:0"}, "with that policy")
        result = host.virsh("numatune g3 --nodeset 0 --live")
        tap.ok(result.status == 1 and "cannot change the NUMA nodes of running domain 'g3'" in result.err,
               "which stays while it runs", result)
        tap.ok(re.search(r"interleave\n", host.virsh("numatune g3 --live").out), "as numatune --live tells")
    tap.equal(host.virsh("numatune g3 --mode strict --nodeset 0 --config").status, 0, "another for the next start")
    tap.contains(host.virsh("dumpxml g3 --inactive").out, "<memory mode='strict' nodeset='0'/>", "is in the definition")
    host.virsh("destroy g3")
    for command, words in (("numatune g3 --mode preferred --nodeset 0-1 --config", "single node"),
                           ("numatune g3 --nodeset x --config", "Invalid nodeset of 'numatune': 'x'")):
        result = host.virsh(command)
        tap.ok(result.status == 1 and words in result.err, f"{command} is refused", result)
    tap.equal(host.virsh("numatune g3 --mode strict --nodeset 0,777 --config").status, 0, "a node that is not there")
    result = host.virsh("start g3")
    tap.ok(result.status == 1 and "NUMA node 777 of nodeset '0,777' is unavailable" in result.err, "fails the start by its name",
           result)
    tap.equal(host.virsh("numatune g1").out.split(), ["numa_mode", ":", "strict", "numa_nodeset", ":"], "nothing said is told as libvirt does")


with Host() as host, Host() as other:
    both_sides_of_the_hole(host)
    moved(host, other)
    fixed(host)
    placed(host)
tap.done()
