"""A guest that works, and tells each millisecond that it does (worker.c): its ramdisk, and the host's side of it."""
import os
import socket
import struct
import subprocess
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HOST_IP, GUEST_IP, PORT = "192.0.2.1", "192.0.2.2", 5000
TICK = struct.Struct("<IIQQQ")
SO_TIMESTAMPNS = 35
INIT = """#!/bin/sh
until ip link set eth0 up 2>/dev/null; do sleep 0.1; done
ip addr add {guest}/24 dev eth0
exec /bin/worker {processes} {fill} {dirty} {host} {port}
"""


def make_ramdisk(folder, base, shell, processes=1, fill_mib=0, dirty_mib=0, name="worker.gz"):
    """The ramdisk at @base with the program, which starts by itself; @shell is the terminal of its shell."""
    tree = f"{folder}/{name}.tree"
    os.makedirs(f"{tree}/bin")
    os.makedirs(f"{tree}/etc")
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o", f"{tree}/bin/worker",
                    f"{HERE}/worker.c"], check=True)
    with open(f"{tree}/etc/work", "w") as f:
        f.write(INIT.format(processes=processes, fill=fill_mib, dirty=dirty_mib, guest=GUEST_IP, host=HOST_IP, port=PORT))
    os.chmod(f"{tree}/etc/work", 0o755)
    with open(f"{tree}/etc/inittab", "w") as f:
        f.write(f"::sysinit:/etc/rc\n::once:/etc/work\n{shell}::respawn:-/bin/sh\n")
    path = f"{folder}/{name}"
    subprocess.run(f"{{ cat {base}; (cd {tree} && find . | cpio -o -H newc --quiet -R 0:0 | gzip -1n); }} >{path}", shell=True,
                   check=True)
    return path


class Worker(threading.Thread):
    """What comes from the guest: the longest silence, stamped by the host's kernel, and what it knows of its
    memory and clock."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((HOST_IP, PORT))
        self.lock = threading.Lock()
        self.stamp = self.number = self.pages = self.backwards = 0
        self.reset()
        self.start()

    def reset(self):
        """Begins to look for the longest silence, and for the first tick, anew."""
        with self.lock:
            self.gap_ns = self.first_ns = 0

    def run(self):
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(64, 64)
            except OSError:
                return
            seconds, ns = struct.unpack("<qq", ancillary[0][2])
            if len(data) == TICK.size:
                self.take(seconds * 10**9 + ns, *TICK.unpack(data)[1:])

    def take(self, stamp, backwards, number, _, pages):
        with self.lock:
            if self.stamp and number > self.number and stamp - self.stamp > self.gap_ns:
                self.gap_ns = stamp - self.stamp
            self.first_ns = self.first_ns or stamp
            self.stamp, self.number, self.pages, self.backwards = stamp, number, pages, backwards

    def wait_for_tick(self, seconds=120):
        """Whether one comes from now on."""
        seen, end = self.stamp, time.monotonic() + seconds
        while self.stamp == seen and time.monotonic() < end:
            time.sleep(0.0002)
        return self.stamp != seen

    def ask(self, command, seconds=60):
        """A command's answer, or "" when there is none."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(2)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                s.sendto(command.encode(), (GUEST_IP, PORT))
                s.settimeout(2 if command.startswith("rate") else seconds)
                try:
                    return s.recv(256).decode()
                except OSError:
                    time.sleep(0.1)
        return ""

    def check(self):
        """Pages that are not what they should be, and steps back of the clock; None without an answer."""
        words = self.ask("check").split()
        return (int(words[2]), int(words[3])) if len(words) == 4 else None

    def close(self):
        self.socket.close()
