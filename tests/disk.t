#!/usr/bin/python3
"""Disks of a guest with no daemon: Debian's own xen-blkfront reads, writes, flushes and keeps a file system on them."""
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Console, guest_files, program

MIB = 1 << 20


def start(*disks):
    files = guest_files()
    argv = [program("domus-hv"), "run", "--kernel", f"{files}/vmlinuz", "--ramdisk", f"{files}/initrd.gz",
            "--cmdline", "console=hvc0 guest.modules", "--memory", "256"]
    for disk in disks:
        argv += ["--disk", disk]
    return Console(argv)


def make(path, mib, fill=0):
    with open(path, "wb") as f:
        f.truncate(mib * MIB)
        if fill:
            f.write(os.urandom(fill))
    return path


def run(console, command):
    return console.run(command) or ""


def status_of(console, command):
    found = re.findall(r"status=(\d+)", run(console, f"{command} >/tmp/out 2>&1; echo sta''tus=$?"))
    return int(found[-1]) if found else None


def sum_of(console, what):
    found = re.findall(r"\b[0-9a-f]{32}\b", run(console, f"{what} | md5sum"))
    return found[-1] if found else None


def kernel_complaints(console):
    return [line for line in run(console, "dmesg | grep -E 'xvd|blkfront|I/O error|EXT4|Oops|BUG'").splitlines()
            if re.search(r"error|fail|wrong|Oops|BUG|disabled for", line, re.I) and "grep" not in line]


with tempfile.TemporaryDirectory() as folder:
    a, b, c = (make(f"{folder}/{name}", 48, fill) for name, fill in (("a", 0), ("b", 4 * MIB), ("c", 0)))
    with open(b, "rb") as f:
        before = f.read()
    with start(a, f"{b},ro", c) as console:
        if not tap.ok(console.expect(r"guest: up") and console.prompt(), "a guest with three disks boots",
                      console.text[-3000:]):
            tap.done()
        sizes = run(console, "cat /sys/block/xvda/size /sys/block/xvdb/size /sys/block/xvdc/size")
        tap.equal(re.findall(r"^\d+\s*$", sizes, re.M) and sizes.split().count("98304"), 3, "and sees their sizes")
        tap.equal(status_of(console, "dd if=/dev/urandom of=/tmp/data bs=1M count=6 && "
                                     "dd if=/tmp/data of=/dev/xvda bs=64k conv=fsync"), 0, "dd writes and flushes")
        wanted = sum_of(console, "cat /tmp/data")
        run(console, "echo 3 >/proc/sys/vm/drop_caches")
        tap.equal(sum_of(console, "dd if=/dev/xvda bs=1M count=6 2>/dev/null"), wanted, "what was written is read")
        tap.equal(status_of(console, "dd if=/dev/xvda of=/tmp/odd bs=512 skip=7 count=9 && "
                                     "dd if=/tmp/odd of=/dev/xvdc bs=512 seek=13 conv=fsync"), 0, "single sectors too")
        tap.equal(sum_of(console, "dd if=/dev/xvdc bs=512 skip=13 count=9 2>/dev/null"), sum_of(console, "cat /tmp/odd"),
                  "and they are the right ones")
        tap.equal(sum_of(console, "dd if=/dev/xvdb bs=1M count=4 2>/dev/null"),
                  sum_of(console, "dd if=/dev/xvdb bs=4k count=1024 2>/dev/null"), "a read-only disk is read")
        tap.ok(status_of(console, "dd if=/dev/zero of=/dev/xvdb bs=4k count=1 conv=fsync") not in (0, None),
               "and cannot be written")
        tap.equal(status_of(console, "mke2fs -F /dev/xvdc && mkdir /m && mount -t ext2 /dev/xvdc /m"), 0,
                  "a file system is made and mounted")
        tap.equal(status_of(console, "cp /tmp/data /m/data && sync && umount /m"), 0, "a file is put on it")
        run(console, "echo 3 >/proc/sys/vm/drop_caches; mount -t ext2 /dev/xvdc /m")
        tap.equal(sum_of(console, "cat /m/data"), wanted, "and is there after mounting it again")
        tap.equal(status_of(console, "umount /m"), 0, "unmounted")
        tap.equal(kernel_complaints(console), [], "the kernel has no complaint")
        console.send("poweroff -f\n")
        tap.equal(console.wait(120), 0, "the guest powers off")
    with open(b, "rb") as f:
        tap.ok(f.read() == before, "the read-only image is what it was")

    def refused(disk, *words):
        with start(disk) as console:
            status = console.wait(30)
            tap.ok(status == 1 and all(word in console.text for word in words), f"{words[0]}: says what is wrong",
                   f"{status} {console.text}")

    refused(f"{folder}/absent", "absent", "No such file or directory")
    refused(folder + ",ro", folder, "neither a file nor a block device")
tap.done()
