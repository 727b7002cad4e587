#!/usr/bin/python3
"""Live migration between two hosts on one machine, by stock virsh: the guest, its disk and its connections go on, and of a
guest whose migration fails exactly one copy runs.

As root, in a network namespace of its own, as tests/devices.t; the hosts share the machine's file system and a bridge.
"""
import os
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for

MIB = 1 << 20
BRIDGE, HOST_IP, GUEST_IP, PORT = "domus0", "192.0.2.1", "192.0.2.2", 5000
MAC = "00:16:3e:12:34:58"


def enter_namespace():
    if os.environ.get("DOMUS_TEST_NETNS"):
        return
    if subprocess.run(["unshare", "-n", "true"], stderr=subprocess.DEVNULL).returncode:
        tap.skip_all("no network namespace can be made here")
    os.environ["DOMUS_TEST_NETNS"] = "1"
    os.execvp("unshare", ["unshare", "-n", sys.executable, os.path.abspath(__file__)])


def make_bridge():
    for command in (f"ip link set lo up", f"ip link add {BRIDGE} type bridge",
                    f"ip addr add {HOST_IP}/24 dev {BRIDGE}", f"ip link set {BRIDGE} up"):
        subprocess.run(command.split(), check=True)


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


def boot(host, image):
    disk = f"<disk type='file'><source file='{image}'/><target dev='xvda'/></disk>"
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


def migrate(source, target, options="--live --verbose --persistent --undefinesource", seconds=300):
    return source.virsh(f"migrate {options} g1 {target.uri} --migrateuri tcp://127.0.0.1", seconds=seconds)


def hop(source, target, ticks, what):
    ticks.reset()
    start = time.monotonic()
    result = migrate(source, target)
    took = time.monotonic() - start
    tap.equal(result.status, 0, f"{what}: migrate --live") or tap.note(result)
    tap.contains(result.out + result.err, "100 %", f"{what}: progress is shown")
    tap.equal(target.state("g1"), "running", f"{what}: it runs there")
    tap.contains(source.virsh("domstate g1").err, "failed to get domain", f"{what}: and is gone here")
    check(target, ticks, what)
    tap.note(f"{what}: {took:.2f} s, silence of {1000 * ticks.gap:.0f} ms")
    tap.equal(target.virsh("dominfo g1").out.count("Persistent:     yes"), 1, f"{what}: it is persistent there")


def refused(source, target, ticks):
    text = target.xml(name="g1", uuid="11111111-2222-3333-4444-555555555555")
    target.virsh_args("define", target.write_xml(text, "clash.xml"))
    result = migrate(source, target)
    tap.ok(result.status != 0 and "g1" in result.err, "a name that is taken there", result)
    target.virsh("undefine g1")
    for option, why in (("--p2p", "p2p"), ("--copy-storage-all", "copying disks"), ("--postcopy", "post-copy"),
                        ("--tls", "--tls"), ("--compressed", "compressed"), ("--parallel", "parallel")):
        result = migrate(source, target, f"--live {option}")
        tap.ok(result.status != 0, f"refused: {option}", result)
    tap.equal(source.state("g1"), "running", "the source goes on")
    tap.equal(target.virsh("list --all --name").out.strip(), "", "nothing is left at the destination")
    check(source, ticks, "after refusals")


def slow(source, target):
    source.virsh("migrate-setspeed g1 2")
    tap.contains(source.virsh("migrate-getspeed g1").out, "2", "migrate-getspeed")
    thread = threading.Thread(target=lambda: results.append(migrate(source, target, "--live")), daemon=True)
    results = []
    thread.start()
    tap.ok(wait_for(lambda: "Unbounded" in source.virsh("domjobinfo g1").out, 30), "domjobinfo tells of it")
    return thread, results


def aborted(source, target, ticks):
    thread, results = slow(source, target)
    info = source.virsh("domjobinfo g1").out
    tap.ok("Memory remaining" in info and "Outgoing migration" in info, "with what there is to do", info)
    tap.equal(source.virsh("domjobabort g1").status, 0, "domjobabort")
    thread.join(60)
    tap.ok(results and results[0].status != 0 and "canceled by client" in results[0].err, "ends it", results)
    tap.equal(source.state("g1"), "running", "the guest goes on")
    tap.equal(target.virsh("list --all --name").out.strip(), "", "nothing is left at the destination")
    check(source, ticks, "after an abort")


def killed_destination(source, target, ticks):
    thread, results = slow(source, target)
    for pid in target.hv_pids():
        os.kill(pid, signal.SIGKILL)
    thread.join(60)
    tap.ok(results and results[0].status != 0, "the destination's hypervisor is killed", results)
    tap.equal(source.state("g1"), "running", "the guest goes on")
    check(source, ticks, "after the destination's end")
    source.virsh("migrate-setspeed g1 0")


enter_namespace()
make_bridge()
with Host() as a, Host() as b:
    image = f"{a.root}/shared.img"
    with open(image, "wb") as f:
        f.truncate(64 * MIB)
    boot(a, image)
    ticks = Ticks()
    refused(a, b, ticks)
    hop(a, b, ticks, "there")
    hop(b, a, ticks, "and back")
    hop(a, b, ticks, "there again")
    tap.contains(b.virsh("domjobinfo g1 --completed").out, "Job type", "domjobinfo --completed answers")
    aborted(b, a, ticks)
    killed_destination(b, a, ticks)
    hop(b, a, ticks, "after all that")
    tap.equal(a.virsh("destroy g1").status, 0, "destroy")
tap.done()
