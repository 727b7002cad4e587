#!/usr/bin/python3
"""Running domains: start, states, lifecycle actions, auto-destroy, a killed daemon or process; with tiny guests."""
import glob
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "tests", "lib")]
if os.path.exists("libxldrv/domusd"):
    os.environ.setdefault("DOMUS_BUILD", os.getcwd())
import libvirt
import tap
import tinyguest
from host import Console, Host, alive, wait_for

libvirt.registerErrorHandler(lambda *_: None, None)

XML = """<domain type='xen'><name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>16</memory><vcpu>{vcpus}</vcpu>
  <os><type arch='x86_64' machine='xenpvh'>xenpvh</type><kernel>{kernel}</kernel></os>
  <on_poweroff>{poweroff}</on_poweroff><on_reboot>{reboot}</on_reboot><on_crash>{crash}</on_crash>
  <devices><console type='{console}'>{source}</console></devices></domain>"""


def xml(host, name, guest, vcpus=1, poweroff="destroy", reboot="restart", crash="destroy", console="pty", source=""):
    return XML.format(name=name, uuid=uuid.uuid5(uuid.NAMESPACE_DNS, name), kernel=f"{host.root}/{guest}", vcpus=vcpus, poweroff=poweroff, reboot=reboot,
                      crash=crash, console=console, source=source)


def define(host, *args, **options):
    return host.virsh_args("define", host.write_xml(xml(host, *args, **options)))


def reason(host, name):
    return host.virsh(f"domstate --reason {name}").out.strip()


OWN_FILES = ("last-domid", "migrate-sock")  # the daemon's


def leftovers(host):
    """What running domains have on the host, which must go with them."""
    files = [name for name in os.listdir(f"{host.root}/run/domus") if name not in OWN_FILES]
    return host.hv_pids() + files + host.client("xenstore-list", "/local/domain").out.split() + \
        host.client("xenstore-list", "/vm").out.split() + host.client("xenstore-list", "/libxl").out.split()


def states(host):
    define(host, "spin", "spin", vcpus=2)
    tap.equal(host.virsh("start spin").status, 0, "start")
    tap.equal(reason(host, "spin"), "running (booted)", "running (booted)")
    tap.contains(host.virsh("start spin").err, "already active", "start of what runs fails")
    first = int(host.virsh("domid spin").out)
    tap.ok(first >= 1, "it has an id")
    for node, value in [("name", "spin"), ("memory/target", "16384"), ("cpu/1/availability", "online")]:
        tap.equal(host.client("xenstore-read", f"/local/domain/{first}/{node}").out.strip(), value,
                  f"store: {node}")
    tap.ok(wait_for(lambda: float(re.search(r"cpu.time=(\d+)", host.virsh("domstats spin").out).group(1)) > 1e6),
           "CPU time goes up")
    tap.equal(host.virsh("suspend spin").status, 0, "suspend")
    tap.equal(host.virsh("suspend spin").status, 0, "twice does no harm")
    tap.equal(reason(host, "spin"), "paused (user)", "paused (user)")
    tap.equal(host.virsh("list --state-paused --name").out.split(), ["spin"], "list --state-paused")
    tap.equal(host.virsh("resume spin").status, 0, "resume")
    tap.equal(reason(host, "spin"), "running (unpaused)", "running (unpaused)")
    tap.equal(host.virsh("domcontrol spin").out.strip(), "ok", "domcontrol")
    tap.ok(re.search(r"actual 16384\n.*rss \d+", host.virsh("dommemstat spin").out), "dommemstat")
    tap.ok(re.search(r"VCPU: +0\nCPU: +\d+\nState: +running", host.virsh("vcpuinfo spin").out), "vcpuinfo")
    tap.ok(re.search(r"maximum +live +2\n", host.virsh("vcpucount spin").out), "vcpucount")
    tap.ok(re.search(r"Scheduler +: posix\ncpu_shares +: 1024", host.virsh("schedinfo spin").out), "schedinfo")
    tap.equal(host.virsh("desc spin --live --title running").status, 0, "a title for now")
    tap.ok("<title>" not in host.virsh("dumpxml spin --inactive").out, "not for the next start")
    define(host, "spin", "spin", vcpus=1, crash="preserve")
    tap.contains(host.virsh("dumpxml spin").out, ">2</vcpu>", "a new definition does not change what runs")
    tap.contains(host.virsh("dumpxml spin --inactive").out, ">1</vcpu>", "but the next start")
    tap.contains(host.virsh("domrename spin other").err, "active", "a running domain keeps its name")
    tap.equal(host.virsh("undefine spin").status, 0, "undefine of what runs")
    tap.contains(host.virsh("dominfo spin").out, "Persistent:     no", "makes it transient")
    tap.equal(host.virsh("destroy spin --graceful").status, 0, "destroy")
    tap.ok(host.virsh("domstate spin").status != 0, "and then it is gone")
    tap.equal(leftovers(host), [], "all of it")


