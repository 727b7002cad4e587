#!/usr/bin/python3
"""A guest's framebuffer, keyboard and pointer: pictures, VNC clients, passwords, keys, what comes again when it ended.

The kernel is Debian's, whose drivers for them are built in.
"""
import os
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
import vnc
from host import Host, alive, wait_for

CMDLINE = "console=hvc0 console=tty0"


def with_devices(xml, devices):
    return xml.replace("<console", devices + "<console", 1)


def run(console, command, seconds=60):
    return (console.run(command, seconds) or "").strip()


def live_port(host, attribute="port"):
    match = re.search(rf"<graphics [^>]*\b{attribute}='(\d+)'", host.virsh("dumpxml g1").out)
    return int(match.group(1)) if match else 0


def server_pid(host):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/exe").endswith("domus-vnc") and alive(int(pid)) and \
                    os.readlink(f"/proc/{pid}/fd/2").startswith(host.root):
                return int(pid)
        except OSError:
            pass
    return 0


def connects(where, **options):
    try:
        vnc.Client(where, **options).close()
        return True
    except (OSError, vnc.Refused):
        return False


def hung_up(client):
    """Whether the server ends the connection."""
    try:
        while client.sock.recv(1 << 16):
            pass
        return True
    except socket.timeout:
        return False
    except OSError:
        return True


def screenshot(host):
    path = f"{host.root}/shot.ppm"
    result = host.virsh(f"screenshot g1 {path}")
    return result, vnc.pixmap(path) if result.status == 0 else None


# -- what a definition may say

def definitions(host):
    for devices, words in (("<graphics type='spice'/>", "'spice'"), ("<graphics type='vnc' keymap='xx'/>", "'xx'"),
                           ("<video><model type='qxl'/></video>", "'qxl'"),
                           ("<input type='mouse' bus='ps2'/>", "'ps2'"),
                           ("<graphics type='vnc' passwd='too long for it'/>", "8 bytes")):
        result = host.virsh_args("define", host.write_xml(with_devices(host.xml(), devices)))
        tap.ok(result.status != 0 and words in result.err, f"refused by name: {devices}", result)
    graphics = "<graphics type='vnc' port='-1' websocket='-1' passwd='geheim'/>"
    result = host.virsh_args("define", host.write_xml(with_devices(host.xml(cmdline=CMDLINE), graphics)))
    tap.equal(result.status, 0, f"a domain with graphics is defined: {result.err}")
    xml = host.virsh("dumpxml g1").out
    tap.ok("geheim" not in xml and "<model type='xen' vram='4096'" in xml and
           "<input type='keyboard' bus='xen'/>" in xml, "what comes with graphics is there, the password is not shown", xml)
    tap.contains(host.virsh("dumpxml g1 --security-info").out, "passwd='geheim'", "but to who asks for it")
    tap.ok(host.virsh("screenshot g1 /dev/null").status != 0, "there is no picture of what does not run")


# -- pictures

def pictures(host, console):
    run(console, "stty -echo; echo 'a line to be seen' >/dev/tty0")

    def shown():
        result, picture = screenshot(host)
        return picture and picture[2].count(0) < len(picture[2]) and picture
    picture = wait_for(shown, 30)
    tap.ok(picture and picture[:2] == (800, 600) and len(picture[2]) == 800 * 600 * 3, "virsh screenshot takes a picture")
    if not picture:
        return
    with vnc.Client(live_port(host), password="geheim") as client:
        client.update()
        same = wait_for(lambda: client.update() or client.rgb() == screenshot(host)[1][2], 30)
        tap.ok(same, "a VNC client sees the same")
        tap.equal((client.name, client.kind), ("g1", 2), "with the domain's name, and a password")
        before = client.rgb()
        run(console, "echo 'and another' >/dev/tty0")
        client.update(incremental=True)
        tap.ok(wait_for(lambda: client.rgb() != before or client.update(), 30), "it is told what changes")


# -- keys and pointer

def typed(console, send):
    """What a program on the guest's first virtual terminal reads as a line."""
    console.send("head -n 1 <&3 >/tmp/typed; echo READ''DONE\n")
    send()
    console.expect(r"READDONE\n", 60)
    console.text = ""
    return run(console, "cat /tmp/typed").rsplit("# ", 1)[-1]  # a prompt may come late


def send_keys(host, *keys):
    for key in keys:
        result = host.virsh_args("send-key", "g1", *key.split())
        if result.status:
            tap.note(result)


