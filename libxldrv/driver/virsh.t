#!/usr/bin/python3
"""What stock clients do that needs no booting guest: definitions, lists, errors, events, the daemon itself."""
import os
import re
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "lib"))
if os.path.exists("libxldrv/domusd"):
    os.environ.setdefault("DOMUS_BUILD", os.getcwd())
import libvirt
import tap
from host import Console, Host, program, wait_for

libvirt.registerErrorHandler(lambda *_: None, None)

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
OTHER = "d7a5fdbd-edaf-9455-926a-d65c16db1809"
XML = """<domain type='xen'>
  <name>{name}</name>{uuid}
  <memory unit='MiB'>64</memory>
  <vcpu>{vcpus}</vcpu>
  <os><type arch='x86_64' machine='xenpvh'>xenpvh</type><kernel>{kernel}</kernel></os>
  <devices><console type='pty'/></devices>
</domain>"""


def xml(name, uuid=None, vcpus=1, kernel="/nonexistent/vmlinuz"):
    return XML.format(name=name, uuid=f"<uuid>{uuid}</uuid>" if uuid else "", vcpus=vcpus, kernel=kernel)


def code_of(function, *args):
    """The libvirt error code that a call fails with; 0 if it succeeds."""
    try:
        function(*args)
        return 0
    except libvirt.libvirtError as error:
        return error.get_error_code()


def names(host, options):
    return host.virsh(f"list {options} --name").out.split()


def definitions(host):
    for name, uuid in [("one", UUID), ("two", None), ("three", None)]:
        tap.equal(host.virsh_args("define", host.write_xml(xml(name, uuid))).status, 0, f"define {name}")
    tap.equal(sorted(names(host, "--all")), ["one", "three", "two"], "list --all has all three")
    tap.equal(names(host, ""), [], "none of them runs")
    tap.ok(os.path.exists(f"{host.root}/etc/domus/xen/one.xml"), "the definition is on disk")
    tap.equal(os.stat(f"{host.root}/etc/domus/xen/one.xml").st_mode & 0o777, 0o600, "for nobody else to read")
    tap.equal(host.virsh("domuuid one").out.strip(), UUID, "domuuid")
    tap.equal(host.virsh(f"domname {UUID}").out.strip(), "one", "domname")
    tap.equal(host.virsh("domstate --reason one").out.strip(), "shut off (unknown)", "domstate --reason")
    first = host.virsh("dumpxml one").out
    tap.equal(host.virsh_args("define", host.write_xml(first)).status, 0, "define of what dumpxml shows")
    tap.equal(host.virsh("dumpxml one").out, first, "changes nothing")
    tap.equal(host.virsh_args("define", "--validate", host.write_xml(first)).status, 0, "which the schema allows")
    host.virsh_args("define", host.write_xml(xml("one", UUID, vcpus=3)))
    tap.contains(host.virsh("dumpxml one").out, ">3</vcpu>", "define of the same name and UUID replaces it")


def filters(host):
    host.virsh("autostart two")
    tap.ok(os.path.islink(f"{host.root}/etc/domus/xen/autostart/two.xml"), "autostart is a link on disk")
    for options, expected in [("--inactive", 3), ("--all --persistent", 3), ("--all --transient", 0),
                              ("--all --autostart", 1), ("--all --no-autostart", 2), ("--state-running", 0),
                              ("--state-shutoff", 3), ("--state-paused", 0), ("--state-other", 0),
                              ("--all --with-managed-save", 0), ("--all --without-managed-save", 3),
                              ("--all --with-snapshot", 0), ("--all --without-snapshot", 3),
                              ("--all --with-checkpoint", 0), ("--all --without-checkpoint", 3),
                              ("--all --autostart --no-autostart", 3), ("--all --autostart --transient", 0)]:
        tap.equal(len(names(host, options)), expected, f"list {options}")
    host.virsh("autostart --disable two")
    tap.equal(names(host, "--all --autostart"), [], "autostart --disable")