def endings(host):
    """Guest, its lifecycle actions, the state afterwards, the last event; None: it comes back as another id."""
    rows = [("poweroff", {}, "shut off (shutdown)", "Stopped Shutdown"),
            ("poweroff", {"poweroff": "preserve"}, "in shutdown (unknown)", "Shutdown Finished"),
            ("poweroff", {"poweroff": "restart"}, None, None),
            ("reboot", {}, None, None),
            ("reboot", {"reboot": "destroy"}, "shut off (shutdown)", "Stopped Shutdown"),
            ("crash", {}, "shut off (crashed)", "Stopped Crashed"),
            ("crash", {"crash": "preserve"}, "crashed (panicked)", "Crashed Panicked"),
            ("crash", {"crash": "restart"}, None, None),
            ("watchdog", {"crash": "preserve"}, "crashed (panicked)", "Crashed Panicked")]
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    for number, (guest, actions, state, event) in enumerate(rows):
        name = f"end{number}"
        what = f"{guest}, {actions or 'defaults'}"
        define(host, name, guest, **actions)
        tap.equal(host.virsh(f"start {name}").status, 0, f"{what}: start")
        if state:
            tap.ok(wait_for(lambda: reason(host, name) == state), f"{what}: {state}", reason(host, name))
            if number > 1:
                tap.ok(watcher.expect(f"'{name}': {event}", 10), f"{what}: {event}", watcher.text)
        else:
            ids = set()
            tap.ok(wait_for(lambda: ids.add(host.virsh(f"domid {name}").out.strip()) or len(ids - {"-", ""}) > 2),
                   f"{what}: comes back with other ids", ids)
            tap.ok(watcher.expect(f"'{name}': Stopped .*(\n.*)*'{name}': Started Booted", 10),
                   f"{what}: events", watcher.text)
        if state and "preserve" in actions.values():
            tap.contains(host.virsh(f"suspend {name}").err, "not running", f"{what}: no good for anything")
            tap.equal(host.virsh(f"destroy {name}").status, 0, f"{what}: but destroy")
        elif not state:
            tap.ok(wait_for(lambda: host.virsh(f"destroy {name}").status == 0), f"{what}: destroy")
        host.virsh(f"undefine {name}")
    tap.ok(watcher.expect("event 'reboot' for domain 'end3'", 10), "event: reboot", watcher.text)
    tap.ok(watcher.expect("event 'watchdog' for domain 'end8': pause", 10), "event: watchdog", watcher.text)
    watcher.close()
    tap.equal(leftovers(host), [], "nothing of them is left")