def input_devices(host, console):
    run(console, "exec 3</dev/tty1 4</dev/input/mouse0") # so that nothing that comes early is lost
    tap.equal(typed(console, lambda: send_keys(host, "KEY_H", "KEY_I", "KEY_LEFTSHIFT KEY_A", "KEY_ENTER")), "hiA",
              "virsh send-key types")
    tap.equal(typed(console, lambda: send_keys(host, "--codeset usb 4", "--codeset xt 0x30", "--codeset win32 0x43",
                                               "--codeset atset2 0x23", "--codeset linux 28")), "abcd",
              "in all code sets")
    result = host.virsh("send-key g1 --codeset usb 65000")
    tap.contains(result.err, "no key with code 65000", "a key that is none is refused by name")
    with vnc.Client(live_port(host), password="geheim") as client:
        client.update()
        tap.equal(typed(console, lambda: client.type("Typed over VNC\n")), "Typed over VNC", "a VNC client types")
        console.send("head -c 6 <&4 | hexdump -e '6/1 \"%d \"'; echo MOUSE''DONE\n")
        for x in range(100, 600, 50):
            client.pointer(x, x)
            client.pointer(x, x, 1)
            time.sleep(0.1)
        tap.ok(console.expect(r"\d+ -?\d+ -?\d+ -?\d+ -?\d+ -?\d+ *\n?MOUSEDONE", 30), "and moves the pointer",
               console.text[-300:])


# -- on the way

def check_display(host, what):
    with host.console("g1") as console:
        tap.ok(console.prompt(), f"{what}: the guest goes on", console.text[-500:])
        tap.equal(typed(console, lambda: send_keys(host, "KEY_H", "KEY_I", "KEY_ENTER")), "hi", f"{what}: keys come")
        run(console, f"echo '{what}' >/dev/tty0")
    with vnc.Client(live_port(host), password="geheim") as client:
        client.update()
        same = wait_for(lambda: client.update() or client.rgb() == screenshot(host)[1][2], 30)
        tap.ok(same and client.rgb().count(0) < len(client.rgb()), f"{what}: a VNC client sees it")


def travels(host):
    path = f"{host.root}/saved"
    result = host.virsh(f"save g1 {path}")
    tap.equal(result.status, 0, "a guest with a display is saved") or tap.note(result)
    result = host.virsh(f"restore {path}")
    tap.equal(result.status, 0, "and restored") or tap.note(result)
    os.unlink(path)
    check_display(host, "restored")
    with Host() as other:
        for source, target in ((host, other), (other, host)):
            result = source.virsh(f"migrate --live --persistent --undefinesource g1 {target.uri} --migrateuri tcp://127.0.0.1")
            tap.equal(result.status, 0, "it migrates") or tap.note(result)
            tap.ok(wait_for(lambda: not server_pid(source), 20), "its VNC server ends where it was")
            check_display(target, "migrated")


# -- passwords, clients, ways in

def graphics_xml(host, text):
    path = f"{host.root}/graphics.xml"
    with open(path, "w") as f:
        f.write(text)
    return path


def passwords(host):
    port = live_port(host)
    tap.ok(not connects(port, password="falsch") and not connects(port), "a wrong password is refused")
    result = host.virsh(f"update-device g1 {graphics_xml(host, '<graphics type=%r passwd=%r/>' % ('vnc', 'neu'))} --live")
    tap.equal(result.status, 0, f"the password is changed while it runs: {result.err}")
    tap.ok(connects(port, password="neu") and not connects(port, password="geheim"), "and counts from then on")
    old = "<graphics type='vnc' passwd='neu' passwdValidTo='2001-01-01T00:00:00'/>"
    tap.equal(host.virsh(f"update-device g1 {graphics_xml(host, old)}").status, 0, "a password that ended")
    tap.ok(not connects(port, password="neu"), "opens no more")
    result = host.virsh(f"update-device g1 {graphics_xml(host, '<graphics type=%r port=%r/>' % ('vnc', '5999'))}")
    tap.contains(result.err, "cannot change the port", "what cannot change is refused by name")
    result = host.virsh(f"update-device g1 {graphics_xml(host, '<graphics type=%r passwd=%r/>' % ('vnc', 'geheim'))}")
    tap.ok(result.status == 0 and live_port(host) == port, "the port stays", result)


OPEN = """import libvirt, sys, socket
sys.path.insert(0, sys.argv[2])
import vnc
domain = libvirt.open(sys.argv[1]).lookupByName("g1")
fd = domain.openGraphicsFD(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)
client = vnc.Client(socket.socket(fileno=fd))
client.update()
print(client.kind, client.width, client.height)
ours, theirs = socket.socketpair()
domain.openGraphics(0, theirs.fileno(), 0)
theirs.close()
client = vnc.Client(ours, password="geheim")
client.update()
print(client.kind)
"""


