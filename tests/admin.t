#!/usr/bin/python3
"""virt-admin with domusd: servers, threads, clients and limits, new certificates, the log, an end when nobody is there."""
import os
import re
import shutil
import signal
import socket
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
    match = re.search(rf"^ *{key}\s*: ?(.*)$", text, re.M)
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


def admin_args(host, *argv):
    uri = f"virtxend:///system?socket={host.root}/run/libvirt/virtxend-admin-sock"
    return host.client("virt-admin", "-c", uri, *argv)


def logged(path, text):
    def look():
        with open(path) as f:
            return text in f.read()
    return wait_for(look, 10)


def log(host):
    """The end of each client is told by rpc.client at level 2."""
    path, other = f"{host.root}/more.log", f"{host.root}/other.log"
    result = admin(host, "daemon-log-outputs")
    tap.equal((value(result.out, "Logging outputs"), value(admin(host, "daemon-log-filters").out, "Logging filters")),
              ("1:stderr", ""), "the log's outputs and filters")
    result = admin_args(host, "daemon-log-outputs", "--outputs", f"1:file:{path} 3:stderr")
    tap.equal((result.status, value(admin(host, "daemon-log-outputs").out, "Logging outputs")),
              (0, f"1:file:{path} 3:stderr"), "outputs are changed")
    tap.equal(os.stat(path).st_mode & 0o777, 0o600, "a file is for its owner")
    for outputs, culprit in ((f"1:file:{other} 9:stderr", "9:stderr"), ("1:teapot", "1:teapot"), ("1:file:x", "1:file:x"),
                             ("1:file:/nonexistent/x", "/nonexistent/x"), ("1:syslog", "1:syslog")):
        result = admin_args(host, "daemon-log-outputs", "--outputs", outputs)
        tap.ok(result.status == 1 and culprit in result.err, f"outputs '{outputs}' are refused by name", result)
    tap.equal(value(admin(host, "daemon-log-outputs").out, "Logging outputs"), f"1:file:{path} 3:stderr",
              "and those that were there stay")
    result = admin_args(host, "daemon-log-filters", "--filters", "1:driver 7:rpc")
    tap.ok(result.status == 1 and "'7:rpc'" in result.err, "so is a filter", result)
    admin_args(host, "daemon-log-filters", "--filters", "4:rpc.client 1:rpc")
    tap.equal(value(admin(host, "daemon-log-filters").out, "Logging filters"), "4:rpc.client 1:rpc", "filters are changed")
    os.truncate(path, 0)
    host.virsh("list")
    tap.equal(os.path.getsize(path), 0, "what a filter keeps out is not in the file")
    admin_args(host, "daemon-log-filters", "--filters", "")
    host.virsh("list")
    tap.ok(logged(path, "closed"), "without it it is")


def reload(host):
    host.daemon.send_signal(signal.SIGHUP)
    wait_for(lambda: host.virsh("version").status == 0)


def log_settings(host):
    path = f"{host.root}/set.log"
    host.configure(SETTINGS + f'[log]\nlog_level = 1\nlog_filters = "4:rpc"\nlog_outputs = "2:file:{path}"\n')
    reload(host)
    tap.ok(logged(path, "read the settings again"), "the settings' outputs are used after SIGHUP")
    tap.equal(value(admin(host, "daemon-log-filters").out, "Logging filters"), "4:rpc", "and their filters")
    host.configure(SETTINGS + '[log]\nlog_outputs = "2:teapot"\n')
    reload(host)
    tap.ok(logged(path, "2:teapot"), "bad ones are named, and the old stay")
    admin_args(host, "daemon-log-outputs", "--outputs", "")
    tap.equal(value(admin(host, "daemon-log-outputs").out, "Logging outputs"), "1:stderr", "none are standard error")
    host.configure(SETTINGS)
    reload(host)


def syslog(host):
    """Where no syslog is, the test is one."""
    if os.getuid() or os.path.lexists("/dev/log"):
        tap.skip("somebody else's syslog is here, or it cannot be one's own")
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind("/dev/log")
        try:
            daemon.settimeout(20)
            admin_args(host, "daemon-log-outputs", "--outputs", "1:syslog:teapot")
            reload(host)
            text = daemon.recv(65536).decode()
            tap.ok("teapot[" in text and text.startswith("<30>"), "syslog gets it by that name, as of a daemon", text)
        finally:
            os.unlink("/dev/log")
    admin_args(host, "daemon-log-outputs", "--outputs", "")


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
        log(host)
        log_settings(host)
        syslog(host)
        timeout(host)
    tap.done()


main()
