#!/usr/bin/python3
"""QEMU's guest agent in a guest, from Debian's package, over a channel: what stock virsh asks of it, an agent that comes
and goes, a daemon that comes and goes, and a guest that has none but talks."""
import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import TOP, Console, Host, guest_files, wait_for

CHANNEL = "<channel type='unix'><target type='xen' name='org.qemu.guest_agent.0'/></channel>"
# What the agent calls, and a small guest has not.
PREPARE = """mkdir -p /var/run /mnt /usr/sbin /root/.ssh; dmesg -n 1
echo root:x:0:0::/root:/bin/sh >/etc/passwd; echo root:*:1:::::: >/etc/shadow; echo root:x:0: >/etc/group
printf '#!/bin/sh\\n[ "$1" = -r ] && exec reboot\\nexec poweroff\\n' >/sbin/shutdown
printf '#!/bin/sh\\necho "$@" >/tmp/hwclock\\n' >/sbin/hwclock
printf '#!/bin/sh\\ncat >/tmp/chpasswd\\n' >/usr/sbin/chpasswd; chmod 755 /sbin/shutdown /sbin/hwclock /usr/sbin/chpasswd
mount -t ext4 /dev/xvda /mnt; ip link set lo up"""
AGENT = "(xen-guest-agent >/tmp/agent.out 2>&1 & echo $! >/tmp/agent.pid)"


def image(host):
    path = f"{host.root}/disk.img"
    with open(path, "wb") as f:
        f.truncate(16 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True)
    return path


def define(host):
    agent = subprocess.run([os.path.join(TOP, "examples", "guest-agent-files.sh")], check=True, stdout=subprocess.PIPE,
                           text=True).stdout.strip()
    with open(f"{host.root}/initrd.gz", "wb") as out:
        for part in (f"{guest_files()}/initrd.gz", agent):
            with open(part, "rb") as f:
                shutil.copyfileobj(f, out)
    disk = f"<disk type='file'><source file='{image(host)}'/><target dev='xvda'/></disk>"
    text = host.xml(name="g1", vcpus=2, initrd=f"{host.root}/initrd.gz", cmdline="console=hvc0 guest.modules")
    text = text.replace("</devices>", disk + CHANNEL + "</devices>")
    result = host.virsh_args("define", "--validate", host.write_xml(text))
    tap.equal(result.status, 0, "define a guest with a channel for its agent") or tap.note(result)


def connected(host):
    return "state='connected'" in host.virsh("dumpxml g1").out


def says(host, command, words, what):
    result = host.virsh(command)
    tap.ok(result.status == 0 and re.search(words, result.out), f"{command.split()[0]}: {what}", result)


def fails(host, command, words, what):
    began = time.monotonic()
    result = host.virsh(command)
    tap.ok(result.status == 1 and words in result.err, f"{command}: {what}", result)
    return time.monotonic() - began


def check_without(host):
    tap.contains(host.virsh("dumpxml g1").out, "state='disconnected'", "there is no agent yet")
    tap.ok(fails(host, "domtime g1", "QEMU guest agent is not connected", "is refused") < 4, "at once")
    fails(host, "shutdown g1 --mode agent", "QEMU guest agent is not connected", "as well")
    fails(host, "dompmsuspend g1 disk", "QEMU guest agent is not connected", "so is this")
    fails(host, "shutdown g1 --mode acpi", "no ACPI power button", "what there is not is named")


def check_questions(host, console):
    says(host, "domhostname g1", "^domus-guest", "its name")
    says(host, "guestinfo g1", "os.kernel-release *: 6", "what it is")
    says(host, "guestinfo g1 --hostname", "hostname *: domus-guest", "one group")
    says(host, "guestinfo g1 --filesystem", r"fs.0.mountpoint *: /mnt", "its file systems")
    says(host, "guestinfo g1 --filesystem", r"fs.0.disk.0.alias *: xvda", "on which disk")
    says(host, "domfsinfo g1", r"/mnt +xvda +ext4 +xvda", "the file system and its disk")
    says(host, "domifaddr g1 --source agent", r"lo +00:00:00:00:00:00 +ipv4 +127.0.0.1/8", "its addresses")
    says(host, "domtime g1", r"Time: \d+", "its clock")
    says(host, "domtime g1 --time 1000000000", "", "is set")
    tap.equal((console.run("cat /tmp/hwclock; test $(date +%s) -lt 1000000100 && echo OK") or "").split(), ["-w", "OK"],
              "in the guest")
    says(host, "domtime g1 --sync", "", "and from its hardware")
    says(host, "guestvcpus g1", r"online *: 0-1", "its processors")
    says(host, "setvcpus g1 1 --guest", "", "one is taken")
    says(host, "vcpucount g1 --guest", "^1", "and is not used")
    says(host, "guestvcpus g1 --enable 1", "", "and given back")
    tap.equal((console.run("nproc") or "").strip(), "2", "the guest has it")
    fails(host, "guestvcpus g1 --enable 7", "guest is missing vCPUs '7'", "one that is not there")
    fails(host, "setvcpus g1 3 --guest", "are not 1 to 2", "more than there are")
    says(host, """qemu-agent-command g1 '{"execute": "guest-ping"}'""", r'\{"return": *\{\}\}', "any command")
    fails(host, """qemu-agent-command g1 '{"execute": "guest-nothing"}'""", "'guest-nothing'", "one that there is not")
    fails(host, "qemu-agent-command g1 '[1'", "no JSON object", "but no nonsense")
    fails(host, "qemu-agent-command g1 " + "[" * 5000, "no JSON object", "however deep")
    fails(host, "qemu-monitor-command g1 info", "not supported", "there is no monitor of QEMU's")
    fails(host, "domhostname g1 --source lease", "leases", "another source is refused")
    fails(host, "domfstrim g1 --mountpoint /mnt", "mount point", "as is one mount point")


