#!/usr/bin/python3
"""Many clients call whatever libvirt's Python binding has, with arguments that may make sense, while clients, the daemon and
hypervisors get a SIGKILL at random moments. No call hangs or ends in an internal error, the daemon never ends by itself, no
domain is lost or changes its UUID, and at the end nothing is left: no process, no descriptor, no growing memory.

Settings, from the environment:
  SOAK_SECONDS  how long (20)
  SOAK_CLIENTS  how many at a time (5)
  SOAK_SEED     of everything that is random (1)
"""
import collections
import inspect
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import libvirt

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for

SECONDS, CLIENTS = int(os.environ.get("SOAK_SECONDS", "20")), int(os.environ.get("SOAK_CLIENTS", "5"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
KEPT = [f"kept{i}" for i in range(5)]
CALL_SECONDS = 90  # a job waits for another one for 30 s, and some do so more than once
MEMORY_KIB = 24 << 10  # what the daemon may have more at the end than when it was warm
# Calls that are none, that need another host or change this one, or that end what is to be kept.
NOT_CALLED = {"c_pointer", "connect", "FDAssociate", "openGraphics", "openGraphicsFD", "createWithFiles", "close",
              "nodeSuspendForDuration", "allocPages", "nodeSetMemoryParameters", "registerCloseCallback",
              "unregisterCloseCallback", "newStream", "setKeepAlive", "revertToSnapshot", "createXMLWithFiles", "setIdentity",
              "getURI", "domainListGetStats", "restore", "restoreFlags", "restoreParams", "migrate", "migrate2", "migrate3",
              "createXML", "virConnGetLastError", "virConnResetLastError", "getCellsFreeMemory"}
PREFIXES_NOT_CALLED = ("_", "migrateToURI", "domainEvent", "networkEvent", "storage", "nodeDevice", "secret", "nwfilter",
                       "interfaceChange", "interfaceDefine", "network", "saveImage")
# What libvirt, too, calls an internal error when an argument names what is not there.
NOT_INTERNAL = re.compile(r"cannot find character device|is not using a|No graphics backend|interface has MAC address|guest agent")
ENDS_DOMAIN = {"undefine", "undefineFlags", "rename"}

DISK = ("<disk type='file' device='disk'><driver type='raw'/><source file='{root}/{name}.img'/><target dev='{dev}'/></disk>")
NIC = "<interface type='user'><mac address='52:54:00:12:{a:02x}:{b:02x}'/></interface>"
CHANNEL = "<channel type='unix'><target type='xen' name='c.{a}'/></channel>"


class Arguments:
    """Values by the names that the binding gives its parameters."""

    def __init__(self, root, conn, rng):
        self.root, self.conn, self.rng = root, conn, rng
        self.by_name = {
            "flags": self.flags, "xml": self.device_xml, "xmlDesc": self.snapshot_xml, "dxml": lambda: None,
            "disk": self.disk, "path": self.disk, "dev": self.disk, "device": self.nic, "dev_name": lambda: None,
            "to": self.file, "params": self.params, "cpumap": lambda: (True, False), "vcpumap": lambda: "0",
            "st": self.stream, "stream": self.stream, "keycodes": lambda: [28], "nkeycodes": lambda: 1,
            "base": self.file, "top": self.file, "destxml": self.device_xml, "uri": lambda: "urn:soak", "key": lambda: "soak",
            "metadata": lambda: f"<x>{self.number()}</x>", "user": lambda: "root", "password": lambda: "x",
            "keys": lambda: None, "mountPoint": lambda: None, "mountpoints": lambda: None, "nvcpus": lambda: self.rng.randint(0, 5),
            "memory": lambda: self.rng.choice((0, 64 << 10, 100 << 10, 128 << 10, 1 << 40)), "name": lambda: self.rng.choice(KEPT),
            "total": lambda: self.rng.random() < 0.5, "uuidstr": lambda: self.rng.choice(KEPT), "cpu": lambda: None,
            "xmlCPUs": lambda: [], "nativeFormat": lambda: self.rng.choice(("xen-xl", "domus")), "doms": lambda: [],
            "nativeConfig": lambda: 'name = "x"\nmemory = 64\n', "domXML": self.device_xml, "emulator": lambda: None,
            "backupXML": lambda: "<domainbackup/>", "checkpointXML": lambda: None, "alias": lambda: f"disk{self.number() % 3}",
            "target": lambda: self.rng.randint(0, 3), "stats": lambda: 0, "pages": lambda: [4], "startCell": lambda: 0,
            "cellCount": lambda: 1, "cpuNum": lambda: -1, "cellNum": lambda: -1, "seconds": lambda: 1,
        }

    def number(self):
        return self.rng.choice((0, 1, 2, 3, 7, 100, 4096, -1, 1 << 20, (1 << 31) - 1))

    def flags(self):
        return self.rng.choice((0, 0, 0, 1, 2, 3, 4, 1 << self.rng.randint(0, 31)))

    def file(self):
        return f"{self.root}/out{self.rng.randint(0, 3)}"

    def disk(self):
        return self.rng.choice(("xvda", "xvdb", "xvdz", "vif0", self.root))

    def nic(self):
        return self.rng.choice(("vif0", "52:54:00:12:00:01", "xvda"))

    def stream(self):
        return self.conn.newStream(libvirt.VIR_STREAM_NONBLOCK)

    def params(self):
        return self.rng.choice(({}, {"weight": 100}, {"cpu_shares": 512}, {"total_bytes_sec": 1 << 20}, {"nonsense": 1},
                                {"hard_limit": 1 << 30}, {"vcpu_quota": 50000}))

    def device_xml(self):
        rng = self.rng
        text = rng.choice((DISK, DISK, NIC, CHANNEL, "<disk", "<cow/>", "<domain type='xen'><name>x</name></domain>"))
        return text.format(root=self.root, name=f"disk{rng.randint(0, 3)}", dev=rng.choice(("xvdb", "xvdc")), a=rng.randint(0, 2),
                           b=rng.randint(0, 2))

    def snapshot_xml(self):
        return self.rng.choice(("<domainsnapshot/>", "<domainsnapshot><name>s1</name></domainsnapshot>", "<cow/>"))

    def make(self, parameter):
        maker = self.by_name.get(parameter.name)
        if maker:
            return maker()
        return self.number()


def calls_of(kind):
    found = []
    for name, function in sorted(vars(kind).items()):
        if callable(function) and name not in NOT_CALLED and not name.startswith(PREFIXES_NOT_CALLED):
            found.append((name, list(inspect.signature(function).parameters.values())[1:]))
    return found


class Client:
    """One process: calls until it is killed, and tells of each call that failed as none should."""

    def __init__(self, uri, root, number, seed):
        self.uri, self.root, self.number = uri, root, number
        self.rng = random.Random(seed)
        self.conn = self.arguments = None
        self.began = None
        self.what = ""

    def tell(self, kind, text):
        print(json.dumps([kind, text]), flush=True)

    def watch(self):
        while True:
            time.sleep(1)
            if self.began and time.monotonic() - self.began > CALL_SECONDS:
                self.tell("hangs", self.what)
                self.began = None

    def connect(self):
        self.conn = libvirt.open(self.uri)
        self.arguments = Arguments(self.root, self.conn, self.rng)
        if self.rng.random() < 0.5:
            for event in (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_ID_TUNABLE,
                          libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED):
                self.conn.domainEventRegisterAny(None, event, lambda *_: None, None)

    def churn(self):
        """A domain of our own: defined, or made to run at once."""
        name = f"own{self.number}-{self.rng.randint(0, 2)}"
        with open(f"{self.root}/template.xml") as f:
            xml = f.read().replace("TEMPLATE", name)
        if self.rng.random() < 0.3:
            self.conn.createXML(xml, self.rng.choice((0, 1, 2)))
        else:
            self.conn.defineXML(xml)

    def call(self, target, calls):
        name, parameters = self.rng.choice(calls)
        required = [p for p in parameters if p.default is p.empty]
        optional = [p for p in parameters if p.default is not p.empty]
        values = [self.arguments.make(p) for p in required + optional[:self.rng.randint(0, len(optional))]]
        self.what = f"{name}{tuple(values)}"
        getattr(target, name)(*values)

    def once(self):
        if not self.conn or not self.conn.isAlive():
            self.connect()
        self.what = "churn"
        kind = self.rng.random()
        if kind < 0.1:
            self.churn()
        elif kind < 0.25:
            self.call(self.conn, CONNECTION_CALLS)
        else:
            self.what = "lookup"
            names = [d.name() for d in self.conn.listAllDomains() if d.name().startswith((f"own{self.number}-", "kept"))]
            name = self.rng.choice(names)
            domain = self.conn.lookupByName(name)
            if kind < 0.4 and not domain.isActive():
                self.what = "create"
                domain.create()
            else:
                self.call(domain, KEPT_CALLS if name in KEPT else DOMAIN_CALLS)

    def run(self):
        libvirt.registerErrorHandler(lambda *_: None, None)
        libvirt.virEventRegisterDefaultImpl()

        def events():
            while True:
                libvirt.virEventRunDefaultImpl()

        for loop in (events, self.watch):
            threading.Thread(target=loop, daemon=True).start()
        while True:
            self.began = time.monotonic()
            try:
                self.once()
                self.tell("ok", self.what.split("(")[0])
            except libvirt.libvirtError as e:
                self.tell("refused", self.what.split("(")[0])
                if e.get_error_code() == libvirt.VIR_ERR_INTERNAL_ERROR and not NOT_INTERNAL.search(str(e)) and \
                        e.get_error_domain() not in (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_NONE):
                    self.tell("internal", f"{self.what}: {e}")
                if e.get_error_domain() == libvirt.VIR_FROM_RPC:
                    self.conn = None
                    time.sleep(0.2)
            except (OverflowError, TypeError, ValueError, AttributeError, LookupError, SystemError,
                    MemoryError):
                pass  # the binding's own
            self.began = None


DOMAIN_CALLS, CONNECTION_CALLS = calls_of(libvirt.virDomain), calls_of(libvirt.virConnect)
KEPT_CALLS = [call for call in DOMAIN_CALLS if call[0] not in ENDS_DOMAIN]


class Clients:
    """The client processes, and what they tell."""

    def __init__(self, host, rng):
        self.host, self.rng, self.running = host, rng, {}
        self.told, self.counts = collections.defaultdict(list), {"ok": collections.Counter(), "refused": collections.Counter()}

    def start(self, number):
        process = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--client", self.host.uri, self.host.root, str(number),
                                    str(self.rng.random())], stdout=subprocess.PIPE, text=True)
        reader = threading.Thread(target=self.read, args=(process,))
        reader.start()
        self.running[number] = (process, reader)

    def read(self, process):
        for line in process.stdout:
            try:
                kind, text = json.loads(line)
            except ValueError:
                continue  # killed in the middle of it
            if kind in self.counts:
                self.counts[kind][text] += 1
            else:
                self.told[kind].append(text)

    def kill(self, number):
        process, reader = self.running.pop(number)
        process.kill()
        process.wait()
        reader.join()


