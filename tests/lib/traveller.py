"""A guest that migrates: it computes, writes to its disk, and has a connection to us that must go on."""
import os
import socket
import threading
import time

import tap
from host import Host, wait_for
from remote import free_port

MIB = 1 << 20
BRIDGE, HOST_IP, GUEST_IP, PORT = "domus0", "192.0.2.1", "192.0.2.2", 5000
MAC = "00:16:3e:12:34:58"


class Peer(Host):
    """A host that others reach by TCP: daemons do not take a socket of their own host for another one."""

    def __init__(self):
        super().__init__(start=False)
        port = free_port()
        self.peer = f"xen+tcp://127.0.0.1:{port}/system"
        os.makedirs(f"{self.root}/etc/domus")
        with open(f"{self.root}/etc/domus/domusd.conf", "w") as f:
            f.write(f"[sockets]\nlisten_tcp=1\nlisten_addr=127.0.0.1\ntcp_port={port}\n[authentication]\nauth_tcp=none\n")
        self.start()


def run(console, command, seconds=60):
    return (console.run(command, seconds) or "").strip()


class Ticks(threading.Thread):
    """A connection to the guest that counts for ever: what came, in which order, and the longest silence."""

    def __init__(self):
        super().__init__(daemon=True)
        wait_for(self.connect, 60)
        self.last, self.wrong, self.ended, self.gap, self.stamp = 0, None, None, 0, time.monotonic()
        self.start()

    def connect(self):
        try:
            self.socket = socket.create_connection((GUEST_IP, PORT), 60)
            return True
        except OSError:
            return False

    def run(self):
        rest = b""
        try:
            while True:
                data = self.socket.recv(65536)
                now = time.monotonic()
                self.gap, self.stamp = max(self.gap, now - self.stamp), now
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if int(line) != self.last + 1:
                        self.wrong = self.wrong or f"{line} after {self.last}"
                    self.last = int(line)
        except OSError as error:
            self.ended = str(error)
        self.ended = self.ended or "closed"

    def reset(self):
        self.gap, self.stamp = 0, time.monotonic()


def boot(host, image, form="raw", more=""):
    disk = f"<disk type='file'><driver type='{form}'/><source file='{image}'/><target dev='xvda'/></disk>{more}"
    nic = f"<interface type='bridge'><mac address='{MAC}'/><source bridge='{BRIDGE}'/></interface>"
    text = host.xml(name="g1", vcpus=2, cmdline="console=hvc0 guest.modules").replace("<console", disk + nic + "<console")
    host.virsh_args("define", host.write_xml(text))
    result = host.virsh("start g1")
    tap.equal(result.status, 0, "start") or tap.note(result)
    console = host.console("g1")
    tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
    run(console, "dmesg -n 1")
    run(console, f"ip addr add {GUEST_IP}/24 dev eth0; ip link set eth0 up")
    tap.contains(run(console, f"ping -c 1 {HOST_IP}"), "1 packets received", "it reaches the host")
    run(console, "dd if=/dev/urandom of=/tmp/data bs=1M count=8 2>/dev/null; dd if=/tmp/data of=/dev/xvda bs=1M 2>/dev/null")
    # Memory and disk are written to and looked at all the time, the clock too.
    run(console, "(last=0; while :; do cp /tmp/data /tmp/copy; cmp /tmp/data /tmp/copy || echo memory >>/tmp/wrong; "
                 "now=$(cut -d. -f1 /proc/uptime); [ $now -lt $last ] && echo clock >>/tmp/wrong; last=$now; "
                 "echo $now >/tmp/alive; sleep 0.05; done) >/dev/null 2>&1 & true")
    run(console, "(while :; do dd if=/tmp/data of=/dev/xvda bs=64k count=16 seek=200 conv=fsync 2>/dev/null || echo write >>/tmp/wrong; "
                 "dd if=/dev/xvda bs=64k count=16 skip=200 2>/dev/null | cmp -n 1048576 /tmp/data - || echo read >>/tmp/wrong; "
                 "echo 3 >/proc/sys/vm/drop_caches; sleep 0.2; done) >/dev/null 2>&1 & true")
    run(console, f"(n=0; while :; do n=$((n+1)); echo $n; usleep 2000; done | nc -l -p {PORT}) >/dev/null 2>&1 & true")
    console.close()


def check(host, ticks, what):
    console = host.console("g1")
    tap.ok(console.prompt(), f"{what}: the console goes on", console.text[-500:])
    before = run(console, "cat /tmp/alive")
    tap.ok(wait_for(lambda: run(console, "cat /tmp/alive") != before, 30), f"{what}: its programs go on")
    tap.equal(run(console, "cat /tmp/wrong 2>/dev/null"), "", f"{what}: memory, disk and clock are well")
    trouble = run(console, "dmesg | grep -E 'BUG: |detected stall|soft lockup -|blocked for more|Call Trace|marked unstable|I/O error'")
    tap.equal(trouble, "", f"{what}: the kernel has nothing to complain about")
    console.close()
    seen = ticks.last
    tap.ok(wait_for(lambda: ticks.last > seen, 30) and not ticks.wrong and not ticks.ended,
           f"{what}: its connection goes on, and nothing of it is lost", f"{ticks.wrong} {ticks.ended}")