def metadata(host):
    tap.equal(host.virsh("desc one --title a title").status, 0, "set a title")
    tap.equal(host.virsh("desc one --title").out.strip(), "a title", "get it")
    tap.equal(host.virsh_args("desc", "one", "--config", "some & <description>").status, 0, "set a description")
    tap.equal(host.virsh("desc one").out.strip(), "some & <description>", "get it")
    tap.equal(host.virsh_args("metadata", "one", "http://example.org/x", "--key", "x", "--set", "<a>1</a>").status, 0,
              "set an element")
    tap.contains(host.virsh_args("metadata", "one", "http://example.org/x").out, "<a>1</a>", "get it")
    tap.equal(host.virsh_args("metadata", "one", "http://example.org/x", "--remove").status, 0, "remove it")
    tap.ok(host.virsh_args("metadata", "one", "http://example.org/x").status != 0, "it is gone")
    tap.contains(host.virsh("list --all --title").out, "a title", "list --title")
    tap.equal(host.virsh("set-lifecycle-action one crash preserve --config").status, 0, "set-lifecycle-action")
    tap.contains(host.virsh("dumpxml one").out, "<on_crash>preserve</on_crash>", "is in the XML")
    tap.contains(host.virsh("set-lifecycle-action one crash coredump-restart --config").err, "only destroy, restart",
                 "others are refused by name")


def renaming(host):
    host.virsh("autostart three")
    tap.contains(host.virsh("domrename three three").err, "to itself", "domrename to the same name")
    tap.equal(host.virsh("domrename three drei").status, 0, "domrename")
    tap.equal(sorted(names(host, "--all")), ["drei", "one", "two"], "under its new name")
    tap.equal(names(host, "--all --autostart"), ["drei"], "its autostart mark goes with it")
    tap.equal(sorted(os.listdir(f"{host.root}/etc/domus/xen")), ["autostart", "drei.xml", "one.xml", "two.xml"],
              "so do its files")
    tap.ok(host.virsh("domrename drei one").status != 0, "not to a name in use")
    tap.ok(host.virsh("domrename drei a/b").status != 0, "not to a path")
    host.virsh("autostart --disable drei")


def unserved(host):
    """What is not served is named as users know it."""
    for command, name in [("domlaunchsecinfo one", "virDomainGetLaunchSecurityInfo"),
                          ("net-list", "virConnectNumOfNetworks")]:
        tap.contains(host.virsh(command).err, f"not supported by the connection driver: {name}", command)


def firmware(connection):
    """Where the host has no SMBIOS tables the error is libvirt's own."""
    if os.path.exists("/sys/class/dmi/id/sys_vendor"):
        tap.contains(connection.getSysinfo(), "<entry name='manufacturer'>", "sysinfo")
        return
    try:
        connection.getSysinfo()
        tap.ok(False, "no sysinfo without SMBIOS")
    except libvirt.libvirtError as error:
        tap.equal(error.get_error_code(), libvirt.VIR_ERR_CONFIG_UNSUPPORTED, "no sysinfo without SMBIOS")


