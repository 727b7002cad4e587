#!/usr/bin/python3
"""Where the threads of a domain run and how much they may: pinning, shares, periods and quotas."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Console, Host, wait_for

CPUS = sorted(os.sched_getaffinity(0))
FIRST, LAST = CPUS[0], CPUS[-1]
GROUPS = "/sys/fs/cgroup/cpu/domus.slice"


def threads(pid):
    """Name and allowed CPUs of each thread."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status") as f:
            text = f.read()
        found[re.search(r"Name:\t(.*)", text).group(1)] = re.search(r"Cpus_allowed_list:\t(.*)", text).group(1)
    return found


def pins(host, options=""):
    return dict(re.findall(r"^ (\d+) +(\S+)$", host.virsh(f"vcpupin g1 {options}").out, re.M))


def scheduler(host, options=""):
    return dict(re.findall(r"^(\w+) *: (\S+)$", host.virsh(f"schedinfo g1 {options}").out, re.M))


def can_limit():
    """Whether there is a cgroup v1 cpu controller that may be written to."""
    return os.path.isdir("/sys/fs/cgroup/cpu") and os.access("/sys/fs/cgroup/cpu/tasks", os.W_OK)


def group_files(name):
    found = {}
    for folder, _, files in os.walk(GROUPS):
        if name in files:
            with open(os.path.join(folder, name)) as f:
                found[os.path.basename(folder)] = f.read().strip()
    return found


