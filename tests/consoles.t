#!/usr/bin/python3
"""Consoles of a guest, several of them: terminals, a file, sockets that listen and that connect, logs."""
import os
import re
import select
import socket
import stat
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for


FULL = 65536


def reads(sock, words, seconds=20):
    """What comes out of a socket until it has the words."""
    text = ""
    while words not in text and select.select([sock], [], [], seconds)[0]:
        data = sock.recv(4096).decode(errors="replace")
        if not data:
            break
        text += data
    return text


def local(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    return sock


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def text_of(path):
    with open(path, errors="replace") as f:
        return f.read()


def is_full(path):
    return os.path.getsize(path) >= FULL


def rotated():
    """Logs that are full are put aside, two of them kept; without a daemon the last one goes on."""
    with Host(start=False) as host:
        os.makedirs(f"{host.root}/etc/domus", exist_ok=True)
        with open(f"{host.root}/etc/domus/domusd.conf", "w") as f:
            f.write(f"[console_logs]\nmax_size = {FULL}\nmax_backups = 2\n")
        host.start()
        log = f"{host.root}/two.log"
        for name in (log, f"{log}.0"):
            with open(name, "w") as f:
                f.write("of another start\n")
        text = host.xml(name="g3").replace("</devices>", f"<console type='pty'><log file='{log}'/></console></devices>")
        host.virsh_args("define", host.write_xml(text))
        tap.equal(host.virsh("start g3").status, 0, "a console with a log that is to be rotated")
        tap.ok(os.path.getsize(log) == 0 and not os.path.exists(f"{log}.0"), "nothing is left of another start's")
        with host.console("g3") as console:
            if not tap.ok(console.expect(r"guest: up") and console.prompt(), "it boots", console.text[-3000:]):
                return
            console.run("dmesg -n 1; stty -F /dev/hvc1 raw -echo; seq 1 60000 >/dev/hvc1", 120)
            tap.ok(wait_for(lambda: "\n60000\n" in text_of(f"{log}.0") + text_of(log), 20), "a flood is in its logs")
            wait_for(lambda: not is_full(log), 20)
            found = sorted(name for name in os.listdir(host.root) if name.startswith("two.log"))
            tap.equal(found, ["two.log", "two.log.0", "two.log.1"], "which are no more than they should be")
            tap.ok(is_full(f"{log}.0") and is_full(f"{log}.1"), "those put aside are full",
                   [os.path.getsize(f"{host.root}/{name}") for name in found])
            lines = "".join(text_of(f"{log}{end}") for end in (".1", ".0", "")).split("\n")[1:-1]
            tap.ok(lines and lines == [str(n) for n in range(int(lines[0]), 60001)], "nothing is lost between them", lines[:3])
            console.run("((sleep 4; seq 60001 90000 >/dev/hvc1) &)")
        host.stop(9)
        aside = os.stat(f"{log}.0").st_ino
        tap.ok(wait_for(lambda: text_of(log).endswith("\n90000\n"), 60) and is_full(log) and os.stat(f"{log}.0").st_ino == aside,
               "without a daemon it goes on growing", os.path.getsize(log))
        host.start()
        tap.ok(wait_for(lambda: not is_full(log) and text_of(f"{log}.0").endswith("\n90000\n"), 20), "a new daemon puts it aside",
               os.path.getsize(log))
        with host.console("g3") as console:
            console.send("\n")
            console.prompt()
            console.run("echo after >/dev/hvc1")
            tap.ok(wait_for(lambda: text_of(log) == "after\n", 10), "and the guest goes on in another", text_of(log)[-200:])
            os.rename(log, f"{log}.mine")
            console.run("seq 1 15000 >/dev/hvc1", 60)
            tap.ok(wait_for(lambda: os.path.exists(log), 20), "one that somebody took away is made anew when it would be full")


with Host() as host:
    port = free_port()
    waiting = socket.socket(socket.AF_UNIX)
    waiting.bind(f"{host.root}/waiting.sock")
    waiting.listen()
    consoles = f"""<console type='pty'><log file='{host.root}/one.log' append='off'/></console>
    <console type='unix'><source mode='bind' path='{host.root}/two.sock'/></console>
    <console type='tcp'><source mode='bind' host='127.0.0.1' service='{port}'/><protocol type='raw'/></console>
    <console type='file'><source path='{host.root}/four.log'/></console>
    <console type='unix'><source mode='connect' path='{host.root}/waiting.sock'/></console></devices>"""
    text = host.xml(name="g1").replace("</devices>", consoles)
    result = host.virsh_args("define", "--validate", host.write_xml(text))
    tap.equal(result.status, 0, "six consoles")
    tap.equal(host.virsh("start g1").status, 0, "it starts")
    served = waiting.accept()[0]
    shown = host.virsh("dumpxml g1").out
    tap.equal(re.findall(r"<alias name='(console\d)'/>", shown), [f"console{i}" for i in range(6)], "each has an alias")
    with host.console("g1") as console:
        if not tap.ok(console.expect(r"guest: up") and console.prompt(), "it boots on the first", console.text[-3000:]):
            tap.done()
        found = console.run("ls /dev/hvc*") or ""
        tap.ok(all(f"/dev/hvc{i}" in found for i in range(6)), "the guest finds them all", found)
        console.run("for i in 1 2 3 4 5; do stty -F /dev/hvc$i raw -echo; done")
        with host.console("g1", "--devname", "console1") as second:
            tap.ok(second.expect(r"Connected to domain", 20), "virsh console --devname, beside the first", second.text)
            console.run("echo to one >/dev/hvc1")
            tap.ok(second.expect("to one", 20), "what the guest writes comes out", second.text)
            console.send("head -n 1 /dev/hvc1\n")
            wait_for(lambda: second.send("from one\r\n") or console.expect("from one", 1), 20)
            tap.ok("from one" in console.text, "what is typed goes in", console.text[-500:])
            third = host.console("g1", "--devname", "console1")
            tap.ok(third.expect(r"[Aa]ctive console session exists", 20), "one user each", third.text)
            third.close()
        console.prompt()
        with open(f"{host.root}/one.log") as f:
            tap.contains(f.read(), "to one", "its log has it, too")
        result = host.console("g1", "--devname", "console2")
        tap.ok(result.expect("is not using a PTY", 20), "a socket is no terminal of virsh's", result.text)
        result.close()

        console.run("echo early >/dev/hvc2")
        with local(f"{host.root}/two.sock") as peer:
            tap.contains(reads(peer, "early"), "early", "who connects later reads what was written before")
            console.run("echo again >/dev/hvc2")
            tap.contains(reads(peer, "again"), "again", "and what comes then")
        with local(f"{host.root}/two.sock") as peer:
            console.run("echo next >/dev/hvc2")
            tap.contains(reads(peer, "next"), "next", "the next peer, too")
            console.send("head -n 1 /dev/hvc2\n")
            wait_for(lambda: peer.sendall(b"from two\n") or console.expect("from two", 1), 20)
            tap.ok("from two" in console.text, "and its words go in", console.text[-500:])
        console.prompt()
        with socket.create_connection(("127.0.0.1", port)) as peer:
            console.run("echo to three >/dev/hvc3")
            tap.contains(reads(peer, "to three"), "to three", "a TCP peer reads")
        console.run("echo to four >/dev/hvc4")
        with open(f"{host.root}/four.log") as f:
            tap.ok(wait_for(lambda: f.seek(0) or "to four" in f.read(), 10), "a file gets what is written")
        console.run("echo to five >/dev/hvc5")
        tap.contains(reads(served, "to five"), "to five", "who was connected to reads")
        served.close()
        console.run("echo alone >/dev/hvc5")
        tap.ok("OK" in (console.run("echo O''K") or ""), "its end is none for the guest")

        # Another daemon, and another domain.
        host.stop(9)
        host.start()
    with host.console("g1", "--devname", "console1") as second:
        tap.ok(second.expect(r"Connected to domain", 20), "a new daemon has them all", second.text)
    with local(f"{host.root}/two.sock"):
        tap.ok(True, "and the sockets are there")
    text = host.xml(name="g2").replace("</devices>", f"<console type='unix'><source mode='bind' path='{host.root}/two.sock'/>"
                                                     "</console></devices>")
    result = host.virsh_args("create", host.write_xml(text))
    tap.ok(result.status == 1 and "somebody else does" in result.err, "a socket in use is refused", result)
    tap.ok(stat.S_ISSOCK(os.stat(f"{host.root}/two.sock").st_mode), "and stays")
    host.virsh("destroy g1")
    tap.ok(not os.path.exists(f"{host.root}/two.sock"), "a socket goes with its domain")
    with open(f"{host.root}/precious", "w") as f:
        f.write("data")
    for source, words in ((f"type='unix'><source mode='bind' path='{host.root}/precious'/>", "no socket"),
                          (f"type='unix'><source mode='connect' path='{host.root}/nobody'/>", "nobody"),
                          ("type='tcp'><source mode='connect' host='127.0.0.1' service='1'/>", "service '1'"),
                          ("type='tcp'><source mode='bind' host='127.0.0.1' service='nosuch'/>", "'nosuch'")):
        result = host.virsh_args("create", host.write_xml(
            host.xml(name="g3").replace("</devices>", f"<console {source}</console></devices>")))
        tap.ok(result.status == 1 and words in result.err, f"<console {source} is refused", result)
    with open(f"{host.root}/precious") as f:
        tap.equal(f.read(), "data", "and no file is touched")
rotated()
tap.done()
