#!/usr/bin/python3
"""Lifecycle of a running guest: pause, reboot, crash, destroy, autostart, events, and a killed daemon."""
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Console, Host, alive, wait_for

UP = r"guest: up after"


def events_of(watcher, pattern, seconds=60):
    return watcher.expect(pattern, seconds)


def watch(host):
    """`virsh event --all --loop` that is known to be registered: it has told of a domain defined just for it."""
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop", "--timestamp"],
                      dict(os.environ, LC_ALL="C.UTF-8"))
    path = host.write_xml(host.xml(name="probe"), "probe.xml")

    def seen():
        host.virsh_args("define", path)
        host.virsh("undefine probe")
        return watcher.expect(r"'probe': Undefined", 1)

    if not wait_for(seen, 30):
        raise RuntimeError("virsh event hears nothing: " + watcher.text)
    return watcher


with Host() as host:
    watcher = watch(host)
    host.define(name="g1")
    tap.ok(events_of(watcher, r"event 'lifecycle' for domain 'g1': Defined Added"), "event: defined", watcher.text)

    tap.equal(host.virsh("start g1 --paused").status, 0, "start --paused")
    tap.equal(host.state("g1"), "paused", "it is paused")
    tap.ok(events_of(watcher, r"'g1': Started Booted"), "event: started", watcher.text)
    tap.equal(host.virsh("resume g1").status, 0, "resume")
    tap.ok(events_of(watcher, r"'g1': Resumed Unpaused"), "event: resumed", watcher.text)
    with host.console("g1") as console:
        tap.ok(console.expect(UP), "a guest started paused boots after resume", console.text[-2000:])

        second = host.console("g1")
        tap.ok(second.expect(r"error: .*[Aa]ctive console session exists", 20), "a second console is refused",
               second.text)
        second.close()
        forced = host.console("g1", "--force")
        tap.ok(forced.expect(r"Connected to domain", 20), "unless forced", forced.text)
        tap.ok(console.wait() is not None, "which ends the first one", console.text[-500:])
        forced.close()

    # Suspend stops the guest's work.
    tap.equal(host.virsh("suspend g1").status, 0, "suspend")
    tap.contains(host.virsh("domstate g1 --reason").out, "paused (user)", "paused by the user")
    first = host.virsh("domstats g1 --cpu-total").out
    second = host.virsh("domstats g1 --cpu-total").out
    tap.equal(first, second, "a paused guest uses no CPU time")
    tap.equal(host.virsh("resume g1").status, 0, "resume")
    tap.contains(host.virsh("domstate g1 --reason").out, "running (unpaused)", "running again")

    # Reboot: a new domain ID, the guest boots again.
    before = host.virsh("domid g1").out.strip()
    tap.equal(host.virsh("reboot g1").status, 0, "reboot")
    tap.ok(wait_for(lambda: host.virsh("domid g1").out.strip() not in (before, "-", ""), 120),
           "the domain comes back with a new ID")
    with host.console("g1") as console:
        tap.ok(console.expect(UP), "and boots again", console.text[-2000:])

        # kill -9 of the daemon: the guest does not notice; a new daemon finds it.
        domid = host.virsh("domid g1").out.strip()
        pids = host.hv_pids()
        tap.equal(len(pids), 1, "one hypervisor process for one domain")
        host.stop(signal.SIGKILL)
        tap.ok(all(alive(pid) for pid in pids), "the guest outlives a killed daemon")
    host.start()
    tap.equal(host.state("g1"), "running", "a new daemon finds it running")
    tap.equal(host.virsh("domid g1").out.strip(), domid, "as the same domain")
    tap.equal(host.hv_pids(), pids, "in the same process")
    with host.console("g1") as console:
        tap.ok(console.prompt(), "its console works")
        tap.contains(console.run("echo still here") or "", "still here", "the guest answers")

        # The store daemon dies too: restarted, with its tree, and the guest's connection to it.
        (store,) = host.processes("domus-xenstored")
        os.kill(store, signal.SIGKILL)
        tap.ok(wait_for(lambda: host.processes("domus-xenstored") not in ([], [store]), 30),
               "a killed store daemon is started again")
        tap.ok(wait_for(lambda: host.client("xenstore-read", f"/local/domain/{domid}/name").out.strip() == "g1", 20),
               "with the tree it had")

    watcher.close()
    watcher = watch(host)
    with host.console("g1") as console:
        console.prompt()
        # A guest crash: on_crash is destroy.
        console.send("echo c > /proc/sysrq-trigger\n")
        tap.ok(wait_for(lambda: host.state("g1") == "shut off", 120), "a panic ends the domain")
    tap.contains(host.virsh("domstate g1 --reason").out, "shut off (crashed)", "as crashed")
    tap.ok(events_of(watcher, r"'g1': Stopped Crashed"), "event: crashed", watcher.text)

    # After the store was restarted, a guest still hears of a shutdown request.
    tap.equal(host.virsh("start g1").status, 0, "start again")
    with host.console("g1") as console:
        console.expect(UP)
        (store,) = host.processes("domus-xenstored")
        os.kill(store, signal.SIGKILL)
        wait_for(lambda: host.processes("domus-xenstored") not in ([], [store]), 30)
        tap.equal(host.virsh("shutdown g1").status, 0, "shutdown after the store was killed")
        tap.ok(wait_for(lambda: host.state("g1") == "shut off", 120), "the guest hears it", console.text[-2000:])

    # Killing the hypervisor process is seen at once.
    host.virsh("start g1")
    (pid,) = host.hv_pids()
    os.kill(pid, signal.SIGKILL)
    tap.ok(wait_for(lambda: host.state("g1") == "shut off", 30), "a killed hypervisor ends its domain")
    tap.ok(re.search(r"shut off \((failed|crashed)\)", host.virsh("domstate g1 --reason").out), "with a reason")

    # Transient domains leave nothing; destroy works at any time.
    path = host.write_xml(host.xml(name="t1"))
    tap.equal(host.virsh_args("create", path).status, 0, "create makes a transient domain")
    tap.contains(host.virsh("dominfo t1").out, "Persistent:     no", "it is not persistent")
    tap.equal(host.virsh("destroy t1").status, 0, "destroy while it boots")
    tap.ok(host.virsh("domstate t1").status != 0, "nothing is left of it")

    # Autostart.
    tap.equal(host.virsh("autostart g1").status, 0, "autostart")
    host.stop()
    host.start()
    tap.ok(wait_for(lambda: host.state("g1") == "running", 30), "autostarted with the daemon")
    watcher.close()
    watcher = watch(host)
    tap.equal(host.virsh("autostart g1 --disable").status, 0, "autostart --disable")
    tap.equal(host.virsh("destroy g1").status, 0, "destroy")
    tap.contains(host.virsh("domstate g1 --reason").out, "shut off (destroyed)", "destroyed")
    tap.ok(events_of(watcher, r"'g1': Stopped Destroyed"), "event: destroyed", watcher.text)
    watcher.close()
tap.done()
