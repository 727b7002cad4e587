#!/usr/bin/python3
"""xen+ssh:// and its kin with stock virsh, through an sshd of the test's own: virt-ssh-helper, nc, libssh and libssh2.

As root, in a mount namespace of its own, where /run/libvirt is the test host's: that is where the helper looks.
"""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import wait_for
from remote import RemoteHost, free_port

SSHD = "/usr/sbin/sshd"
CONFIG = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/pid
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
"""


def enter_namespace():
    """Starts this test anew where its mounts are its own."""
    if os.environ.get("DOMUS_TEST_MOUNTS"):
        return
    for program in (SSHD, "/usr/bin/ssh-keygen", "/usr/bin/virt-ssh-helper"):
        if not os.path.exists(program):
            tap.skip_all(f"no {program} here")
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode:
        tap.skip_all("no mount namespace can be made here")
    os.environ["DOMUS_TEST_MOUNTS"] = "1"
    os.execvp("unshare", ["unshare", "-m", sys.executable, os.path.abspath(__file__)])


class Sshd:
    def __init__(self, folder):
        os.makedirs(folder)
        self.folder, self.port = folder, free_port()
        for name in ("host_key", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-f", f"{folder}/{name}"],
                           check=True)
        shutil.copy(f"{folder}/key.pub", f"{folder}/authorized_keys")
        with open(f"{folder}/config", "w") as f:
            f.write(CONFIG.format(port=self.port, folder=folder))
        with open(f"{folder}/host_key.pub") as key, open(f"{folder}/known_hosts", "w") as known:
            known.write(f"[localhost]:{self.port} {key.read()}")
        os.makedirs("/run/sshd", exist_ok=True)
        self.process = subprocess.Popen([SSHD, "-D", "-f", f"{folder}/config", "-E", f"{folder}/log"])
        wait_for(lambda: os.path.exists(f"{folder}/pid"))

    def uri(self, transport, more=""):
        """The library's own clients take known hosts and key from here; ssh takes both from its settings."""
        uri = f"xen+{transport}://root@localhost:{self.port}/system?keyfile={self.folder}/key"
        if transport == "ssh":
            return f"{uri}&no_verify=1&no_tty=1{more}"
        return f"{uri}&known_hosts={self.folder}/known_hosts&sshauth=privkey{more}"

    def log(self):
        with open(f"{self.folder}/log", errors="replace") as f:
            return f.read()[-2000:]

    def close(self):
        self.process.terminate()
        self.process.wait()


def transports(host, sshd):
    socket = f"&socket={host.root}/run/libvirt/virtxend-sock"
    for transport in ("ssh", "libssh", "libssh2"):
        result = host.at(sshd.uri(transport), "list --all")
        tap.ok(result.status == 0 and "t1" in result.out, f"{transport}: the helper finds the socket",
               f"{result}{sshd.log()}")
        result = host.at(sshd.uri(transport, "&proxy=netcat" + socket), "list --all")
        tap.ok(result.status == 0 and "t1" in result.out, f"{transport}: nc is told the socket", result)
    result = host.client("virsh", "-r", "-c", sshd.uri("ssh"), "destroy t1")
    tap.ok(result.status == 1 and "read only" in result.err, "a reader comes to the socket for readers", result)
    tap.equal(host.at(sshd.uri("ssh"), "desc t1 --config new").status, 0, "a writer may write")


def main():
    enter_namespace()
    with RemoteHost("") as host:
        os.makedirs("/run/libvirt", exist_ok=True)
        subprocess.run(["mount", "--bind", f"{host.root}/run/libvirt", "/run/libvirt"], check=True)
        xml = host.write_xml("<domain type='xen'><name>t1</name><memory>65536</memory>"
                             "<os><type>xenpvh</type><kernel>/vmlinuz</kernel></os></domain>")
        host.virsh(f"define {xml}")
        sshd = Sshd(f"{host.root}/ssh")
        try:
            transports(host, sshd)
        finally:
            sshd.close()
        host.virsh("undefine t1")
    tap.done()


main()