def no_such_power(host):
    """What a PVH guest cannot is refused by name, and it runs on."""
    define(host, "awake", "sleep")
    host.virsh("start awake")
    for command, words in [("dompmsuspend awake mem", "no ACPI sleep states"), ("dompmwakeup awake", "not in pmsuspended state"),
                           ("send-key awake KEY_A", "no keyboard"), ("shutdown awake --mode acpi", "modes 'paravirt' and 'agent' only"),
                           ("shutdown awake --mode agent", "agent is not configured"), ("reboot awake --mode initctl", "'paravirt'")]:
        result = host.virsh(command)
        tap.ok(result.status == 1 and words in result.err, command, result)
    tap.equal(host.virsh("shutdown awake --mode paravirt").status, 0, "shutdown --mode paravirt asks")
    tap.equal(reason(host, "awake"), "running (booted)", "it runs on")
    host.virsh("destroy awake")
    tap.contains(host.virsh("send-key awake KEY_A").err, "not running", "one that does not run has no keys either")
    host.virsh("undefine awake")


def consoles(host):
    define(host, "cons", "sleep")
    host.virsh("start cons")
    tty = host.virsh("ttyconsole cons").out.strip()
    tap.ok(re.fullmatch(r"/dev/pts/\d+", tty), "ttyconsole", tty)
    connection = libvirt.open(host.uri)
    domain = connection.lookupByName("cons")
    tap.contains(domain.XMLDesc(), "<alias name='console0'/>", "an alias")
    named = connection.newStream()
    domain.openConsole("console0", named)
    named.abort()
    first, second = connection.newStream(), connection.newStream()
    domain.openConsole(None, first)
    try:
        domain.openConsole(None, second)
        tap.ok(False, "a second console is refused")
    except libvirt.libvirtError as error:
        tap.equal(error.get_error_code(), libvirt.VIR_ERR_OPERATION_FAILED, "a second console is refused")
    third = connection.newStream()
    domain.openConsole(None, third, libvirt.VIR_DOMAIN_CONSOLE_FORCE)
    tap.ok(True, "unless forced")
    try:
        first.recv(1)
        tap.ok(False, "which ends the first")
    except libvirt.libvirtError:
        tap.ok(True, "which ends the first")
    third.abort()
    tap.ok(wait_for(lambda: host.console("cons").expect("Connected to domain", 2)), "after an abort it is free")
    connection.close()
    host.virsh("destroy cons")
    path = f"{host.root}/console.log"
    define(host, "cons", "sleep", console="file", source=f"<source path='{path}'/>")
    tap.equal(host.virsh("start cons").status, 0, "a console of type file")
    tap.ok(os.path.exists(path), "has its file")
    tap.ok(host.virsh("console cons").status != 0, "and cannot be opened")
    host.virsh("destroy cons")
    define(host, "cons", "sleep", console="file", source="<source path='/nonexistent/console.log'/>")
    tap.contains(host.virsh("start cons").err, "/nonexistent/console.log", "a file that cannot be made is named")
    host.virsh("undefine cons")
    tap.equal(leftovers(host), [], "nothing is left")


def clients_that_go(host):
    connection = libvirt.open(host.uri)
    connection.createXML(xml(host, "auto", "sleep"), libvirt.VIR_DOMAIN_START_AUTODESTROY)
    tap.equal(host.state("auto"), "running", "a domain that goes with its client")
    connection.close()
    tap.ok(wait_for(lambda: host.virsh("domstate auto").status != 0), "goes with its client")
    kept = libvirt.open(host.uri)
    kept.createXML(xml(host, "auto", "sleep"), libvirt.VIR_DOMAIN_START_AUTODESTROY)
    host.stop(signal.SIGKILL)
    host.start()
    tap.ok(host.virsh("domstate auto").status != 0, "or with the daemon")
    tap.equal(leftovers(host), [], "nothing is left")


