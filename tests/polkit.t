#!/usr/bin/python3
"""polkit with stock virsh: who may manage domains, by the rules of a real polkitd on a bus of the test's own.

As root, in a mount namespace of its own, where polkit's actions and rules are the test's.
"""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import TOP, Result, wait_for
from remote import RemoteHost

POLKITD = "/usr/lib/polkit-1/polkitd"
ACTIONS, RULES = "/usr/share/polkit-1/actions", "/etc/polkit-1/rules.d"
FRIEND, STRANGER = "games", "nobody"

RULE = """polkit.addRule(function(action, subject) {
  if (subject.user == "%s" && action.id == "org.libvirt.unix.manage") return polkit.Result.YES;
  if (subject.user == "%s" && action.id == "org.libvirt.unix.monitor") return polkit.Result.NO;
});
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
    shutil.copy(f"{TOP}/libxldrv/polkit/domus.policy", ACTIONS)
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
        finally:
            bus.close()
    tap.done()


main()
