#!/usr/bin/python3
"""What clients ask as a matter of routine, with stock virsh and libvirt's bindings: reset, groups of statistics, images
looked into, and the answers about what a domain here has none of."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Console, Host, Result

PEEK = """import libvirt, sys
libvirt.registerErrorHandler(lambda *_: None, None)
domain = libvirt.open(sys.argv[1]).lookupByName("g1")
print(domain.blockPeek("xvda", 510, 4), domain.blockPeek(sys.argv[2], 0, 0))
for disk, at, size in (("xvda", 1024 * 1024 - 1, 2), ("xvdb", 0, 1), ("xvdz", 0, 1), ("xvda", 2**64 - 1, 1)):
    try:
        domain.blockPeek(disk, at, size)
    except libvirt.libvirtError as e:
        print(e)
"""


def make_disks(host):
    raw, qcow2 = f"{host.root}/raw.img", f"{host.root}/other.qcow2"
    with open(raw, "wb") as f:
        f.truncate(1024 * 1024)
        f.seek(510)
        f.write(b"\x55\xaaGO")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "1M"], check=True)
    return raw, qcow2


def peek(host, raw):
    argv = [sys.executable, "-c", PEEK, host.uri, raw]
    result = Result(subprocess.run(argv, capture_output=True, text=True, timeout=60))
    lines = result.out.splitlines()
    tap.ok(lines and lines[0] == "b'U\\xaaGO' b''", "a raw image can be looked into", result)
    for line, words in zip(lines[1:], ("has no 2 bytes at 1048575", "'xvdb' has no raw image", "xvdz", "has no 1 bytes")):
        tap.contains(line, words, f"what cannot be is named: {words}")
    tap.equal(len(lines), 5, "all of them")


def reset(host, raw):
    tap.equal(host.virsh("start --paused g1").status, 0, "a domain starts, paused")
    more = f"{raw}.more"
    with open(more, "wb") as f:
        f.truncate(1024 * 1024)
    tap.equal(host.virsh(f"attach-disk g1 {more} xvdc --live").status, 0, "a disk is attached")
    before = host.virsh("domid g1").out.strip()
    with Console(["virsh", "-c", host.uri, "event", "g1", "--event", "reboot", "--timeout", "60"],
                 dict(os.environ, TERM="dumb")) as events:
        for _ in range(20):
            result = host.virsh("reset g1")
            if events.expect("event 'reboot'", 1):
                break
        tap.ok("event 'reboot'" in events.text, "reset is told as a reboot", events.text)
    tap.equal(result.status, 0, "it is reset") or tap.note(result)
    tap.ok(host.virsh("domid g1").out.strip() != before, "it has been started anew")
    tap.equal(host.state("g1"), "paused", "paused as it was")
    tap.contains(host.virsh("domblklist g1").out, more, "with the disk")
    tap.equal(host.virsh("destroy g1").status, 0, "it ends")
    result = host.virsh("reset g1")
    tap.ok(result.status == 1 and "not running" in result.err, "what does not run cannot be reset", result)
    host.virsh("start g1")
    tap.equal(host.virsh("reset g1").status, 0, "one that runs is reset")
    with host.console("g1") as console:
        tap.ok(console.expect("Linux version"), "and boots again", console.text[-500:])
    host.virsh("destroy g1")


def statistics(host):
    for group in ("state", "cpu-total", "balloon", "vcpu", "interface", "block", "perf", "iothread", "memory",
                  "dirtyrate", "vm"):
        result = host.virsh(f"domstats --enforce --{group} g1")
        tap.ok(result.status == 0 and "Domain: 'g1'" in result.out, f"statistics of group {group}", result)
    tap.contains(host.virsh("domstats --iothread g1").out, "iothread.count=0", "there are no IOThreads to count")


def absent(host):
    for command, status, words in (
            ("iothreadinfo g1", 0, "No IOThreads"), ("blockjob g1 xvda", 0, "No current block job"),
            ("blockjob g1 xvda --abort", 1, "does not have an active block job"), ("blockjob g1 xvdz", 1, "xvdz"),
            ("perf g1", 0, "cpu_cycles     : disabled"), ("perf g1 --disable cmt --config", 0, ""),
            ("perf g1 --enable cmt --config", 1, "'cmt' is not counted here"),
            ("nodesuspend mem 60", 1, "the host cannot be suspended"),
            ("node-memory-tune", 0, "Shared memory"), ("allocpages 7KiB 1", 1, "7 KiB"),
            ("checkpoint-create g1", 1, "inactive domain"),
            ("domlaunchsecinfo g1", 1, "virDomainGetLaunchSecurityInfo"),
    ):
        result = host.virsh(command)
        tap.ok(result.status == status and words.split(":")[0].strip() in result.out + result.err, f"'{command}'", result)


def main():
    with Host() as host:
        raw, qcow2 = make_disks(host)
        disks = "".join(f"<disk type='file'><driver type='{kind}'/><source file='{path}'/><target dev='{target}'/>"
                        f"</disk>" for kind, path, target in (("raw", raw, "xvda"), ("qcow2", qcow2, "xvdb")))
        xml = host.xml(name="g1").replace("</devices>", disks + "</devices>")
        result = host.virsh_args("define", host.write_xml(xml))
        tap.equal(result.status, 0, "a domain with two disks") or tap.note(result)
        peek(host, raw)
        statistics(host)
        absent(host)
        reset(host, raw)
    tap.done()


main()
