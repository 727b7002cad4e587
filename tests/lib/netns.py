"""Tests that change the network do so in a network namespace of their own."""
import os
import subprocess
import sys

import tap


def enter():
    """Starts the running test anew in a namespace of its own, or skips it where none can be made."""
    if os.environ.get("DOMUS_TEST_NETNS"):
        return
    if subprocess.run(["unshare", "-n", "true"], stderr=subprocess.DEVNULL).returncode:
        tap.skip_all("no network namespace can be made here")
    os.environ["DOMUS_TEST_NETNS"] = "1"
    os.execvp("unshare", ["unshare", "-n", sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]])


def make_bridge(name, addresses):
    """One that keeps its MAC address when its ports change."""
    for command in ("ip link set lo up", f"ip link add {name} address 02:00:00:00:77:01 type bridge", f"ip link set {name} up"):
        subprocess.run(command.split(), check=True)
    for address in addresses:
        subprocess.run(["ip", "addr", "add", address, "dev", name], check=True)
