#!/usr/bin/python3
"""`virsh dump`: an ELF core of the guest's memory, with the registers of each vCPU, that readelf and gdb open, and in which what the
guest has in its memory is found.
"""
import os
import re
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for

MARK = b"dump-of-domus-" * 4


def tool(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout


def dump(host, options, path="/core", name="g1"):
    path = host.root + path
    if os.path.exists(path):
        os.unlink(path)
    return host.virsh(f"dump {options} {name} {path}"), path


def holds_mark(path):
    with open(path, "rb") as f:
        return MARK in f.read()


def check_core(path, what, vcpus=2):
    headers = tool("readelf", "-h", "-l", path)
    tap.ok("CORE (Core file)" in headers and "X86-64" in headers and headers.count("LOAD") >= 2 and "Error" not in headers and
           "arning" not in headers, f"{what}: readelf reads it", headers)
    notes = tool("readelf", "-n", path)
    tap.equal(notes.count("NT_PRSTATUS"), vcpus, f"{what}: registers of each vCPU") or tap.note(notes)
    tap.equal(notes.count("QEMU"), vcpus, f"{what}: and those that crash looks for")
    regs = tool("gdb", "-nx", "-batch", "-ex", "info threads", "-ex", "thread apply all info registers rip", "-c", path)
    rips = [int(value, 16) for value in re.findall(r"rip\s+0x([0-9a-f]+)", regs)]
    tap.ok(len(rips) == vcpus and all(rips), f"{what}: gdb finds where each was", regs)
    tap.ok(holds_mark(path), f"{what}: the guest's memory is in it")


def rip_in_memory(path):
    """The kernel's code that a vCPU was at, by its page tables in the dump, is the code that the symbol's address has."""
    data = open(path, "rb").read()
    phoff, phnum = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    loads = []
    for i in range(phnum):
        kind, _, offset, _, physical, size = struct.unpack_from("<IIQQQQ", data, phoff + 56 * i)
        loads += [(physical, offset, size)] if kind == 1 else []

    def physical(address, count):
        for start, offset, size in loads:
            if start <= address < start + size:
                return data[offset + address - start:offset + address - start + count]
        return b""

    at = data.index(b"QEMU\0")
    note = data[at + 8:]
    rip, cr3 = struct.unpack_from("<Q", note, 8 + 16 * 8)[0], struct.unpack_from("<Q", note, 8 + 18 * 8 + 240 + 24)[0]
    table = cr3 & 0xffffffffff000
    for shift in (39, 30, 21, 12):
        entry = struct.unpack("<Q", physical(table + 8 * (rip >> shift & 511), 8))[0]
        if not entry & 1:
            return None
        table = entry & 0xffffffffff000
        if entry & 0x80 and shift in (30, 21):
            return physical((table & ~((1 << shift) - 1)) + (rip & ((1 << shift) - 1)), 16)
    return physical(table + (rip & 4095), 16)


def refusals(host):
    for option, why in (("--memory-only --format kdump-zlib", "kdump-zlib"), ("--memory-only --format kdump-lzo", "kdump-lzo"),
                        ("--memory-only --format win-dmp", "win-dmp"), ("--live --crash", "exclusive")):
        result, path = dump(host, option)
        tap.ok(result.status != 0 and why in result.err and not os.path.exists(path), f"refused: {option}", result)
    result = host.virsh("dump --memory-only g1 /nowhere/core")
    tap.ok(result.status != 0 and "/nowhere/core" in result.err, "a folder that is not there", result)


with Host() as host:
    host.define(name="g1", vcpus=2)
    tap.equal(host.virsh("dump g1 /tmp/none").status, 1, "a domain that does not run has nothing to dump")
    host.virsh("start g1")
    with host.console("g1") as console:
        tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
        console.run("x=dump-of-domus-; echo $x$x$x$x >/tmp/mark; (while :; do :; done) & true")
        result, path = dump(host, "--memory-only --verbose")
        tap.equal(result.status, 0, "dump --memory-only") or tap.note(result)
        check_core(path, "memory-only")
        tap.ok(os.stat(path).st_blocks * 512 < os.path.getsize(path) * 3 / 4, "zeroes are holes")
        tap.ok(any(rip_in_memory(path) or b""), "the code that it was at is found by its page tables")
        tap.contains(console.run("cat /tmp/mark"), MARK.decode(), "the guest goes on")
        result, path = dump(host, "--memory-only --live --bypass-cache --format elf")
        tap.equal(result.status, 0, "dump --live --bypass-cache --format elf") or tap.note(result)
        check_core(path, "live")
        tap.contains(console.run("cat /tmp/mark"), MARK.decode(), "the guest goes on")
        tap.contains(host.virsh("domjobinfo g1 --completed").out, "Dump", "domjobinfo --completed tells of it")
        refusals(host)
    result, path = dump(host, "--memory-only --reset")
    tap.equal(result.status, 0, "dump --reset") or tap.note(result)
    tap.ok(os.path.exists(path), "writes it")
    with host.console("g1") as console:
        tap.ok(console.prompt(), "and the guest boots anew")
        tap.contains(console.run("cat /tmp/mark 2>&1"), "No such file", "with nothing of before")
        host.virsh("set-lifecycle-action g1 crash preserve --live")
        console.run("x=dump-of-domus-; echo $x$x$x$x >/tmp/mark")
        console.send("echo c >/proc/sysrq-trigger\n")
        tap.ok(wait_for(lambda: host.state("g1") == "crashed", 60), "a guest that has crashed and is kept", host.state("g1"))
        result, path = dump(host, "--memory-only --crash")
        tap.equal(result.status, 0, "can be dumped") or tap.note(result)
        check_core(path, "crashed")
    tap.equal(host.virsh("domstate --reason g1").out.strip(), "shut off (crashed)", "dump --crash ends it")
    tap.ok(not [name for name in os.listdir(host.root) if name.endswith(".part")], "no parts of files are left")
tap.done()
