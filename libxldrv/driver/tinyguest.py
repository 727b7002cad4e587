"""Guests of a few instructions, as ELF files with Xen's PVH entry: what the driver needs of a guest, without a boot.

The entry is in 32-bit mode without paging; a hypercall is vmcall with its number in eax and its arguments in ebx
and ecx (Xen's 32-bit convention). SCHEDOP_shutdown is operation 2 of sched_op, hypercall 29.
"""
import struct

BASE = 0x100000
CODE = BASE + 0x100
SCHED_OP, SHUTDOWN = 29, 2
PHYS32_ENTRY = 18

POWEROFF, REBOOT, CRASH = 0, 1, 3
SLEEP = b"\xfb\xf4\xeb\xfd"  # sti; hlt; jmp to the hlt (with interrupts off, Xen powers a halted guest off)
SPIN = b"\xeb\xfe"           # jmp to itself


def shut_down(reason):
    """Code that ends the guest for a reason."""
    data = CODE + 0x40
    code = b"\xb8" + struct.pack("<I", SCHED_OP) + b"\xbb" + struct.pack("<I", SHUTDOWN) + \
        b"\xb9" + struct.pack("<I", data) + b"\x0f\x01\xc1" + SLEEP
    return code.ljust(0x40, b"\x90") + struct.pack("<I", reason)


def watchdog(seconds):
    """Code that starts a watchdog and sleeps: SCHEDOP_watchdog is operation 6, its structure id and time-out."""
    data = CODE + 0x40
    code = b"\xb8" + struct.pack("<I", SCHED_OP) + b"\xbb" + struct.pack("<I", 6) + \
        b"\xb9" + struct.pack("<I", data) + b"\x0f\x01\xc1" + SLEEP
    return code.ljust(0x40, b"\x90") + struct.pack("<II", 0, seconds)


def elf(code):
    """An ELF32 file whose one segment holds the code, with the note that says where to enter it."""
    note = struct.pack("<III4sI", 4, 4, PHYS32_ENTRY, b"Xen\0", CODE)
    note_at = 0x80
    body = code.ljust(0x100, b"\0")
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, CODE, 52, 0, 0, 52, 32, 2, 0, 0, 0)
    size = 0x100 + len(body)
    load = struct.pack("<IIIIIIII", 1, 0, BASE, BASE, size, size, 7, 0x1000)
    note_segment = struct.pack("<IIIIIIII", 4, note_at, BASE + note_at, BASE + note_at, len(note), len(note), 4, 4)
    return (header + load + note_segment).ljust(note_at, b"\0") + note.ljust(0x100 - note_at, b"\0") + body


def write(path, code):
    with open(path, "wb") as f:
        f.write(elf(code))
    return path