def clients_that_do_not_wait(host):
    """The client of an auto-destroy domain goes while it is being started: the store, which is stopped meanwhile,
    holds the start up."""
    (store,) = host.processes("domus-xenstored")
    program = "import libvirt, sys; libvirt.open(sys.argv[1]).createXML(sys.argv[2], 2)"
    os.kill(store, signal.SIGSTOP)
    client = subprocess.Popen([sys.executable, "-c", program, host.uri, xml(host, "early", "sleep")])
    tap.ok(wait_for(host.hv_pids), "a start that takes long")
    client.kill()
    client.wait()
    time.sleep(0.3)
    os.kill(store, signal.SIGCONT)
    tap.ok(wait_for(lambda: leftovers(host) == []), "does not outlive a client that goes meanwhile", leftovers(host))


def again_and_again(host):
    """A guest that ends as soon as it was started is not started for ever as fast as it goes."""
    define(host, "again", "poweroff", poweroff="restart")
    host.virsh("start again")
    tap.ok(wait_for(lambda: reason(host, "again") == "in shutdown (unknown)"), "it waits for its restart")
    first = int(host.virsh("domid again").out)
    time.sleep(1)
    tap.equal(int(host.virsh("domid again").out), first, "for a while")
    tap.ok(wait_for(lambda: host.virsh("domid again").out.strip() not in ("-", "", str(first)), 10), "which ends")
    tap.ok(wait_for(lambda: host.virsh("destroy again").status == 0, 5), "destroy ends the waiting")
    time.sleep(3)
    tap.equal(reason(host, "again"), "shut off (destroyed)", "for good")
    tap.equal(host.virsh("start again").status, 0, "and a start is a new beginning")
    tap.ok(wait_for(lambda: int(host.virsh("domid again").out.replace("-", "0")) > first + 4, 5), "with prompt restarts")
    tap.ok(wait_for(lambda: host.virsh("destroy again").status == 0, 5), "destroy")
    host.virsh("undefine again")
    tap.equal(leftovers(host), [], "nothing is left")


def killed(host):
    host.virsh_args("create", host.write_xml(xml(host, "transient", "sleep")))
    define(host, "paused", "spin")
    define(host, "ends", "sleep")
    host.virsh("start paused --paused")
    host.virsh("start ends")
    before = {name: host.virsh(f"dumpxml {name}").out for name in ["transient", "paused"]}
    pids = sorted(host.hv_pids())
    host.stop(signal.SIGKILL)
    tap.equal(sorted(host.hv_pids()), pids, "domains outlive a killed daemon")
    by_name = {re.search(r"<uuid>(.*)</uuid>", text).group(1): name for name, text in before.items()}
    for path in glob.glob(f"{host.root}/run/domus/*.process"):
        if os.path.basename(path).removesuffix(".process") not in by_name:
            with open(path) as f:
                victim = int(f.read().split()[0])
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: not alive(victim))
    host.start()
    for name, text in before.items():
        tap.equal(host.virsh(f"dumpxml {name}").out, text, f"{name}: found again as it was")
    tap.equal(reason(host, "transient"), "running (booted)", "transient: state")
    tap.equal(reason(host, "paused"), "paused (user)", "paused: state")
    tap.equal(reason(host, "ends"), "shut off (crashed)", "one whose process ended meanwhile is shut off")
    tap.equal(host.virsh("resume paused").status, 0, "paused: resume")
    tap.equal(host.virsh("destroy transient").status, 0, "transient: destroy")
    (pid,) = host.hv_pids()
    os.kill(pid, signal.SIGKILL)
    tap.ok(wait_for(lambda: reason(host, "paused") == "shut off (crashed)"), "a process of another parent is watched")
    for name in ["paused", "ends"]:
        host.virsh(f"undefine {name}")
    tap.equal(leftovers(host), [], "nothing is left")