def errors(host, connection):
    one = connection.lookupByName("one")
    for what, function, args, code in [
            ("lookup of an unknown name", connection.lookupByName, ("nobody",), libvirt.VIR_ERR_NO_DOMAIN),
            ("of an unknown UUID", connection.lookupByUUIDString, (OTHER,), libvirt.VIR_ERR_NO_DOMAIN),
            ("of an unknown id", connection.lookupByID, (4711,), libvirt.VIR_ERR_NO_DOMAIN),
            ("a name in use", connection.defineXML, (xml("one", OTHER),), libvirt.VIR_ERR_OPERATION_FAILED),
            ("a UUID in use", connection.defineXML, (xml("x", UUID),), libvirt.VIR_ERR_OPERATION_FAILED),
            ("create under a name in use", connection.createXML, (xml("one", OTHER),),
             libvirt.VIR_ERR_OPERATION_FAILED),
            ("half an XML document", connection.defineXML, ("<domain",), libvirt.VIR_ERR_XML_DETAIL),
            ("no name", connection.defineXML, (xml(""),), libvirt.VIR_ERR_XML_ERROR),
            ("a schema violation", connection.defineXMLFlags,
             (xml("x").replace("<devices>", "<devices><bogus/>"), libvirt.VIR_DOMAIN_DEFINE_VALIDATE),
             libvirt.VIR_ERR_XML_INVALID_SCHEMA),
            ("another emulator", connection.defineXML,
             (xml("x").replace("<devices>", "<devices><emulator>/bin/true</emulator>"),), libvirt.VIR_ERR_CONFIG_UNSUPPORTED),
            ("unknown define flags", connection.defineXMLFlags, (xml("x"), 1 << 20), libvirt.VIR_ERR_INVALID_ARG),
            ("unknown list flags", connection.listAllDomains, (1 << 30,), libvirt.VIR_ERR_INVALID_ARG),
            ("unknown XML flags", one.XMLDesc, (1 << 10,), libvirt.VIR_ERR_INVALID_ARG),
            ("destroy", one.destroy, (), libvirt.VIR_ERR_OPERATION_INVALID),
            ("suspend", one.suspend, (), libvirt.VIR_ERR_OPERATION_INVALID),
            ("resume", one.resume, (), libvirt.VIR_ERR_OPERATION_INVALID),
            ("shutdown", one.shutdown, (), libvirt.VIR_ERR_OPERATION_INVALID),
            ("reboot", one.reboot, (), libvirt.VIR_ERR_OPERATION_INVALID),
            ("memory statistics", one.memoryStats, (), libvirt.VIR_ERR_OPERATION_INVALID),
            ("vCPUs", one.vcpus, (), libvirt.VIR_ERR_OPERATION_INVALID),
            ("a console", one.openConsole, (None, connection.newStream()), libvirt.VIR_ERR_OPERATION_INVALID),
            ("live metadata", one.setMetadata, (libvirt.VIR_DOMAIN_METADATA_TITLE, "t", None, None,
                                                libvirt.VIR_DOMAIN_AFFECT_LIVE), libvirt.VIR_ERR_OPERATION_INVALID),
            ("absent metadata", one.metadata, (libvirt.VIR_DOMAIN_METADATA_ELEMENT, "http://none/"),
             libvirt.VIR_ERR_NO_DOMAIN_METADATA),
            ("start without its kernel", one.create, (), libvirt.VIR_ERR_OPERATION_FAILED),
            ("ACPI shutdown", one.shutdownFlags, (libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN,),
             libvirt.VIR_ERR_OPERATION_UNSUPPORTED),
            ("an NMI for nobody", one.injectNMI, (), libvirt.VIR_ERR_OPERATION_INVALID),
            ("what is not there yet", one.launchSecurityInfo, (), libvirt.VIR_ERR_NO_SUPPORT)]:
        tap.equal(code_of(function, *args), code, f"error code: {what}")
    result = host.virsh("start one")
    tap.contains(result.err, "/nonexistent/vmlinuz", "start names the kernel that is missing")
    tap.equal(host.state("one"), "shut off", "and the domain stays shut off")
    tap.equal(code_of(connection.createXML, xml("t1")), libvirt.VIR_ERR_OPERATION_FAILED, "create that fails")
    tap.ok("t1" not in names(host, "--all"), "leaves no domain")
    tap.equal([name for name in os.listdir(f"{host.root}/run/domus") if name not in ("last-domid", "migrate-sock")], [],
              "and no file")
    gone = connection.defineXML(xml("gone"))
    host.virsh("undefine gone")
    tap.equal(code_of(gone.info), libvirt.VIR_ERR_NO_DOMAIN, "a domain that somebody else undefined is gone")


def read_only(host):
    connection = libvirt.openReadOnly(host.uri.replace("virtxend-sock", "virtxend-sock-ro"))
    domain = connection.lookupByName("one")
    tap.ok("<name>one</name>" in domain.XMLDesc(), "read-only: dumpxml")
    for what, function, args in [("define", connection.defineXML, (xml("x"),)), ("start", domain.create, ()),
                                 ("undefine", domain.undefine, ()),
                                 ("secure XML", domain.XMLDesc, (libvirt.VIR_DOMAIN_XML_SECURE,))]:
        tap.equal(code_of(function, *args), libvirt.VIR_ERR_OPERATION_DENIED, f"read-only: {what} is denied")
    connection.close()


