#!/usr/bin/python3
"""Channels of a guest, and consoles and channels that come and go while it runs."""
import os
import re
import select
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Console, Host, wait_for

import libvirt


def channel(name, kind="unix", extra=""):
    return f"<channel type='{kind}'>{extra}<target type='xen' name='{name}'/></channel>"


def local(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return sock


def reads(sock, words, seconds=20):
    text = ""
    while words not in text and select.select([sock], [], [], seconds)[0]:
        data = sock.recv(4096).decode(errors="replace")
        if not data:
            break
        text += data
    return text


def stream_of(domain, name, flags=0):
    stream = domain.connect().newStream(0)
    domain.openChannel(name, stream, flags)
    return stream


def refusal(function, *args):
    try:
        function(*args)
    except libvirt.libvirtError as error:
        return str(error)
    return "done"


def check_channels(host, console, path):
    shown = host.virsh("dumpxml g1").out
    tap.contains(shown, f"<source mode='bind' path='{path}'/>", "a socket is chosen for a channel that names none")
    tap.ok(re.search(r"<channel type='pty'>\s*<source path='/dev/pts/\d+'/>\s*<target type='xen' name='org.example.b'/>",
                     shown), "one of type pty has its terminal", shown)
    tap.equal(re.findall(r"alias name='(channel\d)'", shown), ["channel1", "channel2"], "both have aliases")
    tap.ok(path not in host.virsh("dumpxml g1 --inactive").out, "what was chosen is in no definition")
    out = host.client("xenstore-ls", "-f").out
    tap.contains(out, 'device/console/1/name = "org.example.a"', "its name is in the store")
    tap.contains(out, 'device/console/1/output = "socket"', "and how it is connected")
    tap.ok(path not in out, "a host's path is not")
    console.run("stty -F /dev/hvc1 raw -echo; stty -F /dev/hvc2 raw -echo")
    with local(path) as peer:
        console.run("echo hello >/dev/hvc1")
        tap.contains(reads(peer, "hello"), "hello", "what the guest writes comes out of the socket")
        console.send("head -n 1 /dev/hvc1\n")
        wait_for(lambda: peer.sendall(b"from host\n") or console.expect("from host", 1), 20)
        tap.ok("from host" in console.text, "and back", console.text[-500:])
    console.prompt()


def check_streams(host, console, domain):
    stream = stream_of(domain, "org.example.a")
    console.run("echo through a stream >/dev/hvc1")
    tap.ok("through" in stream.recv(4096).decode(), "a client reads a channel of type unix")
    tap.contains(refusal(stream_of, domain, "channel1"), "Active console session exists", "one client each")
    second = stream_of(domain, "channel1", libvirt.VIR_DOMAIN_CHANNEL_FORCE)
    second.abort()
    stream = stream_of(domain, "org.example.b")
    console.run("echo by pty >/dev/hvc2")
    tap.ok("by pty" in stream.recv(4096).decode(), "and one of type pty")
    stream.abort()
    tap.contains(refusal(stream_of, domain, "nobody"), "cannot find character device nobody", "what is not there is named")


def check_hotplug(host, console, watcher):
    xml = host.write_xml(channel("org.example.c"), "channel.xml")
    path = f"{host.root}/var/lib/domus/channel/target/g1-org.example.c"
    result = host.virsh(f"attach-device g1 {xml} --live --config")
    tap.equal(result.status, 0, "attach-device of a channel") or tap.note(result)
    tap.ok(watcher.expect(r"'device-added' for domain 'g1': channel3", 10), "event: added", watcher.text)
    console.run("stty -F /dev/hvc3 raw -echo")
    with local(path) as peer:
        tap.ok(wait_for(lambda: console.run("echo plugged >/dev/hvc3") is not None and "plugged" in reads(peer, "plugged", 1), 20),
               "the guest has it")
    tap.contains(host.virsh(f"attach-device g1 {xml} --live").err, "two of that name", "the same name again is refused")
    pty = host.write_xml("<console type='pty'/>", "console.xml")
    tap.equal(host.virsh(f"attach-device g1 {pty} --live").status, 0, "attach-device of a console")
    with host.console("g1", "--devname", "console4") as second:
        tap.ok(second.expect("Connected to domain", 20), "virsh console has it", second.text)
        console.run("stty -F /dev/hvc4 raw -echo")
        tap.ok(wait_for(lambda: console.run("echo words >/dev/hvc4") is not None and second.expect("words", 1), 20), "and the guest")
    tap.equal(host.virsh(f"detach-device g1 {xml} --live --config").status, 0, "detach-device of the channel")
    tap.ok(watcher.expect(r"'device-removed' for domain 'g1': channel3", 10), "event: removed", watcher.text)
    tap.ok(not os.path.exists(path), "its socket is gone")
    tap.ok("org.example.c" not in host.virsh("dumpxml g1").out + host.virsh("dumpxml g1 --inactive").out, "the XML, too")
    tap.ok("device/console/3" not in host.client("xenstore-ls", "-f").out, "and the store")
    tap.equal(host.virsh("detach-device-alias g1 console4 --live").status, 0, "a console goes by its alias")
    first = host.write_xml("<console type='pty'><target type='xen' port='0'/></console>", "first.xml")
    for which in ("--live", "--config"):
        tap.contains(host.virsh(f"detach-device g1 {first} {which}").err, "first console", f"the first stays ({which})")
    tap.contains(host.virsh(f"update-device g1 {first} --live").err, "cannot be updated", "nothing can be updated")
    with host.unsaveable("g1"):
        tap.equal(host.virsh(f"attach-device g1 {xml} --live --config").status, 1, "what cannot be saved")
    tap.ok(not os.path.exists(path) and "org.example.c" not in host.virsh("dumpxml g1").out, "is undone")
    tap.ok("OK" in (console.run("echo O''K") or ""), "the guest goes on")


def check_refusals(host):
    for xml, words in ((channel("a", "spicevmc"), "no SPICE server"), (channel("a").replace("xen", "virtio"), "type xen"),
                       ("<serial type='pty'/>", "no serial ports")):
        result = host.virsh_args("define", host.write_xml(host.xml(name="g2").replace("</devices>", f"{xml}</devices>")))
        tap.ok(result.status == 1 and words in result.err, f"{xml} is refused", result)


libvirt.registerErrorHandler(lambda *_: None, None)
def check_moved(host):
    """What another daemon chose for a socket is not kept."""
    source = "<source mode='bind' path='/elsewhere/channel/target/g3-a'/>"
    text = host.xml(name="g3").replace("</devices>", channel("a", extra=source) + "</devices>")
    result = host.virsh_args("create", "--paused", host.write_xml(text))
    tap.equal(result.status, 0, "a domain with a socket of another root") or tap.note(result)
    tap.contains(host.virsh("dumpxml g3").out, f"{host.root}/var/lib/domus/channel/target/g3-a", "gets its own")
    host.virsh("destroy g3")


with Host() as host:
    path = f"{host.root}/var/lib/domus/channel/target/g1-org.example.a"
    text = host.xml(name="g1").replace("</devices>", channel("org.example.a") + channel("org.example.b", "pty") + "</devices>")
    result = host.virsh_args("define", "--validate", host.write_xml(text))
    tap.equal(result.status, 0, "channels") or tap.note(result)
    result = host.virsh("start g1")
    tap.equal(result.status, 0, "start") or tap.note(result)
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    console = host.console("g1")
    if not tap.ok(console.expect("guest: up") and console.prompt(), "it boots", console.text[-3000:]):
        tap.done()
    connection = libvirt.open(host.uri)
    check_channels(host, console, path)
    check_streams(host, console, connection.lookupByName("g1"))
    check_hotplug(host, console, watcher)
    connection.close()
    before = host.virsh("dumpxml g1").out
    host.stop(9)
    host.start()
    tap.equal(host.virsh("dumpxml g1").out, before, "a new daemon knows them all")
    watcher.close()
    host.virsh("destroy g1")
    tap.ok(not os.path.exists(path), "the socket goes with its domain")
    check_refusals(host)
    check_moved(host)
tap.done()