def bound(host):
    """A cpuset is what the threads of the domain may use."""
    text = xml(host, "bound", "sleep", vcpus=2).replace("<vcpu>", "<vcpu cpuset='0'>")
    tap.equal(host.virsh_args("create", host.write_xml(text)).status, 0, "create with a cpuset")
    (pid,) = host.hv_pids()
    masks = {os.sched_getaffinity(int(task)) == {0} for task in os.listdir(f"/proc/{pid}/task")}
    tap.equal(masks, {True}, "binds all threads")
    tap.ok(re.search(r" 0 +0\n 1 +0\n", host.virsh("vcpupin bound").out), "vcpupin", host.virsh("vcpupin bound").out)
    tap.ok(re.search(r"CPU Affinity: +y-*\n", host.virsh("vcpuinfo bound").out), "vcpuinfo")
    host.virsh("destroy bound")
    tap.contains(host.virsh_args("create", host.write_xml(text.replace("'0'", "'65535'"))).err,
                 "cannot use cpuset '65535'", "CPUs that are not there are named")
    tap.equal(leftovers(host), [], "nothing is left")


def lost(host):
    """A domain whose status file cannot be read is not started a second time beside itself."""
    define(host, "lost", "sleep")
    host.virsh("start lost")
    (pid,) = host.hv_pids()
    host.stop(signal.SIGKILL)
    with open(f"{host.root}/run/domus/lost.status.xml", "w") as f:
        f.write("<domstatus")
    host.start()
    (first,) = host.client("xenstore-list", "/local/domain").out.split()
    tap.equal(host.virsh("domstate lost").out.strip(), "shut off", "a domain that the daemon has lost")
    tap.contains(host.virsh("start lost").err, f"still runs as process {pid}", "is not started again")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not alive(pid))
    tap.equal(host.virsh("start lost").status, 0, "until it has ended")
    host.virsh("destroy lost")
    host.virsh("undefine lost")
    for path in [f"/local/domain/{first}", f"/libxl/{first}"]:
        host.client("xenstore-rm", path)
    tap.equal(leftovers(host), [], "nothing else is left")


def logs(host):
    """The log of a domain does not grow for ever over its starts."""
    define(host, "chatty", "sleep")
    path = f"{host.root}/var/log/domus/chatty.log"
    with open(path, "wb") as f:
        f.write(b"x" * (3 << 20))
    host.virsh("start chatty")
    tap.ok(os.path.getsize(path) < 1 << 20, "a long log is put aside at the next start")
    tap.equal(os.path.getsize(path + ".old"), 3 << 20, "under another name")
    host.virsh("destroy chatty")
    host.virsh("undefine chatty")


def full_disk(host):
    """What cannot be written is refused and nothing has changed, there and in the daemon."""
    folder = f"{host.root}/etc/domus/xen"
    host.stop()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", folder], stderr=subprocess.DEVNULL).returncode:
        tap.note("no full disk without the right to mount one")
        host.start()
        return
    try:
        host.start()
        results = [define(host, f"full{i}", "sleep") for i in range(12)]
        tap.ok(any("No space left" in result.err for result in results), "a full disk is named")
        kept = [f"full{i}" for i, result in enumerate(results) if result.status == 0]
        tap.equal(sorted(host.virsh("list --all --name").out.split()), sorted(kept), "what was refused is not there")
        tap.equal(sorted(os.listdir(folder)), sorted(["autostart"] + [f"{name}.xml" for name in kept]), "nor its files")
        before = host.virsh(f"dumpxml {kept[0]}").out
        tap.ok(host.virsh_args("desc", kept[0], "--config", "x" * 40000).status != 0, "a change is refused as well")
        tap.ok(host.virsh(f"domrename {kept[0]} other").status != 0, "so is a rename")
        tap.equal(host.virsh(f"dumpxml {kept[0]}").out, before, "and all is as it was")
    finally:
        host.stop()
        subprocess.run(["umount", folder], check=True)
        host.start()


def store_ends(host):
    """The store daemon is there for its other users also where no domain runs."""
    (store,) = host.processes("domus-xenstored")
    os.kill(store, signal.SIGKILL)
    tap.ok(wait_for(lambda: [pid for pid in host.processes("domus-xenstored") if pid != store and alive(pid)], 15),
           "the store daemon comes back")
    tap.ok(wait_for(lambda: host.client("xenstore-list", "/").status == 0), "and serves")