def events(host):
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    single = Console(["virsh", "-c", host.uri, "event", "--domain", "two", "--event", "lifecycle", "--loop"],
                     dict(os.environ, LC_ALL="C.UTF-8"))
    # Registration takes a moment: define until the first event comes.
    for _ in range(50):
        host.virsh_args("define", host.write_xml(xml("events")))
        host.virsh("undefine events")
        if watcher.expect(r"'events': Undefined Removed", 0.2):
            break
    host.virsh_args("define", host.write_xml(host.virsh("dumpxml one").out))
    tap.ok(watcher.expect(r"'one': Defined Updated", 10), "event: updated", watcher.text)
    host.virsh("desc one --title new")
    tap.ok(watcher.expect(r"event 'metadata-change' for domain 'one': type title", 10), "event: metadata", watcher.text)
    host.virsh("domrename drei three")
    tap.ok(watcher.expect(r"'drei': Undefined Renamed", 10), "event: renamed from", watcher.text)
    tap.ok(watcher.expect(r"'three': Defined Renamed", 10), "event: renamed to", watcher.text)
    host.virsh_args("define", host.write_xml(host.virsh("dumpxml two").out))
    tap.ok(single.expect(r"'two': Defined Updated", 10), "events of one domain", single.text)
    tap.ok("'one'" not in single.text, "and of no other", single.text)
    watcher.close()
    single.close()


def bindings(host, connection):
    tap.equal(connection.getType(), "Xen", "getType")
    tap.equal(connection.getVersion(), 4017000, "getVersion")
    tap.equal(connection.getLibVersion(), 9000000, "getLibVersion")
    tap.equal(connection.isAlive(), 1, "isAlive")
    tap.equal((connection.isSecure(), connection.isEncrypted()), (1, 0), "isSecure, isEncrypted")
    tap.ok(connection.getMaxVcpus("xen") >= 1, "getMaxVcpus")
    tap.equal(code_of(connection.getMaxVcpus, "kvm"), libvirt.VIR_ERR_INVALID_ARG, "of another type fails")
    tap.equal(connection.numOfDomains() + connection.numOfDefinedDomains(), 3, "the older counts")
    tap.equal(sorted(connection.listDefinedDomains()), ["one", "three", "two"], "the older list")
    tap.equal(connection.listDomainsID(), [], "the older list of ids")
    tap.ok(connection.getFreeMemory() > 1 << 20, "getFreeMemory")
    tap.ok(connection.getCellsFreeMemory(0, 1)[0] > 1, "getCellsFreeMemory")
    tap.ok(connection.getCPUStats(-1)["idle"] > 0, "getCPUStats")
    tap.equal(code_of(connection.getCPUStats, 4711), libvirt.VIR_ERR_INVALID_ARG, "of no CPU fails")
    tap.ok(connection.getMemoryStats(-1)["total"] > 1 << 10, "getMemoryStats")
    tap.ok(connection.getCPUMap()[0] >= 1, "getCPUMap")
    tap.ok(connection.getFreePages([4], 0, 1)[0][4] > 0, "getFreePages")
    domain = connection.lookupByName("one")
    tap.equal(domain.OSType(), "xenpvh", "OSType")
    tap.equal(domain.maxMemory(), 65536, "maxMemory")
    tap.equal(domain.info()[0], libvirt.VIR_DOMAIN_SHUTOFF, "info")
    tap.equal((domain.isActive(), domain.isPersistent(), domain.isUpdated()), (0, 1, 0), "isActive and the like")
    tap.equal(domain.vcpusFlags(libvirt.VIR_DOMAIN_AFFECT_CONFIG), 3, "vcpusFlags")
    tap.equal(len(domain.vcpuPinInfo(libvirt.VIR_DOMAIN_AFFECT_CONFIG)), 3, "vcpuPinInfo")
    tap.equal((domain.hasManagedSaveImage(), domain.snapshotNum(), domain.listAllSnapshots()), (0, 0, []),
              "no saved image, no snapshots")
    tap.equal(domain.jobInfo()[0], libvirt.VIR_DOMAIN_JOB_NONE, "no job")
    tap.equal(domain.securityLabel(), ["", False], "no security label")
    (_, stats), = connection.domainListGetStats([domain], libvirt.VIR_DOMAIN_STATS_STATE)
    tap.equal(stats["state.state"], libvirt.VIR_DOMAIN_SHUTOFF, "domainListGetStats")
    tap.equal(len(connection.getAllDomainStats(0, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_INACTIVE)), 3,
              "getAllDomainStats of inactive domains")
    perl = """use Sys::Virt; my $v = Sys::Virt->new(uri => $ARGV[0]);
        print join(",", sort map { $_->get_name } $v->list_all_domains), " ", $v->get_type, " ",
              $v->get_domain_by_name("one")->get_info->{state}, "\\n";"""
    tap.equal(host.client("/usr/bin/perl", "-e", perl, host.uri).out, "one,three,two Xen 5\n", "Sys::Virt")