def daemon_uses(host):
    pid = host.daemon.pid
    with open(f"/proc/{pid}/status") as f:
        memory = int(next(line for line in f if line.startswith("VmRSS")).split()[1])
    return len(os.listdir(f"/proc/{pid}/fd")), memory


def domains(host):
    listed = [line.split() for line in host.virsh("list --all --uuid --name").out.splitlines()]
    return {parts[1]: parts[0] for parts in listed if len(parts) == 2}


def sweep(host):
    for name in domains(host):
        host.virsh(f"destroy {name}")
        if name not in KEPT:
            host.virsh(f"undefine {name} --managed-save --snapshots-metadata")
    return not host.hv_pids() and sorted(domains(host)) == KEPT


def clear(host):
    """Ends what clients made, and what runs; a client that was killed may have had a job that still makes something."""
    return wait_for(lambda: sweep(host), 60, 0.5)


def trouble(host, clients, rng):
    """One of the things that can happen to a host."""
    kind = rng.random()
    if kind < 0.6:
        number = rng.choice(list(clients.running))
        clients.kill(number)
        clients.start(number)
    elif kind < 0.8:
        pids = host.hv_pids()
        if pids:
            os.kill(rng.choice(pids), signal.SIGKILL)
    else:
        host.stop(signal.SIGKILL)
        host.start()
        return 1
    return 0


