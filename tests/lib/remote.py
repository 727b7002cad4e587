"""What a test of remote connections needs: certificates, free ports, settings, and a daemon that has them."""
import os
import shutil
import socket
import subprocess

from host import Host, wait_for

CA = """cn = "{name}"
ca
cert_signing_key
"""
LEAF = """cn = "{name}"
organization = "Domus"
{kind}
signing_key
encryption_key
dns_name = "localhost"
ip_address = "127.0.0.1"
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def certtool(*argv):
    subprocess.run(["certtool", *argv], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Pki:
    """An authority, and certificates that it signs, in a folder as clients want it (pkipath)."""

    def __init__(self, folder, name="test CA"):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.key, self.cert = f"{folder}/cakey.pem", f"{folder}/cacert.pem"
        self._key(self.key)
        certtool("--generate-self-signed", "--load-privkey", self.key, "--template",
                 self._template(CA.format(name=name)), "--outfile", self.cert)

    def _key(self, path):
        certtool("--generate-privkey", "--key-type", "rsa", "--bits", "2048", "--outfile", path)

    def _template(self, text):
        with open(f"{self.folder}/template", "w") as f:
            f.write(text + "expiration_days = 2\n")
        return f"{self.folder}/template"

    def issue(self, key, cert, name, kind):
        """A certificate of the kind tls_www_server or tls_www_client."""
        self._key(key)
        certtool("--generate-certificate", "--load-privkey", key, "--load-ca-certificate", self.cert,
                 "--load-ca-privkey", self.key, "--template", self._template(LEAF.format(name=name, kind=kind)),
                 "--outfile", cert)

    def client(self, folder, name):
        """A folder for pkipath=."""
        os.makedirs(folder, exist_ok=True)
        self.issue(f"{folder}/clientkey.pem", f"{folder}/clientcert.pem", name, "tls_www_client")
        with open(self.cert) as source, open(f"{folder}/cacert.pem", "w") as target:
            target.write(source.read())
        return folder


def install_pki(host, pki):
    """Certificates of a host that is called localhost, as a server and as a client."""
    folder = f"{host.root}/etc/pki"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(f"{folder}/CA")
    os.makedirs(f"{folder}/libvirt/private")
    shutil.copy(pki.cert, f"{folder}/CA/cacert.pem")
    for kind in ("server", "client"):
        pki.issue(f"{folder}/libvirt/private/{kind}key.pem", f"{folder}/libvirt/{kind}cert.pem", "localhost", f"tls_www_{kind}")


class RemoteHost(Host):
    """A host whose settings are given as text; {tls} and {tcp} in it stand for free ports."""

    def __init__(self, settings, prepare=None, start=True):
        self.tls, self.tcp = free_port(), free_port()
        self.environ = {}
        super().__init__(start=False)
        self.configure(settings)
        if prepare:
            prepare(self)
        if start:
            self.start()

    def configure(self, settings):
        os.makedirs(f"{self.root}/etc/domus", exist_ok=True)
        with open(f"{self.root}/etc/domus/domusd.conf", "w") as f:
            f.write(settings.replace("{tls}", str(self.tls)).replace("{tcp}", str(self.tcp))
                    .replace("{root}", self.root))

    def start(self):
        before = {key: os.environ.get(key) for key in self.environ}
        os.environ.update(self.environ)
        try:
            super().start()
        finally:
            for key, value in before.items():
                os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)

    def restart(self, settings):
        self.stop()
        self.configure(settings)
        self.start()

    def at(self, uri, command):
        return self.client("virsh", "-c", uri, command, seconds=60)
