"""A display that nobody looks at, and programs on it as a person uses them: by what their windows show (AT-SPI).

    with Desktop(folder) as desktop:
        desktop.run("virt-manager", "--no-fork")
        desktop.press("radio button", "Import existing disk image")
        desktop.picture("/tmp/picture.png")
"""
import os
import re
import shutil
import signal
import subprocess
import time

from host import wait_for

NEEDED = ("Xvfb", "dbus-daemon", "import", "/usr/libexec/at-spi-bus-launcher")


def missing():
    """What a desktop would need and is not there; None: nothing."""
    for program in NEEDED:
        if not shutil.which(program):
            return program
    try:
        import gi
        gi.require_version("Atspi", "2.0")
    except (ImportError, ValueError) as e:
        return str(e)
    return None


class Desktop:
    def __init__(self, folder, size="1100x800"):
        self.folder, self.size, self.processes = folder, size, []

    def __enter__(self):
        read_end, write_end = os.pipe()
        self._start("Xvfb", "-displayfd", str(write_end), "-screen", "0", f"{self.size}x24", "-nolisten", "tcp", pass_fds=[write_end])
        os.close(write_end)
        with os.fdopen(read_end) as number:
            os.environ["DISPLAY"] = f":{number.readline().strip()}"
        for name in ("home", "runtime"):
            os.makedirs(f"{self.folder}/{name}", mode=0o700, exist_ok=True)
        os.environ.update(HOME=f"{self.folder}/home", XDG_RUNTIME_DIR=f"{self.folder}/runtime", GDK_BACKEND="x11",
                          GTK_MODULES="gail:atk-bridge", LC_ALL="C.UTF-8", GSETTINGS_BACKEND="memory")
        os.environ.pop("NO_AT_BRIDGE", None)
        bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--print-address"], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, start_new_session=True)
        self.processes.append(bus)
        os.environ["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().strip()
        self._start("/usr/libexec/at-spi-bus-launcher", "--launch-immediately", "--a11y=1")
        import gi
        gi.require_version("Atspi", "2.0")
        from gi.repository import Atspi
        self.atspi = Atspi
        return self

    def _start(self, *argv, pass_fds=(), log=None):
        out = open(log, "wb") if log else subprocess.DEVNULL
        self.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=pass_fds,
                                               start_new_session=True))
        return self.processes[-1]

    def run(self, *argv, log=None):
        """Starts a program; what it says is in its log."""
        return self._start(*argv, log=f"{self.folder}/{log or os.path.basename(argv[0])}.log")

    def log(self, name):
        with open(f"{self.folder}/{name}.log", errors="replace") as f:
            return f.read()

    def __exit__(self, *_):
        for process in reversed(self.processes):
            try:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()

    # -- what is on it

    def _all(self, node):
        if node is None:
            return
        yield node
        for i in range(node.get_child_count()):
            yield from self._all(node.get_child_at_index(i))

    def _shows(self, node, role, name):
        try:
            return node.get_role_name() == role and re.search(name, node.get_name() or "") is not None and \
                node.get_state_set().contains(self.atspi.StateType.SHOWING)
        except Exception:  # it has just gone
            return False

    def look(self, role, name="", window=None):
        """The first thing of a kind whose name matches @name, in the window whose title matches; None."""
        try:
            root = self.look("frame", window) if window else self.atspi.get_desktop(0)
            return next((node for node in self._all(root) if self._shows(node, role, name)), None)
        except Exception:
            return None

    def count(self, role, name=""):
        return sum(self._shows(node, role, name) for node in self._all(self.atspi.get_desktop(0)))

    def words(self, role, name=""):
        """What is written in it."""
        text = self.find(role, name).get_text_iface()
        return text.get_text(0, -1) if text else ""

    def find(self, role, name="", window=None, seconds=60):
        found = wait_for(lambda: self.look(role, name, window), seconds, 0.3)
        if not found:
            raise LookupError(f"no {role} '{name}' is shown; there are:\n{self.text()}")
        return found

    def text(self):
        """All that is shown, a line each."""
        lines = []
        for node in self._all(self.atspi.get_desktop(0)):
            try:
                text = node.get_text_iface()
                said = text.get_text(0, -1) if text else ""
                if (node.get_name() or said) and node.get_state_set().contains(self.atspi.StateType.SHOWING):
                    lines.append(f"{node.get_role_name()} '{node.get_name()}' {said!r}")
            except Exception:
                continue
        return "\n".join(lines)

    # -- what a person does

    def press(self, role, name, window=None):
        self.find(role, name, window).get_action_iface().do_action(0)
        time.sleep(0.5)

    def click(self, role, name, window=None, button=1):
        """With the mouse, near its left end."""
        place = self.find(role, name, window).get_component_iface().get_extents(self.atspi.CoordType.SCREEN)
        self.atspi.generate_mouse_event(place.x + min(place.width, 60) // 2, place.y + place.height // 2, f"b{button}c")
        time.sleep(0.7)

    def type(self, role, name, text, window=None):
        self.find(role, name, window).get_editable_text_iface().set_text_contents(text)
        time.sleep(0.5)

    def set(self, role, name, value, window=None):
        """A number."""
        self.find(role, name, window).set_current_value(value)
        time.sleep(0.5)

    def picture(self, path):
        subprocess.run(["import", "-window", "root", path], check=True)
