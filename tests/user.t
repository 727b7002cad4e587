#!/usr/bin/python3
"""Interfaces of type user: the host's own network through passt, with ports that are the guest's.

As root, in a network namespace of its own.
"""
import os
import re
import signal
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import netns
import tap
from host import Host, alive, wait_for

GATEWAY, ADDRESS = "192.0.2.1", "192.0.2.10"  # passt gives the host's own services by the address of its router
MAC = "00:16:3e:05:e7:00"
DATA = os.urandom(1 << 20)
UDHCPC = ("printf '#!/bin/sh\\n[ -z \"$ip\" ] || { ip addr replace $ip/$mask dev $interface; ip route replace default via "
          "$router; }\\n' >/tmp/s; chmod +x /tmp/s; ip link set eth0 up; udhcpc -i eth0 -n -q -t 20 -T 1 -s /tmp/s")


def nic(extra="", mac=MAC):
    return f"<interface type='user'><mac address='{mac}'/>{extra}</interface>"


FORWARD = "<portForward proto='tcp' address='127.0.0.1'><range start='2222' to='80'/></portForward>"


def run(console, command, seconds=60):
    return (console.run(command, seconds) or "").strip()


def serve(server):
    with server.accept()[0] as connection:
        connection.sendall(DATA)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def get():
    try:
        with socket.create_connection(("127.0.0.1", 2222), 30) as connection:
            connection.sendall(b"GET /f HTTP/1.0\r\n\r\n")
            return connection.makefile().read()
    except OSError:
        return ""


def fetch(what):
    tap.contains(wait_for(get, 30), "of the guest", what)


def works(host, console):
    tap.contains(run(console, UDHCPC, 120), ADDRESS, "the guest gets the host's address by DHCP")
    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=(server,), daemon=True)
    thread.start()
    got = run(console, f"nc {GATEWAY} {server.getsockname()[1]} | wc -c", 120)
    tap.equal(got, str(len(DATA)), "it reaches a service of the host")
    run(console, "mkdir -p /tmp/www; echo of the guest >/tmp/www/f; httpd -p 80 -h /tmp/www")
    fetch("a port of the host is the guest's")


def told(host):
    out = host.virsh("domiflist g1").out
    tap.ok(re.search(rf"vif\d+\.0 +user +- +\S+ +{MAC}", out), "domiflist", out)
    tap.contains(host.virsh("dumpxml g1").out, "<range start='2222' to='80'/>", "dumpxml")
    for kind in ("live", "inactive"):
        path = host.write_xml(host.virsh("dumpxml g1" + (" --inactive" if kind == "inactive" else "")).out, f"{kind}.xml")
        result = host.client("virt-xml-validate", path, "domain")
        tap.equal(result.status, 0, f"the schema has it so, {kind}") or tap.note(result)


def refused(host):
    before = host.virsh("dumpxml g1").out
    for extra, words in (("<portForward proto='tcp'><range start='2222'/></portForward>", "2222"),
                         ("<source dev='nodev0'/>", "nodev0"), ("<driver queues='2'/>", "one queue"),
                         ("<portForward proto='tcp'><range start='9' end='8'/></portForward>", "9 to 8"),
                         ("<portForward proto='tcp'><range start='9' end='70000'/></portForward>", "70000")):
        xml = nic(extra, "00:16:3e:05:e7:01")
        err = host.virsh_args("attach-device", "g1", host.write_xml(xml, "nic.xml"), "--live").err
        tap.contains(err, words, f"refused: {words}")
    tap.equal(host.virsh("dumpxml g1").out, before, "the domain is as it was")
    tap.equal(len(host.passt()), 1, "and its passt is the only one")


def replaced(host):
    before, = host.passt()
    os.kill(before, signal.SIGKILL)
    tap.ok(wait_for(lambda: len(host.passt()) == 1 and host.passt() != [before], 30), "a passt that is killed is started again")
    fetch("the guest has its network and its ports again")


class UserHost(Host):
    def passt(self):
        """Running passt processes of this host: those that log below its root."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/comm") as f:
                    if f.read().startswith("passt") and os.readlink(f"/proc/{pid}/fd/2").startswith(self.root) and alive(int(pid)):
                        found.append(int(pid))
            except OSError:
                pass
        return found


netns.enter()
for command in ("ip link set lo up", "ip tuntap add dev d0 mode tap", f"ip address add {ADDRESS}/24 dev d0",
                "ip link set d0 up", f"ip route add default via {GATEWAY}"):
    subprocess.run(command.split(), check=True)
with UserHost() as host:
    text = host.xml(name="g1", cmdline="console=hvc0 guest.modules").replace(
        "<console", nic("<backend type='passt'/>" + FORWARD) + "<console")
    result = host.virsh_args("define", "--validate", host.write_xml(text))
    tap.equal(result.status, 0, "define") or tap.note(result)
    result = host.virsh("start g1")
    if not tap.equal(result.status, 0, "start"):
        raise RuntimeError(str(result))
    console = host.console("g1")
    tap.ok(console.prompt(), "the guest boots", console.text[-2000:])
    run(console, "dmesg -n 1")
    works(host, console)
    told(host)
    refused(host)
    console.close()
    replaced(host)
    host.stop(signal.SIGKILL)
    host.start()
    fetch("it goes on with another domusd")
    host.stop(signal.SIGKILL)
    os.kill(host.passt()[0], signal.SIGKILL)
    host.start()
    tap.ok(wait_for(lambda: len(host.passt()) == 1, 30), "a passt that ended meanwhile is started by the next one")
    fetch("and connects the guest")
    tap.equal(host.virsh("destroy g1").status, 0, "destroy")
    tap.ok(wait_for(lambda: not host.passt(), 10), "passt ends with it")
tap.done()
