#!/usr/bin/python3
"""polkit with stock virsh: who may manage domains, and which, by the rules of a real polkitd on a bus of the test's own.

As root, in a mount namespace of its own, where polkit's actions and rules are the test's.
"""
import os
import pwd
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import TOP, Console, Result, wait_for
from remote import RemoteHost

POLKITD = "/usr/lib/polkit-1/polkitd"
ACTIONS, RULES = "/usr/share/polkit-1/actions", "/etc/polkit-1/rules.d"
FRIEND, STRANGER = "games", "nobody"

RULE = """polkit.addRule(function(action, subject) {
  if (subject.user == "%s" && action.id == "org.libvirt.unix.manage") return polkit.Result.YES;
  if (subject.user == "%s" && action.id == "org.libvirt.unix.monitor") return polkit.Result.NO;
});
"""
# "mine" is the friend's but for its definition, "hidden" is not shown; of all else he gets the defaults.
ACCESS = """polkit.addRule(function(action, subject) {
  if (subject.user != "%s") return;
  if (action.id == "org.libvirt.unix.manage") return polkit.Result.YES;
  if (action.id.indexOf("org.libvirt.api.domain.") != 0 || action.lookup("connect_driver") != "Xen") return;
  if (action.lookup("domain_name") == "hidden") return polkit.Result.NO;
  if (action.lookup("domain_name") == "made") return polkit.Result.YES;
  if (action.lookup("domain_uuid") == "%s" && action.id != "org.libvirt.api.domain.save") return polkit.Result.YES;
});
"""
MINE = "6d6c2a6e-3e5c-4ad0-bb7b-2a1b0c9d8e7f"
# A daemon between its client and ours: what the client may is what counts, if the daemon may say so.
IDENTITY = """import libvirt, sys
uid, pid, time = map(int, sys.argv[2:])
libvirt.registerErrorHandler(lambda *_: None, None)
connection = libvirt.open(sys.argv[1])
try:
    connection.setIdentity({"teapot": 1})
except libvirt.libvirtError as e:
    print(e)
try:
    connection.setIdentity({"unix-user-id": uid, "process-id": pid, "process-time": time})
    print(sorted(d.name() for d in connection.listAllDomains()), connection.numOfDefinedDomains())
except libvirt.libvirtError as e:
    print(e)
"""
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
"""


def enter_namespace():
    """Starts this test anew where its mounts are its own."""
    if os.environ.get("DOMUS_TEST_MOUNTS"):
        return
    for program in (POLKITD, "/usr/bin/dbus-daemon", "/usr/bin/setpriv"):
        if not os.path.exists(program):
            tap.skip_all(f"no {program} here")
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode:
        tap.skip_all("no mount namespace can be made here")
    os.environ["DOMUS_TEST_MOUNTS"] = "1"
    os.execvp("unshare", ["unshare", "-m", sys.executable, os.path.abspath(__file__)])


def make_policy(rule):
    for folder in (ACTIONS, RULES, "/usr/share/polkit-1/rules.d"):
        os.makedirs(folder, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder], check=True)
    for name in ("domus", "domus-access"):
        shutil.copy(f"{TOP}/libxldrv/polkit/{name}.policy", ACTIONS)
    write_rule(rule)


def write_rule(text):
    with open(f"{RULES}/10-test.rules.new", "w") as f:
        f.write(text)
    os.rename(f"{RULES}/10-test.rules.new", f"{RULES}/10-test.rules")


class Bus:
    """A bus and, at will, polkitd on it."""

    def __init__(self, root):
        self.path, self.children = f"{root}/bus", []
        self.address = f"unix:path={self.path}"
        with open(f"{root}/bus.conf", "w") as f:
            f.write(BUS.format(path=self.path))
        self.spawn("dbus-daemon", f"--config-file={root}/bus.conf", "--nofork")
        wait_for(lambda: os.path.exists(self.path))

    def spawn(self, *argv):
        env = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=self.address)
        self.children.append(subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def polkitd(self):
        self.spawn(POLKITD, "--no-debug")
        query = ["dbus-send", f"--bus={self.address}", "--print-reply", "--dest=org.freedesktop.DBus", "/",
                 "org.freedesktop.DBus.GetNameOwner", "string:org.freedesktop.PolicyKit1"]
        return wait_for(lambda: subprocess.run(query, capture_output=True).returncode == 0)

    def close(self):
        for child in reversed(self.children):
            child.terminate()
            child.wait()


def as_user(host, user, command, readonly=False):
    uri = host.uri + "-ro" if readonly else host.uri
    argv = ["setpriv", f"--reuid={user}", f"--regid=nogroup", "--clear-groups", "virsh",
            *(["-r"] if readonly else []), "-c", uri, *command.split()]
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
    return Result(subprocess.run(argv, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120))


def no_bus(host):
    result = as_user(host, FRIEND, "list")
    tap.ok(result.status == 1 and "polkit cannot be asked on the system bus" in result.err,
           "without a system bus a user is refused, and told so", result)
    tap.equal(host.virsh("list").status, 0, "root is not asked")
    tap.equal(as_user(host, STRANGER, "list", readonly=True).status, 0, "nor is a reader")


def sockets(host, bus):
    result = as_user(host, FRIEND, "list")
    tap.ok("PolicyKit1" in result.err and result.status == 1, "without polkitd the bus says what is missing", result)
    tap.ok(bus.polkitd(), "polkitd runs on the test's bus")
    result = as_user(host, FRIEND, "list --all")
    tap.equal(result.status, 0, "a user whom a rule allows may manage domains") or tap.note(result)
    result = as_user(host, STRANGER, "list")
    tap.ok(result.status == 1 and "authentication unavailable: no polkit agent" in result.err,
           "another would have to authenticate, and has no agent", result)
    host.restart('[authentication]\nauth_unix_ro = "polkit"\n')
    result = as_user(host, STRANGER, "list", readonly=True)
    tap.ok(result.status == 1 and "not authorized" in result.err, "a user whom a rule denies to read may not", result)
    tap.equal(as_user(host, FRIEND, "list", readonly=True).status, 0, "others may, by default")


def denied(result, action, domain):
    return result.status == 1 and f"access denied: 'org.libvirt.api.{action}' for domain '{domain}'" in result.err


def write_access():
    write_rule(ACCESS % (FRIEND, MINE))


def access(host):
    for name, uuid in (("mine", MINE), ("hidden", None), ("other", None)):
        host.define(name=name, uuid=uuid)
    write_access()
    host.restart('[authentication]\naccess_drivers = [ "polkit" ]\n')
    result = wait_for(lambda: (r := as_user(host, FRIEND, "list --all --name")).out.split() == ["mine", "other"] and r, 10)
    tap.ok(result, "a domain that a user may not see is not in his list", as_user(host, FRIEND, "list --all --name"))
    result = as_user(host, FRIEND, "domstats --state")
    tap.ok("'mine'" in result.out and "hidden" not in result.out, "nor in statistics", result)
    tap.equal(host.virsh("list --all --name").out.split(), ["hidden", "mine", "other"], "root sees all")
    for command, action, domain in (
            ("start other", "domain.start", "other"),
            ("autostart other", "domain.write", "other"), ("undefine other", "domain.delete", "other"),
            ("dumpxml --security-info other", "domain.read-secure", "other"),
            ("domifaddr other --source agent", "domain.write", "other"),
            ("desc mine --config --title x", "domain.save", "mine")):
        result = as_user(host, FRIEND, command)
        tap.ok(denied(result, action, domain), f"'{command}' needs {action}", result)
    result = as_user(host, FRIEND, "dominfo hidden")
    tap.ok(result.status == 1 and "failed to get domain 'hidden'" in result.err, "a hidden domain cannot be got", result)
    for command in ("autostart mine", "dumpxml --security-info mine", "dumpxml other"):
        result = as_user(host, FRIEND, command)
        tap.equal(result.status, 0, f"'{command}' may be done") or tap.note(result)
    result = as_user(host, FRIEND, "desc mine --live --title x")
    tap.ok("not running" in result.err, "a change that is live alone does not ask for the definition", result)
    result = as_user(host, FRIEND, f"define {host.write_xml(host.xml(name='stolen'))}")
    tap.ok(denied(result, "domain.write", "stolen"), "a domain is known by its XML before it is there", result)
    tap.equal(host.virsh("dominfo stolen").status, 1, "and is not made")
    result = as_user(host, FRIEND, f"define {host.write_xml(host.xml(name='made'))}")
    tap.equal(result.status, 0, "one that a rule allows is") or tap.note(result)
    result = as_user(host, STRANGER, "list --all --name", readonly=True)
    tap.equal(result.out.split(), ["hidden", "made", "mine", "other"], "readers see what the defaults allow")


CHECKPOINT = "<domaincheckpoint><name>c1</name><creationTime>1</creationTime>{domain}</domaincheckpoint>"


def checkpoints(host):
    """Procedures whose first argument is a checkpoint are about its domain."""
    for name in ("mine", "hidden", "other"):
        xml = CHECKPOINT.format(domain=host.virsh(f"dumpxml {name}").out)
        result = host.virsh(f"checkpoint-create {name} {host.write_xml(xml)} --redefine")
        tap.equal(result.status, 0, f"root gives '{name}' a checkpoint") or tap.note(result)
    for command, text in (("checkpoint-list mine --name", "c1"), ("checkpoint-dumpxml mine c1", "<name>c1</name>"),
                          ("checkpoint-list other --name", "c1"), ("checkpoint-info other c1", "c1")):
        result = as_user(host, FRIEND, command)
        tap.ok(result.status == 0 and text in result.out, f"'{command}' may be done", result)
    for command, action in (("checkpoint-delete other c1 --metadata", "domain.checkpoint"),
                            ("checkpoint-dumpxml --security-info other c1", "domain.read-secure")):
        result = as_user(host, FRIEND, command)
        tap.ok(denied(result, action, "other"), f"'{command}' needs {action}", result)
    result = as_user(host, FRIEND, "checkpoint-delete mine c1 --metadata")
    tap.equal(result.status, 0, "a user may delete a checkpoint of his domain") or tap.note(result)
    result = as_user(host, FRIEND, "checkpoint-list hidden")
    tap.ok(result.status == 1 and "failed to get domain 'hidden'" in result.err, "of a hidden domain nothing is told", result)


def heard(host):
    argv = ["setpriv", f"--reuid={FRIEND}", "--regid=nogroup", "--clear-groups", "virsh", "-c", host.uri,
            "event", "--event", "metadata-change", "--loop"]
    with Console(argv, dict(os.environ, HOME="/nonexistent", TERM="dumb")) as events:
        # Registered when the first is heard.
        tap.ok(wait_for(lambda: host.virsh("desc mine --config --title one") and events.expect("'mine'", 0.5), 30),
               "a user hears of his domain")
        host.virsh("desc hidden --config --title two")
        host.virsh("desc other --config --title three")
        tap.ok(events.expect("'other'", 20) and "hidden" not in events.text, "not of what he may not see", events.text)


def untrusted(host):
    argv = ["setpriv", f"--reuid={FRIEND}", "--clear-groups", "--regid=nogroup", sys.executable, "-c", IDENTITY, host.uri,
            "0", "1", "1"]
    result = Result(subprocess.run(argv, capture_output=True, text=True, timeout=60))
    tap.equal(result.out.count("only root may tell"), 2, "without access control a user may not pass for another") or \
        tap.note(result)


def identity(host):
    user = pwd.getpwnam(FRIEND).pw_uid
    with subprocess.Popen(["setpriv", f"--reuid={FRIEND}", "--clear-groups", "--regid=nogroup", "sleep", "60"]) as process:
        with open(f"/proc/{process.pid}/stat") as f:
            started = f.read().rsplit(")", 1)[1].split()[19]
        argv = [sys.executable, "-c", IDENTITY, host.uri, str(user), str(process.pid), started]
        result = Result(subprocess.run(argv, capture_output=True, text=True, timeout=60))
        tap.ok("'teapot' not supported" in result.out, "an identity of parts that are not known is refused", result)
        tap.ok("['made', 'mine', 'other'] 3" in result.out, "root may speak for another, who sees what is his", result)
        argv = ["setpriv", f"--reuid={FRIEND}", "--clear-groups", "--regid=nogroup", *argv]
        result = Result(subprocess.run(argv, capture_output=True, text=True, timeout=60))
        tap.ok("connect.write' denied" in result.out, "another may not", result)
        process.terminate()


def main():
    enter_namespace()
    make_policy(RULE % (FRIEND, STRANGER))
    with RemoteHost("", start=False) as host:
        host.environ = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={host.root}/bus"}
        host.start()
        no_bus(host)
        bus = Bus(host.root)
        try:
            sockets(host, bus)
            untrusted(host)
            access(host)
            checkpoints(host)
            heard(host)
            identity(host)
        finally:
            bus.close()
    tap.done()


main()