def daemon(host):
    second = subprocess.run([program("domusd"), "--root", host.root], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, check=False)
    tap.ok(second.returncode != 0 and str(host.daemon.pid) in second.stdout, "a second daemon refuses by name",
           second.stdout)
    before = host.virsh("dumpxml one").out
    host.daemon.send_signal(signal.SIGHUP)
    with open(f"{host.root}/etc/domus/xen/broken.xml", "w") as f:
        f.write("<domain type='xen'><name>broken")
    host.stop(signal.SIGKILL)
    host.start()
    tap.equal(sorted(names(host, "--all")), ["one", "three", "two"], "a new daemon has the definitions")
    tap.equal(host.virsh("dumpxml one").out, before, "as they were")
    tap.contains(host.log(), "broken.xml", "a broken one is warned about")
    tap.ok(os.path.exists(f"{host.root}/etc/domus/xen/broken.xml"), "and stays")
    tap.equal(host.stop(), 0, "SIGTERM ends it")
    started = subprocess.run([program("domusd"), "--root", host.root, "--daemon"], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
    tap.equal((started.returncode, host.virsh("version").status), (0, 0), "--daemon returns when it serves")
    failed = subprocess.run([program("domusd"), "--root", host.root, "--daemon"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
    tap.ok(failed.returncode == 1 and "another domusd" in failed.stdout, "or has failed", failed.stdout)
    with open(f"{host.root}/run/domusd.pid") as f:
        pid = int(f.read())
    os.kill(pid, signal.SIGTERM)
    tap.ok(wait_for(lambda: not os.path.exists(f"/proc/{pid}") or
                    re.search(r"\) Z", open(f"/proc/{pid}/stat").read())), "and ends")
    for option, culprit in [("--frobnicate", "frobnicate"), ("--config=/nonexistent.conf", "/nonexistent.conf"),
                            ("extra", "extra"), ("--hypervisor", "hypervisor")]:
        result = subprocess.run([program("domusd"), "--root", host.root, option], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
        tap.ok(result.returncode != 0 and culprit in result.stdout, f"{option} is refused", result.stdout)
    host.start()


def long_paths():
    """A root so long that no socket below it fits into an address."""
    with Host(start=False) as host:
        deep = os.path.join(host.root, "d" * 100, "e" * 60)
        os.makedirs(deep)
        log = open(os.path.join(host.root, "domusd.out"), "ab")
        run = subprocess.Popen([program("domusd"), "--root", deep], stdout=log, stderr=log)
        log.close()
        short = os.path.join(host.root, "s")
        os.symlink(os.path.join(deep, "run/libvirt"), short)
        uri = f"xen+unix:///system?socket={short}/virtxend-sock"
        tap.ok(wait_for(lambda: host.client("virsh", "-c", uri, "list").status == 0), "a long root works", host.log())
        run.terminate()
        tap.equal(run.wait(30), 0, "and ends cleanly")
        for pid in host.processes("domus-xenstored"):
            os.kill(pid, signal.SIGTERM)


with Host() as host:
    connection = libvirt.open(host.uri)
    definitions(host)
    filters(host)
    metadata(host)
    renaming(host)
    firmware(connection)
    unserved(host)
    errors(host, connection)
    read_only(host)
    events(host)
    bindings(host, connection)
    connection.close()
    daemon(host)
    for name in ["one", "two", "three"]:
        tap.equal(host.virsh(f"undefine {name}").status, 0, f"undefine {name}")
    tap.equal(names(host, "--all"), [], "nothing is left")
    tap.equal(sorted(os.listdir(f"{host.root}/etc/domus/xen")), ["autostart", "broken.xml"], "on disk either")
long_paths()
tap.done()
