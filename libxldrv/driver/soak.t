#!/usr/bin/python3
"""The daemon under load for a while: what domains and clients cost is given back, nothing is lost, nobody waits long.

DOMUS_SOAK_ROUNDS and DOMUS_SOAK_SECONDS say how much; all choices are random with DOMUS_SOAK_SEED.
"""
import os
import random
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "tests", "lib")]
if os.path.exists("libxldrv/domusd"):
    os.environ.setdefault("DOMUS_BUILD", os.getcwd())
import libvirt
import tap
import tinyguest
from host import Host, wait_for

ROUNDS = int(os.environ.get("DOMUS_SOAK_ROUNDS", 300))
SECONDS = int(os.environ.get("DOMUS_SOAK_SECONDS", 30))
SEED = int(os.environ.get("DOMUS_SOAK_SEED", 1))
CLIENTS = 8
WARM_UP = 20
# Memory that a run may leave behind: allocators keep some, sanitizers quarantine more.
RSS_SLACK_KIB = 16384

XML = """<domain type='xen'><name>{name}</name><memory unit='MiB'>8</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='xenpvh'>xenpvh</type><kernel>{root}/sleep</kernel></os>
  <on_poweroff>destroy</on_poweroff><devices><console type='pty'/></devices></domain>"""

libvirt.registerErrorHandler(lambda *_: None, None)


def daemon_pid(host):
    with open(f"{host.root}/run/domusd.pid") as f:
        return int(f.read())


def usage(pid):
    """Open descriptors and resident KiB of a process."""
    with open(f"/proc/{pid}/status") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))
    return len(os.listdir(f"/proc/{pid}/fd")), rss


def one_life(connection, name, root):
    domain = connection.defineXML(XML.format(name=name, root=root))
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    domain.info()
    domain.XMLDesc()
    domain.destroy()
    domain.undefine()


def leaks(host):
    connection = libvirt.open(host.uri)
    pid = daemon_pid(host)
    sanitized = "libasan" in open(f"/proc/{pid}/maps").read()
    for i in range(WARM_UP):
        one_life(connection, f"warm{i}", host.root)
    fds, rss = usage(pid)
    for i in range(ROUNDS):
        one_life(connection, f"soak{i}", host.root)
    tap.ok(wait_for(lambda: usage(pid)[0] <= fds, 10), f"{ROUNDS} lives leave no descriptor", (fds, usage(pid)[0]))
    grown = usage(pid)[1] - rss
    tap.ok(sanitized or grown < RSS_SLACK_KIB, f"and {grown} KiB of memory")
    connection.close()


# ---- clients that do anything, in any order, and may be killed

def act(connection, rng, root):
    name = f"h{rng.randrange(12)}"
    xml = XML.format(name=name, root=root)
    domain = None
    try:
        domain = connection.lookupByName(name)
    except libvirt.libvirtError:
        pass
    if not domain or rng.random() < 0.1:
        rng.choice([connection.defineXML, connection.createXML,
                    lambda x: connection.createXML(x, libvirt.VIR_DOMAIN_START_AUTODESTROY)])(xml)
        return
    rng.choice([domain.create, domain.destroy, domain.undefine, domain.suspend, domain.resume, domain.info,
                domain.XMLDesc, domain.state, domain.autostart, domain.shutdown, domain.memoryStats,
                lambda: domain.setAutostart(rng.randrange(2)), lambda: domain.rename(f"h{rng.randrange(12)}"),
                lambda: domain.openConsole(None, connection.newStream(), libvirt.VIR_DOMAIN_CONSOLE_FORCE),
                connection.listAllDomains, connection.getAllDomainStats])()


def hammer(uri, root, seed, seconds):
    """Calls until the time is over; errors are fine, but only libvirt's own, and a living connection."""
    rng = random.Random(seed)
    connection = libvirt.open(uri)
    end = time.monotonic() + seconds
    longest = 0
    calls = 0
    while time.monotonic() < end:
        began = time.monotonic()
        try:
            act(connection, rng, root)
        except libvirt.libvirtError as error:
            if error.get_error_domain() == libvirt.VIR_FROM_RPC or not connection.isAlive():
                print(f"lost: {error}")
                return 1
        longest = max(longest, time.monotonic() - began)
        calls += 1
    print(f"{calls} calls, the longest {longest:.2f} s")
    return 0


def end_all(uri):
    """Whether no domain is left after all were ended. Its connection ends with its last object."""
    connection = libvirt.open(uri)
    for domain in connection.listAllDomains():
        for end_it in [domain.destroy, domain.undefine]:
            try:
                end_it()
            except libvirt.libvirtError:
                pass
    return not connection.listAllDomains()


def clients(host):
    rng = random.Random(SEED)
    pid = daemon_pid(host)
    fds, _ = usage(pid)
    argv = [sys.executable, os.path.abspath(__file__), "--hammer", host.uri, host.root]
    started = [subprocess.Popen([*argv, str(SEED * 1000 + i), str(SECONDS)], stdout=subprocess.PIPE, text=True)
               for i in range(CLIENTS)]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end - 3:
        victim = subprocess.Popen([*argv, str(rng.randrange(1 << 30)), "60"], stdout=subprocess.DEVNULL)
        time.sleep(rng.random() * 2)
        victim.kill()
        victim.wait()
    for client in started:
        out, _ = client.communicate(timeout=SECONDS + 120)
        tap.ok(client.returncode == 0, f"a client among {CLIENTS}: {out.strip()}", out)
    tap.equal(daemon_pid(host), pid, "the daemon is the same")
    tap.equal(host.virsh("list --all", seconds=10).status, 0, "and serves")
    tap.ok(end_all(host.uri), "all domains end")
    files = [name for name in os.listdir(f"{host.root}/run/domus") if name not in ("last-domid", "migrate-sock")]
    stored = host.client("xenstore-list", "/local/domain").out.split()
    tap.equal(host.hv_pids() + files + stored, [], "nothing of them is left")
    tap.equal(os.listdir(f"{host.root}/etc/domus/xen/autostart"), [], "no autostart mark either")
    tap.ok(wait_for(lambda: usage(pid)[0] <= fds, 10), "no descriptor is left", (fds, usage(pid)[0]))


if sys.argv[1:2] == ["--hammer"]:
    sys.exit(hammer(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
with Host() as host:
    tinyguest.write(f"{host.root}/sleep", tinyguest.SLEEP)
    leaks(host)
    clients(host)
tap.done()