with Host() as host:
    tune = f"<cputune><vcpupin vcpu='1' cpuset='{LAST}'/><emulatorpin cpuset='{FIRST}'/></cputune>\n  <os>"
    text = host.xml(name="g1", vcpus=3).replace("<os>", tune)
    tap.equal(host.virsh_args("define", "--validate", host.write_xml(text)).status, 0, "cputune in a definition")
    watcher = Console(["virsh", "-c", host.uri, "event", "--event", "tunable", "--loop"],
                      dict(os.environ, LC_ALL="C.UTF-8"))
    tap.equal(host.virsh("start g1 --paused").status, 0, "it starts")
    tap.equal(host.virsh("resume g1").status, 0, "and runs")
    pid = host.hv_pids()[0]
    everywhere = threads(os.getpid()).popitem()[1]
    wait_for(lambda: "vcpu2" in threads(pid), 10)
    tap.equal({name: cpus for name, cpus in threads(pid).items() if name.startswith("vcpu")},
              {"vcpu0": everywhere, "vcpu1": str(LAST), "vcpu2": everywhere}, "vCPUs run where they are to")
    tap.equal(threads(pid)["domus-hv"], str(FIRST), "and the rest of the process")
    tap.equal(pins(host), {"0": everywhere, "1": str(LAST), "2": everywhere}, "vcpupin tells it")
    tap.ok(re.search(rf"\*: +{FIRST}$", host.virsh("emulatorpin g1").out, re.M), "emulatorpin too",
           host.virsh("emulatorpin g1").out)
    with host.console("g1") as console:
        tap.ok(console.expect(r"guest: up") and console.prompt(), "the guest boots", console.text[-3000:])
    tap.equal(host.virsh(f"vcpupin g1 0 {FIRST} --live --config").status, 0, "vcpupin --live --config")
    tap.equal(threads(pid)["vcpu0"], str(FIRST), "binds the thread")
    tap.ok(watcher.expect(rf"cputune.vcpupin0: {FIRST}", 10), "event: tunable", watcher.text)
    tap.equal(host.virsh(f"emulatorpin g1 {LAST}").status, 0, "emulatorpin")
    tap.equal(threads(pid)["domus-hv"], str(LAST), "binds the rest")
    tap.equal(threads(pid)["vcpu2"], everywhere, "and not a vCPU")
    shown = host.virsh("dumpxml g1 --inactive").out
    tap.ok(f"<vcpupin vcpu='0' cpuset='{FIRST}'/>" in shown and f"<emulatorpin cpuset='{FIRST}'/>" in shown,
           "the definition has what was asked for it", shown)
    affinity = re.findall(r"CPU Affinity: +(\S+)", host.virsh("vcpuinfo g1").out)
    tap.ok(len(affinity) == 3 and affinity[0].count("y") == 1, "vcpuinfo tells the affinity", affinity)
    for arguments, words in (("9 0", "out of range"), ("0 4000", "4000"), ("1 x", "x")):
        result = host.virsh(f"vcpupin g1 {arguments} --live")
        tap.ok(result.status == 1 and words in result.err, f"vcpupin {arguments} is refused", result)
    tap.equal(threads(pid)["vcpu0"], str(FIRST), "and nothing has changed")
    stats = host.virsh("cpu-stats g1 --total").out
    tap.ok(re.search(r"cpu_time +\d+\.\d+ seconds\n\s+user_time +\d+\.\d+ seconds\n\s+system_time", stats), "cpu-stats --total",
           stats)
    result = host.virsh("cpu-stats g1 --start 0 --count 1")
    tap.ok(result.status == 1 and "not counted by host CPU" in result.err, "by host CPU is refused by name", result)

    tap.equal(scheduler(host).get("cpu_shares"), "1024", "schedinfo of a domain without limits")
    result = host.virsh("schedinfo g1 --set vcpu_quota=10 --live")
    tap.ok(result.status == 1 and "out of range" in result.err, "a quota of nothing is refused", result)
    result = host.virsh("schedinfo g1 --set weight=10 --config")
    tap.ok(result.status == 1, "what there is not, too", result)
    tap.equal(host.virsh("schedinfo g1 --set cpu_shares=512 --set vcpu_period=50000 --config").status, 0,
              "schedinfo --config")
    tap.ok("<shares>512</shares>" in host.virsh("dumpxml g1 --inactive").out, "is for the next start")
    tap.equal(scheduler(host, "--config").get("vcpu_period"), "50000", "and told")
    if can_limit():
        result = host.virsh("schedinfo g1 --set cpu_shares=256 --set vcpu_quota=20000 --set global_quota=90000 --live")
        tap.equal(result.status, 0, "schedinfo --live")
        tap.equal(scheduler(host).get("vcpu_quota"), "20000", "is told")
        quotas = group_files("cpu.cfs_quota_us")
        tap.equal({name: quotas.get(name) for name in ("vcpu0", "vcpu1", "vcpu2", "emulator")},
                  {"vcpu0": "20000", "vcpu1": "20000", "vcpu2": "20000", "emulator": "-1"}, "each vCPU has its quota")
        domain = [name for name in quotas if name.startswith("domus-")]
        tap.equal(quotas[domain[0]], "90000", "and the domain")
        tap.equal(group_files("cpu.shares")[domain[0]], "256", "and its shares")
        with host.console("g1") as console:
            console.prompt()
            console.run("(while :; do :; done) & sleep 1")
            before = int(re.search(r"vcpu.0.time=(\d+)", host.virsh("domstats g1 --vcpu").out).group(1))
            used = lambda: sum(map(int, re.findall(r"vcpu.\d.time=(\d+)", host.virsh("domstats g1 --vcpu").out)))
            start = used()
            console.run("sleep 4")
            share = (used() - start) / 4e9
            tap.note(f"a busy vCPU with a fifth of a CPU used {share:.2f}")
            tap.ok(0 < share < 0.6, "a busy vCPU keeps to it", share)
            console.run("kill %1")
        tap.equal(host.virsh("schedinfo g1 --set vcpu_quota=-1 --set global_quota=-1 --live").status, 0, "limits are lifted")
        tap.equal(group_files("cpu.cfs_quota_us")["vcpu1"], "-1", "all of them")
        result = host.virsh("schedinfo g1 --set global_quota=5000 --set vcpu_quota=90000 --live")
        tap.ok(result.status == 1 and "cpu.cfs_quota_us" in result.err, "a part with more than the whole is refused", result)
        tap.equal(group_files("cpu.cfs_quota_us")[domain[0]], "-1", "and nothing has changed")
        host.virsh("destroy g1")
        tap.equal(group_files("cpu.shares"), {}, "the groups go with the domain")
        tap.equal(host.virsh("start g1").status, 0, "started with limits in its definition")
        tap.equal(list(group_files("cpu.shares").values()).count("512"), 1, "it has them")
        host.virsh("destroy g1")
    else:
        result = host.virsh("schedinfo g1 --set cpu_shares=256 --live")
        tap.ok(result.status == 1 and "cgroup" in result.err or "control group" in result.err, "limits need control groups", result)
    watcher.close()

    for part, words in (("<vcpupin vcpu='3' cpuset='0'/>", "vcpu='3'"), ("<vcpupin vcpu='64' cpuset='0'/>", "64"),
                        ("<vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='0' cpuset='0'/>", "more than once"),
                        ("<vcpupin vcpu='0'/>", "cpuset"), ("<vcpupin vcpu='0' cpuset='z'/>", "'z'"),
                        ("<shares>1</shares>", "'1'"), ("<quota>999</quota>", "'999'"), ("<period>1</period>", "'1'"),
                        ("<iothreadpin iothread='1' cpuset='0'/>", "iothreadpin")):
        text = host.xml(name="g2", vcpus=3).replace("<os>", f"<cputune>{part}</cputune><os>")
        result = host.virsh_args("define", host.write_xml(text))
        tap.ok(result.status == 1 and words in result.err, f"{part} is refused", result)
tap.done()