def stuck(host):
    """A hypervisor that does not answer makes its own domain's calls fail, and no others."""
    define(host, "stuck", "sleep")
    define(host, "well", "sleep")
    host.virsh("start stuck")
    (pid,) = host.hv_pids()
    host.virsh("start well")
    os.kill(pid, signal.SIGSTOP)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(host.virsh("suspend stuck").err))
    waiting.start()
    tap.equal(host.virsh("domstats well --cpu-total", seconds=5).status, 0, "others are served meanwhile")
    tap.equal(host.virsh("domstate stuck", seconds=5).out.strip(), "running", "its state can be asked")
    crowd = [threading.Thread(target=host.virsh, args=("dominfo stuck",)) for _ in range(30)]
    for thread in crowd:
        thread.start()
    time.sleep(1)
    tap.ok(wait_for(lambda: host.virsh("domstats --state well", seconds=15).status == 0, 15),
           "also while many ask for the stuck one")
    for thread in crowd:
        thread.join(30)
    tap.ok(not any(thread.is_alive() for thread in crowd), "who get an answer")
    waiting.join(60)
    tap.ok("does not answer" in answers[0], "its own calls end with an error", answers)
    started = time.monotonic()
    tap.equal(host.virsh("dominfo stuck", seconds=10).status, 0, "then it is known")
    tap.ok(time.monotonic() - started < 3, "and nobody waits any more", time.monotonic() - started)
    host.stop(signal.SIGKILL)
    started = time.monotonic()
    host.start()
    tap.ok(time.monotonic() - started < 10, "a new daemon does not wait for it", time.monotonic() - started)
    tap.equal(host.virsh("list --name").out.split(), ["stuck", "well"], "but has found it again")
    tap.equal(host.virsh("domstats well --cpu-total", seconds=5).status, 0, "beside the others")
    tap.equal(host.virsh("destroy stuck", seconds=60).status, 0, "destroy helps")
    host.virsh("destroy well")
    for name in ["stuck", "well"]:
        host.virsh(f"undefine {name}")
    tap.equal(leftovers(host), [], "nothing is left")


def many(host):
    count = 12
    names = [f"many{i}" for i in range(count)]

    def create(name):
        host.virsh_args("create", host_file(host, name))

    threads = [threading.Thread(target=create, args=(name,)) for name in names for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tap.equal(sorted(host.virsh("list --name").out.split()), sorted(names), "started at once, each once")
    tap.equal(len(host.hv_pids()), count, "with one process each")
    ids = host.virsh("list --id").out.split()
    tap.equal(len(set(ids)), count, "and an id each")
    for name in names:
        host.virsh(f"destroy {name}")
    tap.equal(leftovers(host), [], "nothing is left")


def host_file(host, name):
    path = f"{host.root}/{name}.xml"
    if not os.path.exists(path):
        with open(path, "w") as f:
            f.write(xml(host, name, "sleep"))
    return path


with Host() as host:
    for name, code in [("spin", tinyguest.SPIN), ("sleep", tinyguest.SLEEP),
                       ("poweroff", tinyguest.shut_down(tinyguest.POWEROFF)),
                       ("reboot", tinyguest.shut_down(tinyguest.REBOOT)),
                       ("crash", tinyguest.shut_down(tinyguest.CRASH)), ("watchdog", tinyguest.watchdog(1))]:
        tinyguest.write(f"{host.root}/{name}", code)
    states(host)
    endings(host)
    consoles(host)
    no_such_power(host)
    clients_that_go(host)
    clients_that_do_not_wait(host)
    again_and_again(host)
    killed(host)
    bound(host)
    lost(host)
    logs(host)
    full_disk(host)
    store_ends(host)
    stuck(host)
    many(host)
tap.done()