def check_sleep(host, console):
    """The guest has no swap to write itself to, as its agent finds."""
    fails(host, "dompmsuspend g1 disk", "guest-suspend-disk", "the agent says that it cannot be")
    fails(host, "dompmsuspend g1 mem", "nothing could wake it", "nothing that could not be undone is asked of it")
    fails(host, "dompmsuspend g1 hybrid", "nothing could wake it", "nor this")
    fails(host, "dompmsuspend g1 disk --duration 5", "Duration not supported", "for a time")
    fails(host, "dompmwakeup g1", "not in pmsuspended state", "it is awake")
    tap.ok("OK" in (console.run("echo O''K") or ""), "and well")


def check_users(host, console):
    says(host, "set-user-password g1 root secret", "set successfully", "a password")
    tap.contains(console.run("cat /tmp/chpasswd"), "root:secret", "comes to who sets it in the guest")
    keys = host.write_xml("ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n", "keys")
    says(host, f"set-user-sshkeys g1 root --file {keys}", "", "keys")
    says(host, "get-user-sshkeys g1 root", "ssh-ed25519 AAAA one", "are there")
    one = host.write_xml("ssh-ed25519 AAAA one\n", "key")
    says(host, f"set-user-sshkeys g1 root --remove --file {one}", "", "one goes")
    tap.ok("AAAA" not in host.virsh("get-user-sshkeys g1 root").out, "and is gone")
    fails(host, "get-user-sshkeys g1 nobody", "nobody", "a user who is not there is named by the agent")


def check_freeze(host, console):
    says(host, "domfsfreeze g1", "Froze 1 filesystem", "writers are held back")
    console.run("((echo held >/mnt/file; echo done >/tmp/written) &)", 5)
    time.sleep(1)
    console.prompt()
    tap.equal((console.run("ls /tmp/written 2>/dev/null | wc -l") or "").strip(), "0", "one of them waits")
    says(host, "domfsthaw g1", "Thawed 1 filesystem", "and let go")
    tap.ok(wait_for(lambda: "done" in (console.run("cat /tmp/written 2>/dev/null") or ""), 20), "it has written")


def check_coming_and_going(host, console, watcher):
    tap.equal(host.virsh("guest-agent-timeout g1 --timeout 1").status, 0, "guest-agent-timeout")
    console.run("p=$(cat /tmp/agent.pid); kill $p; while kill -0 $p 2>/dev/null; do sleep 1; done")
    tap.ok(fails(host, "domtime g1", "Guest agent not available for now", "an agent that is gone") < 5, "is not waited for")
    tap.ok(watcher.expect("'agent-lifecycle' for domain 'g1': state: 'disconnected'", 20), "an event tells", watcher.text)
    tap.contains(host.virsh("dumpxml g1").out, "state='disconnected'", "and the XML")
    console.run(AGENT)
    tap.ok(wait_for(lambda: connected(host), 120), "it comes back", console.run("cat /tmp/agent.out; ps"))
    says(host, "domtime g1", r"Time: \d+", "and answers")
    fails(host, "domtime nosuch", "failed to get domain", "a domain that is not there")
    host.stop(signal.SIGKILL)
    host.start()
    tap.ok(wait_for(lambda: connected(host) and host.virsh("domtime g1").status == 0, 30), "a new daemon has it again")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def check_noise(host, console):
    console.run("kill $(cat /tmp/agent.pid)")
    fails(host, "domtime g1", "Guest agent", "gone once more")
    console.run("stty -F /dev/hvc1 raw -echo; (yes '{\"return\": 1}' >/dev/hvc1 & echo $! >/tmp/yes.pid)")
    before = cpu_seconds(host.daemon.pid)
    time.sleep(3)
    used = cpu_seconds(host.daemon.pid) - before
    tap.ok(used < 1, f"a guest that never stops talking costs the daemon little: {used:.2f} s of 3")
    tap.ok(not connected(host) and host.virsh("list").status == 0, "and is no agent")
    console.run("kill $(cat /tmp/yes.pid)")
    console.run(AGENT)
    tap.ok(wait_for(lambda: connected(host), 60), "one that comes after it is heard")


with Host() as host:
    define(host)
    watcher = Console(["virsh", "-c", host.uri, "event", "--all", "--loop"], dict(os.environ, LC_ALL="C.UTF-8"))
    result = host.virsh("start g1")
    tap.equal(result.status, 0, "start") or tap.note(result)
    console = host.console("g1")
    if not tap.ok(console.expect("guest: up") and console.prompt(), "it boots", console.text[-3000:]):
        tap.done()
    check_without(host)
    for line in PREPARE.split("\n"):
        console.run(line)
    console.run(AGENT)
    if not tap.ok(wait_for(lambda: connected(host), 60), "the agent is found", console.run("cat /tmp/agent.out")):
        tap.done()
    tap.ok(watcher.expect("'agent-lifecycle' for domain 'g1': state: 'connected'", 20), "an event tells", watcher.text)
    check_questions(host, console)
    check_sleep(host, console)
    check_users(host, console)
    check_freeze(host, console)
    check_coming_and_going(host, console, watcher)
    watcher.close()
    console.close()
    console = host.console("g1")
    console.prompt()
    check_noise(host, console)
    tap.equal(host.virsh("shutdown g1 --mode agent").status, 0, "shutdown --mode agent")
    tap.ok(wait_for(lambda: host.state("g1") == "shut off", 60), "it powers off")
    console.close()
    fails(host, "domtime g1", "domain is not running", "then there is nobody to ask")
tap.done()