def soak(host):
    rng = random.Random(SEED)
    clients, restarts, ended = Clients(host, rng), 0, []
    uuids = domains(host)
    end = time.monotonic() + SECONDS
    for number in range(CLIENTS):
        clients.start(number)
    while time.monotonic() < end:
        time.sleep(rng.uniform(1, 5))
        if host.daemon.poll() is not None:
            ended.append(host.daemon.returncode)
            host.start()
        restarts += trouble(host, clients, rng)
        now = domains(host)
        lost = [name for name in KEPT if now.get(name) != uuids[name]]
        if lost:
            ended.append(f"lost: {lost}")
            break
    for number in list(clients.running):
        clients.kill(number)
    for kind, counts in clients.counts.items():
        tap.note(f"{sum(counts.values())} calls of {len(counts)} kinds: {kind}")
    tap.note(f"the daemon was killed {restarts} times")
    tap.equal(ended, [], "the daemon never ends by itself, and no domain is lost")
    for kind, what in (("internal", "ends in an internal error"), ("hangs", "hangs")):
        tap.ok(not clients.told[kind], f"no call {what}", "\n".join(sorted(set(clients.told[kind]))[:40]))
    tap.ok(len(clients.counts["ok"]) > 10, "many kinds of calls work", clients.counts)


def main():
    with Host() as host:
        for number in range(4):
            with open(f"{host.root}/disk{number}.img", "wb") as f:
                f.truncate(8 << 20)
        host.write_xml(host.xml(name="TEMPLATE", memory_mib=128, vcpus=2), "template.xml")
        for name in KEPT:
            host.define(name=name, memory_mib=128, vcpus=2)
        soak(host)
        tap.ok(clear(host), "all domains end, and only those that are kept are there", host.virsh("list --all").out)
        tap.equal(host.stop(), 0, "the daemon ends when it is told to")
        host.start()
        fds, memory = daemon_uses(host)
        again(host, fds, memory)
        for name in KEPT:
            host.virsh(f"undefine {name} --managed-save --snapshots-metadata")
        tap.equal(domains(host), {}, "what was kept can be undefined")
    tap.done()


def again(host, fds, memory):
    """The daemon in one piece: what it has after it served clients, against what it had when it was new."""
    rng = random.Random(SEED + 1)
    clients = Clients(host, rng)
    for number in range(CLIENTS):
        clients.start(number)
    time.sleep(max(SECONDS / 4, 5))
    for number in list(clients.running):
        clients.kill(number)
    tap.ok(clear(host), "all domains end again")
    left = wait_for(lambda: daemon_uses(host)[0] <= fds, 40)
    tap.ok(left, "no descriptor is left open", f"{fds} before, {daemon_uses(host)[0]} after:\n" + subprocess.run(
        ["ls", "-l", f"/proc/{host.daemon.pid}/fd"], stdout=subprocess.PIPE, text=True).stdout)
    now = daemon_uses(host)[1]
    tap.ok(now < memory + MEMORY_KIB, "memory does not grow", f"{memory} KiB before, {now} KiB after")


if len(sys.argv) > 1 and sys.argv[1] == "--client":
    Client(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]).run()
else:
    main()
