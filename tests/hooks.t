#!/usr/bin/python3
"""Hook scripts with stock virsh: when they are run, with what, and what their failure does."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, wait_for

# Fails for the operation that is named in a file, and gives a restored domain a title.
SCRIPT = """#!/bin/sh
xml=$(cat)
echo "$1 $2 $3 $4 $(echo "$xml" | grep -c "<name>$1</name>")" >> {root}/hook.log
if [ "$2" = "$(cat {root}/refused 2>/dev/null)" ]; then
    echo "no $2 today" >&2
    exit 3
fi
[ "$2" != restore ] || echo "$xml" | sed 's,</name>,&<title>hooked</title>,'
"""
# Reads nothing.
MORE = """#!/bin/sh
echo "more $2 $3" >> {root}/hook.log
"""


def write_script(host, name, text, mode=0o755):
    path = f"{host.root}/etc/domus/hooks/{name}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text.format(root=host.root))
    os.chmod(path, mode)


def refuse(host, operation):
    with open(f"{host.root}/refused", "w") as f:
        f.write(operation)


def told(host):
    """What the scripts were called with since this was asked last."""
    path = f"{host.root}/hook.log"
    try:
        with open(path) as f:
            return f.read().splitlines()
    except FileNotFoundError:
        return []
    finally:
        if os.path.exists(path):
            os.unlink(path)


def calls(*operations):
    return [f"g1 {operation} - 1" for operation in operations]


def life(host):
    tap.equal(host.virsh("start --paused g1").status, 0, "a domain starts")
    tap.equal(told(host), calls("prepare begin", "start begin", "started begin"),
              "scripts are told, with its name and XML")
    host.stop()
    host.start()
    want = calls("reconnect begin")
    got = []
    tap.ok(wait_for(lambda: (got.extend(told(host)) or got) == want, 20), "a new daemon tells that it found it again", got)
    tap.equal(host.virsh(f"save g1 {host.root}/g1.save").status, 0, "the domain is saved")
    tap.equal(told(host), calls("stopped end", "release end"), "that it ended is told")
    result = host.virsh(f"restore --paused {host.root}/g1.save")
    tap.equal(result.status, 0, "and restored") or tap.note(result)
    tap.equal(told(host), calls("restore begin", "prepare begin", "start begin", "started begin"), "so is what follows")
    tap.contains(host.virsh("dumpxml g1").out, "<title>hooked</title>", "the XML that the script has written is used")
    host.virsh("destroy g1")
    told(host)


def refusals(host):
    for operation, ends in (("prepare", ["release end"]), ("start", ["stopped end", "release end"]),
                            ("started", ["stopped end", "release end"])):
        refuse(host, operation)
        result = host.virsh("start --paused g1")
        tap.ok(result.status == 1 and f"no {operation} today" in result.err and "hooks/libxl" in result.err,
               f"a script that fails for '{operation}' makes the start fail", result)
        tap.equal(told(host)[-len(ends):], calls(*ends), "and is told of the end")
        tap.equal(host.state("g1"), "shut off", "the domain is not there")
    tap.ok(wait_for(lambda: not host.hv_pids(), 10), "nor is its process")
    refuse(host, "stopped")
    host.virsh("start --paused g1")
    tap.equal(host.virsh("destroy g1").status, 0, "an end cannot be refused")
    tap.contains(host.log(), "no stopped today", "but is told in the log")
    refuse(host, "")
    told(host)


def several(host):
    write_script(host, "libxl.d/20-more", MORE)
    write_script(host, "libxl.d/10-not-executable", MORE, 0o644)
    host.virsh("start --paused g1")
    tap.equal(told(host)[:2], [*calls("prepare begin"), "more prepare begin"], "scripts in the folder follow")
    refuse(host, "stopped")
    host.virsh("destroy g1")
    tap.ok("more stopped end" not in told(host), "but one that failed")


def main():
    with Host() as host:
        write_script(host, "libxl", SCRIPT)
        host.define(name="g1")
        life(host)
        refusals(host)
        several(host)
    tap.done()


main()