def clients(host):
    port = live_port(host)
    tap.equal(host.virsh("domdisplay g1").out.strip(), f"vnc://127.0.0.1:{port - 5900}", "domdisplay")
    with vnc.Client(port, password="geheim") as one, vnc.Client(port, password="geheim") as two:
        # Not always at once: the guest's cursor blinks.
        same = wait_for(lambda: one.update() or two.update() or one.rgb() == two.rgb(), 30)
        tap.ok(same, "two clients at once see the same")
        with vnc.Client(port, password="geheim", shared=False) as alone:
            alone.update()
            tap.ok(hung_up(one) and hung_up(two), "an exclusive one takes over")
    with socket.create_connection(("127.0.0.1", live_port(host, "websocket"))) as browser:
        browser.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                        b"Sec-WebSocket-Protocol: binary\r\nOrigin: http://x\r\n\r\n")
        browser.settimeout(30)
        tap.contains(browser.recv(500).decode(errors="replace"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "a browser's WebSocket")
    lib = os.path.dirname(os.path.abspath(vnc.__file__))
    result = host.client(sys.executable, "-c", OPEN, host.uri, lib)
    tap.equal(result.out.split(), ["1", "800", "600", "2"], f"openGraphicsFD without a password, openGraphics with: {result.err}")
    hung = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
    hung[0].sendall(b"RFB")
    tap.ok(connects(port, password="geheim"), "clients that say nothing hold up nobody")
    for sock in hung:
        sock.close()


def events(host):
    watcher = subprocess.Popen(["virsh", "-c", host.uri, "event", "g1", "graphics", "--loop", "--timeout", "20"],
                               stdout=subprocess.PIPE, text=True)
    time.sleep(2)
    with vnc.Client(live_port(host), password="geheim") as client:
        client.update()
    time.sleep(1)
    watcher.send_signal(signal.SIGINT)
    out = watcher.communicate(timeout=60)[0]
    tap.ok(all(f"graphics' for domain 'g1': {phase}" in out for phase in ("connect", "initialize", "disconnect")) and
           "127.0.0.1" in out, "events tell of clients", out)


# -- what ends and comes again

def comes_again(host):
    port, pid = live_port(host), server_pid(host)
    os.kill(pid, signal.SIGKILL)
    tap.ok(wait_for(lambda: server_pid(host) not in (0, pid) and connects(port, password="geheim"), 60),
           "a VNC server that ended is started again at its port")
    host.stop(signal.SIGKILL)
    tap.ok(connects(port, password="geheim"), "without the daemon clients are served")
    pid = server_pid(host)
    host.start()
    tap.equal((live_port(host), server_pid(host)), (port, pid), "and a new daemon finds the server again")
    host.stop()
    os.kill(pid, signal.SIGKILL)
    host.start()
    tap.ok(wait_for(lambda: connects(port, password="geheim"), 60), "or starts it, when it ended meanwhile")


def ends(host):
    path = f"{host.root}/vnc.sock"
    text = with_devices(host.xml(cmdline=CMDLINE), f"<graphics type='vnc' socket='{path}' sharePolicy='force-shared'/>")
    uuid = host.virsh("domuuid g1").out.strip()
    tap.equal(host.virsh("destroy g1").status, 0, "the domain ends")
    tap.ok(wait_for(lambda: not server_pid(host), 20), "so does its VNC server")
    host.virsh_args("define", host.write_xml(text.replace("</name>", f"</name><uuid>{uuid}</uuid>")))
    tap.equal(host.virsh("start g1").status, 0, "it starts again with a socket")
    with vnc.Client(path) as one, vnc.Client(path, shared=False) as alone:
        tap.ok(hung_up(alone) and not one.update(), "clients come there, and of two none has it alone")
    left = [name for name in os.listdir(f"{host.root}/run/domus") if ".vnc" in name]
    tap.equal(len(left), 2, f"two files are kept: {left}")
    tap.equal(host.virsh("destroy g1").status, 0, "it ends")
    left = [name for name in os.listdir(f"{host.root}/run/domus") if ".vnc" in name]
    tap.ok(not left and not os.path.exists(path), "nothing is left", left)


def busy_port(host):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        text = with_devices(host.xml(name="g2"), f"<graphics type='vnc' port='{port}'/>")
        result = host.virsh_args("create", host.write_xml(text))
        tap.ok(result.status != 0 and str(port) in result.err and "in use" in result.err, "a port that is taken is named", result)
    tap.ok("g2" not in host.virsh("list --all").out, "and nothing remains of the start")


def main():
    with Host() as host:
        definitions(host)
        result = host.virsh("start g1")
        tap.equal(result.status, 0, f"it starts: {result.err}")
        with host.console("g1") as console:
            tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
            tap.contains(run(console, "cat /proc/fb"), "xen", "it has a framebuffer")
            pictures(host, console)
            input_devices(host, console)
        travels(host)
        passwords(host)
        clients(host)
        events(host)
        comes_again(host)
        ends(host)
        busy_port(host)
    tap.done()


main()
