"""A private Domus host for a test: a root folder of its own, domusd, and the stock clients.

    with Host() as host:
        host.define(name="g1")
        host.virsh("start g1")
        with host.console("g1") as console:
            console.expect("guest: up")

Every process that a host started is ended by it, by pid, when the test ends; what is left over then is
reported as a failed test.
"""
import contextlib
import functools
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import termios
import time

import tap

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("DOMUS_BUILD", os.path.join(TOP, "build"))
PVH_XML = os.path.join(TOP, "examples", "pvh.xml")
# The reference engine under sanitizers is slow; waiting longer than needed costs nothing.
BOOT_SECONDS = 300


def program(name):
    return os.path.join(BUILD, {"domusd": "libxldrv/domusd", "domus-hv": "hv/domus-hv",
                                "domus-xenstored": "hv/domus-xenstored", "domsh": "cli/domsh"}[name])


@functools.cache
def guest_files(flavour="generic"):
    """The folder with vmlinuz and initrd.gz made from Debian's packages."""
    out = subprocess.run([os.path.join(TOP, "examples", "guest-files.sh"), flavour], check=True,
                         stdout=subprocess.PIPE, text=True)
    return out.stdout.strip()


def wait_for(condition, seconds=30, step=0.05):
    """Polls until condition() is true; gives its last value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)


def alive(pid):
    """Whether the process exists and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


# Where this is the root of another release of Debian, its virsh is used: tests/newest-client.sh.
CLIENT_ROOT = os.environ.get("DOMUS_CLIENT_ROOT")
ENTER = "set -e; root=$1; shift; for d in tmp dev proc; do mount --rbind /$d $root/$d; done; exec chroot $root \"$@\""


def client_argv(argv):
    """The command for a stock client, of this host or of another release."""
    if not CLIENT_ROOT or argv[0] != "virsh":
        return argv
    return ["unshare", "-m", "sh", "-c", ENTER, "sh", CLIENT_ROOT, *argv]


