#!/usr/bin/python3
"""virt-admin with domusd: servers, threads, clients and limits, new certificates, an end when nobody is there."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Console, Result, wait_for
from remote import Pki, RemoteHost

SETTINGS = """[sockets]
listen_tls = 1
listen_addr = 127.0.0.1
tls_port = {tls}
"""


def prepare(host):
    host.pki = Pki(f"{host.root}/etc/pki/CA")
    os.makedirs(f"{host.root}/etc/pki/libvirt/private")
    issue_server(host)
    host.alice = host.pki.client(f"{host.root}/alice", "alice")


def issue_server(host):
    host.pki.issue(f"{host.root}/etc/pki/libvirt/private/serverkey.pem",
                   f"{host.root}/etc/pki/libvirt/servercert.pem", "localhost", "tls_www_server")


def admin(host, command, *prefix):
    uri = f"virtxend:///system?socket={host.root}/run/libvirt/virtxend-admin-sock"
    return host.client(*prefix, "virt-admin", "-c", uri, *command.split())


def value(text, key):
    match = re.search(rf"^{key}\s*: (.*)$", text, re.M)
    return match.group(1).strip() if match else None


def servers(host):
    result = admin(host, "srv-list")
    tap.ok("virtxend" in result.out and "admin" in result.out, "both servers are listed", result)
    out = admin(host, "srv-threadpool-info virtxend").out
    tap.equal((value(out, "minWorkers"), value(out, "maxWorkers"), value(out, "prioWorkers")), ("5", "20", "5"),
              "threads of the settings")
    result = admin(host, "srv-threadpool-set virtxend --min-workers 2 --max-workers 7 --priority-workers 3")
    out = admin(host, "srv-threadpool-info virtxend").out
    tap.equal((result.status, value(out, "minWorkers"), value(out, "maxWorkers"), value(out, "prioWorkers")),
              (0, "2", "7", "3"), "and as they were changed")
    result = admin(host, "srv-threadpool-set virtxend --min-workers 8")
    tap.ok(result.status == 1 and "8 to 7 workers" in result.err, "a minimum above the maximum is refused", result)
    result = admin(host, "srv-threadpool-info teapot")
    tap.ok("no server named 'teapot'" in result.err, "a server that is not there is named", result)
    tap.equal(host.virsh("list").status, 0, "clients are served as before")


def clients(host):
    uri = f"xen+tls://localhost:{host.tls}/system?pkipath={host.alice}"
    with Console(["virsh", "-c", uri], dict(os.environ, TERM="dumb")) as remote, \
            Console(["virsh", "-r", "-c", host.uri + "-ro"], dict(os.environ, TERM="dumb")) as local:
        remote.expect("virsh # ", 60)
        local.expect("virsh > ", 60)
        out = admin(host, "srv-clients-list virtxend").out
        rows = dict(re.findall(r"^ *(\d+) +(unix|tls|tcp)", out, re.M))
        tap.equal(sorted(rows.values()), ["tls", "unix"], "clients and how they came are listed")
        ids = {transport: number for number, transport in rows.items()}
        out = admin(host, f"client-info virtxend {ids['tls']}").out
        tap.ok(value(out, "tls_x509_dname") == "O=Domus,CN=alice" and value(out, "readonly") == "no" and
               value(out, "sock_addr").startswith("127.0.0.1:"), "who a client of TLS is", out)
        out = admin(host, f"client-info virtxend {ids['unix']}").out
        tap.equal((value(out, "unix_process_id"), value(out, "unix_user_id"), value(out, "readonly")),
                  (str(local.pid), "0", "yes"), "who a local one is")
        out = admin(host, "srv-clients-info virtxend").out
        tap.equal((value(out, "nclients"), value(out, "nclients_max")), ("2", "5000"), "how many there are and may be")
        tap.equal(admin(host, f"client-disconnect virtxend {ids['tls']}").status, 0, "one is disconnected")
        tap.ok(wait_for(lambda: value(admin(host, "srv-clients-info virtxend").out, "nclients") == "1"), "and is gone")
        result = admin(host, f"client-disconnect virtxend {ids['tls']}")
        tap.ok(f"no client {ids['tls']}" in result.err, "it cannot be disconnected twice", result)

        tap.equal(admin(host, "srv-clients-set virtxend --max-clients 1 --max-unauth-clients 1").status, 0,
                  "the limit is lowered")
        argv = ["virsh", "-c", host.uri, "list"]
        waiting = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        tap.ok(not wait_for(lambda: waiting.poll() is not None, 2), "the next client has to wait")
        tap.equal(admin(host, "srv-clients-set virtxend --max-clients 9").status, 0, "until it is raised again")
        tap.equal(waiting.wait(60), 0, "then it is served")
        result = admin(host, "srv-clients-set virtxend --max-unauth-clients 10")
        tap.ok(result.status == 1 and "not possible" in result.err, "limits that cannot be are refused", result)


def certificates(host):
    uri = f"xen+tls://localhost:{host.tls}/system?pkipath={host.alice}"
    issue_server(host)
    result = admin(host, "srv-update-tls virtxend")
    tap.equal(result.status, 0, "new certificates are read") or tap.note(result)
    tap.equal(host.at(uri, "list").status, 0, "and used")
    with open(f"{host.root}/etc/pki/libvirt/servercert.pem", "w") as f:
        f.write("rubbish")
    result = admin(host, "srv-update-tls virtxend")
    tap.ok(result.status == 1 and "servercert.pem" in result.err, "bad ones are refused", result)
    tap.equal(host.at(uri, "list").status, 0, "and those that were there stay in use")
    issue_server(host)
    result = admin(host, "srv-update-tls admin")
    tap.ok(result.status == 1 and "does not use TLS" in result.err, "not every server has any", result)


def strangers(host):
    sock = f"{host.root}/run/libvirt/virtxend-admin-sock"
    tap.equal(os.stat(sock).st_mode & 0o777, 0o600, "the socket is for its owner")
    os.chmod(sock, 0o666)
    result = admin(host, "srv-list", "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    tap.ok(result.status == 1 and "authentication required" in result.err, "another user is refused there too", result)


def timeout(host):
    tap.equal(admin(host, "daemon-timeout --timeout 2").status, 0, "an end is asked for")
    tap.equal(wait_for(lambda: host.daemon.poll() is not None, 60) and host.daemon.returncode, 0,
              "the daemon ends by itself when nobody is there")
    host.start()


def main():
    if not shutil.which("certtool"):
        tap.skip_all("no certtool (gnutls-bin) here")
    with RemoteHost(SETTINGS, prepare) as host:
        servers(host)
        clients(host)
        certificates(host)
        if os.getuid() == 0:
            strangers(host)
        timeout(host)
    tap.done()


main()