class Console:
    """`virsh console` (or another interactive command) on a terminal of its own."""

    def __init__(self, argv, env=None):
        self.text = ""
        argv = client_argv(argv)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, env or os.environ)
        attributes = termios.tcgetattr(self.fd)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self.fd, termios.TCSANOW, attributes)

    def _read(self, seconds):
        if not select.select([self.fd], [], [], max(seconds, 0))[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        self.text += data.decode(errors="replace").replace("\r", "")
        return data != b""

    def expect(self, pattern, seconds=BOOT_SECONDS):
        """Reads until the regular expression matches; gives the match, or None at the end or time-out."""
        end = time.monotonic() + seconds
        while True:
            match = re.search(pattern, self.text)
            if match or time.monotonic() > end:
                return match
            before = time.monotonic()
            if not self._read(end - before) and time.monotonic() < end - 0.01:
                return re.search(pattern, self.text)

    def prompt(self, seconds=BOOT_SECONDS):
        """Presses Enter until a shell prompts: what is typed before the console is connected is lost. The shell
        may ask for the cursor's position after its prompt."""
        return wait_for(lambda: self.send("\n") or self.expect(r"# (\x1b\[6n)?\s*$", 1), seconds)

    def send(self, text):
        os.write(self.fd, text.encode())

    def run(self, command, seconds=60):
        """Types a command into a guest's shell; gives what it printed, or None."""
        mark = f"END{time.monotonic_ns()}"
        start = len(self.text)
        # The mark is split so that the echo of the command line does not look like the answer.
        self.send(f"{command}; echo {mark[:3]}''{mark[3:]}$?\n")
        match = self.expect(mark + r"\d+", seconds)
        if not match:
            return None
        # A shell with line editing shows what was typed before its prompt a second time, and wraps it.
        return re.split(r"\$\n?\?\n", self.text[start:match.start()])[-1]

    def wait(self, seconds=30):
        """Reads to the end; gives the exit status, or None if it goes on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._read(end - time.monotonic()):
            pass
        status = None

        def ended():
            nonlocal status
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return pid != 0

        if not wait_for(ended, max(end - time.monotonic(), 1)):
            return None
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class MissedEnd(Exception):
    """virsh waits for the end of a job that has ended: its worker told the main loop to stop before the loop began, as happens
    where a call is refused at once (tools/virsh-domain.c, virshWatchJob; g_main_loop_quit of a loop that does not run is lost).
    """


def missed_end(pid):
    """Whether it is a virsh whose thread for save, managedsave, dump or migrate is not there any more."""
    names = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm") as f:
            names.append(f.read().strip())
    with open(f"/proc/{pid}/cmdline") as f:
        command = f.read()
    return "vshEventLoop" in names and re.search(r"\0(save|managedsave|dump|migrate)[ \0]", command) and \
        not any(name.startswith("do") for name in names)


def communicate(process, stdin, end):
    """As of subprocess, until a monotonic time."""
    while True:
        try:
            return process.communicate(stdin, min(5, max(end - time.monotonic(), 0)))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end:
                raise
            with contextlib.suppress(OSError):
                if missed_end(process.pid):
                    raise MissedEnd() from None


class Result:
    def __init__(self, process):
        self.status, self.out, self.err = process.returncode, process.stdout, process.stderr

    def __repr__(self):
        return f"status {self.status}\n{self.out}{self.err}"


class Host:
    def __init__(self, start=True, options=("--verbose",)):
        self.options = options
        self.root = tempfile.mkdtemp(prefix="domus-test-")
        os.chmod(self.root, 0o755)
        self.uri = f"xen+unix:///system?socket={self.root}/run/libvirt/virtxend-sock"
        self.daemon = None
        if start:
            self.start()

    # -- processes

    def start(self):
        """Starts domusd and waits until it serves."""
        log = open(os.path.join(self.root, "domusd.out"), "ab")
        self.daemon = subprocess.Popen([program("domusd"), "--root", self.root, *self.options],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)
        log.close()
        if not wait_for(lambda: self.daemon.poll() is not None or self.virsh("version").status == 0, 60):
            raise RuntimeError("domusd does not answer:\n" + self.log())
        if self.daemon.poll() is not None:
            raise RuntimeError(f"domusd ended with {self.daemon.returncode}:\n" + self.log())

    def stop(self, with_signal=signal.SIGTERM):
        """Ends domusd; running domains go on. Gives its exit status."""
        self.daemon.send_signal(with_signal)
        try:
            return self.daemon.wait(60)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()
            return None

    def log(self):
        with open(os.path.join(self.root, "domusd.out"), errors="replace") as f:
            return f.read()

    def processes(self, name):
        """Pids of this host's processes of a program, by their --root or control folder."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    argv = f.read().decode(errors="replace").split("\0")
                with open(f"/proc/{pid}/environ", "rb") as f:
                    environ = f.read().decode(errors="replace")
                ours = any(self.root in arg for arg in argv) or self.root in environ
                if os.path.basename(argv[0]) == name and ours and alive(int(pid)):
                    found.append(int(pid))
        return found

    def hv_pids(self):
        """The hypervisor processes, from the parent's view: their log goes under our root."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/exe").split(" ")[0].endswith("domus-hv") and \
                        os.readlink(f"/proc/{pid}/fd/2").startswith(self.root) and alive(int(pid)):
                    found.append(int(pid))
        return found

    def close(self):
        if self.daemon is None or self.daemon.poll() is not None:
            with contextlib.suppress(Exception):
                self.start()
        for name in self.virsh("list --name").out.split():
            self.virsh(f"destroy {name}")
        if self.daemon is not None and self.daemon.poll() is None:
            status = self.stop()
            tap.equal(status, 0, "domusd ends cleanly")
        left = wait_for(lambda: not self.hv_pids(), 20) or self.hv_pids()
        tap.ok(left is True, "no hypervisor process is left", left)
        for pid in self.processes("domus-xenstored"):
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda p=pid: not alive(p), 10)
        log = self.log()
        for word in ("AddressSanitizer", "runtime error:", "LeakSanitizer", "CRITICAL", "Assertion"):
            tap.ok(word not in log, f"domusd's log has no {word}", log[-4000:])
        if not os.environ.get("DOMUS_KEEP"):
            shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            tap.note(self.log()[-6000:])
        self.close()

    # -- clients

    def client(self, *argv, stdin=None, seconds=120):
        env = dict(os.environ, LC_ALL="C.UTF-8", LIBVIRT_DEFAULT_URI=self.uri,
                   XENSTORED_PATH=f"{self.root}/run/xenstored/socket")
        end = time.monotonic() + seconds
        while True:
            with subprocess.Popen(client_argv(argv), stdin=subprocess.PIPE if stdin is not None else None, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, errors="replace", env=env) as process:
                try:
                    out, err = communicate(process, stdin, end)
                    return Result(subprocess.CompletedProcess(argv, process.returncode, out, err))
                except MissedEnd:
                    process.kill()
                except BaseException:
                    process.kill()
                    raise

    def virsh(self, command, seconds=120):
        """Stock virsh with a command line as one would type it."""
        return self.client("virsh", "-c", self.uri, command, seconds=seconds)

    def virsh_args(self, *argv, seconds=120):
        return self.client("virsh", "-c", self.uri, *argv, seconds=seconds)

    def console(self, name, *options):
        return Console(["virsh", "-c", self.uri, "console", *options, name],
                       dict(os.environ, LC_ALL="C.UTF-8", TERM="dumb"))

    # -- domains

    def xml(self, name="g1", memory_mib=256, vcpus=1, cmdline="console=hvc0", flavour="generic",
            kernel=None, initrd=None, uuid=None, extra=""):
        files = guest_files(flavour)
        with open(PVH_XML) as f:
            text = f.read()
        for key, value in {"NAME": name, "MEMORY_MIB": memory_mib, "VCPUS": vcpus, "CMDLINE": cmdline,
                           "KERNEL": kernel or f"{files}/vmlinuz",
                           "INITRD": initrd or f"{files}/initrd.gz"}.items():
            text = text.replace(f"@{key}@", str(value))
        if uuid:
            text = text.replace("</name>", f"</name>\n  <uuid>{uuid}</uuid>")
        return text.replace("</domain>", extra + "</domain>")

    def write_xml(self, text, name="domain.xml"):
        path = os.path.join(self.root, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    @contextlib.contextmanager
    def unsaveable(self, name):
        """While in it the domain's definition cannot be written anew."""
        path = f"{self.root}/etc/domus/xen/{name}.xml"
        os.rename(path, f"{self.root}/aside")
        os.mkdir(path)
        try:
            yield
        finally:
            os.rmdir(path)
            os.rename(f"{self.root}/aside", path)

    def define(self, **options):
        return self.virsh_args("define", self.write_xml(self.xml(**options)))

    def state(self, name):
        return self.virsh(f"domstate {name}").out.strip()
