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


def blkio_group(name):
    for folder, _, files in os.walk("/sys/fs/cgroup/blkio/domus.slice"):
        if name in files and os.path.basename(folder).startswith("domus-"):
            with open(os.path.join(folder, name)) as f:
                return f.read().strip()
    return None


def block_device():
    """One of the host's, or None: no test reads or writes it."""
    for name in sorted(os.listdir("/sys/block")):
        if not name.startswith(("loop", "ram", "zram")) and os.path.exists(f"/dev/{name}"):
            with open(f"/sys/block/{name}/dev") as f:
                return f"/dev/{name}", f.read().strip()
    return None, None


def block_io(host):
    """virsh blkiotune: a domain's part of the host's block devices."""
    device, number = block_device()
    if not device:
        tap.skip("this host has no block device")
        return
    limits = f"<blkiotune><weight>500</weight><device><path>{device}</path><read_bytes_sec>1048576</read_bytes_sec></device></blkiotune>"
    text = host.xml(name="g5").replace("<os>", limits + "<os>")
    tap.equal(host.virsh_args("define", "--validate", host.write_xml(text, "g5.xml")).status, 0, "blkiotune in a definition")
    out = host.virsh("blkiotune g5").out
    tap.ok(re.search(rf"weight +: 500\n.*device_read_bytes_sec: {device},1048576\n", out, re.S), "virsh blkiotune", out)
    result = host.virsh(f"blkiotune g5 --device-write-iops-sec {device},100 --device-weights {device},200 --config")
    tap.equal(result.status, 0, "blkiotune --config") or tap.note(result)
    shown = host.virsh("dumpxml g5").out
    tap.ok("<weight>200</weight>" in shown and "<write_iops_sec>100</write_iops_sec>" in shown, "is in the definition", shown)
    for option, words in (("--weight 5", "weight"), ("--device-weights x,200", "'x'"), (f"--device-weights {device},9", "'9'"),
                          (f"--device-read-bytes-sec {device}", "''")):
        result = host.virsh(f"blkiotune g5 {option} --config")
        tap.ok(result.status == 1 and words in result.err, f"blkiotune {option} is refused", result)
    result = host.virsh("start g5 --paused")
    if blkio_group("blkio.bfq.weight") is None and not os.path.exists("/sys/fs/cgroup/blkio/blkio.weight"):
        tap.ok(result.status == 1 and "weight" in result.err, "weights that the kernel has not are named at the start", result)
        tap.equal(blkio_group("tasks"), None, "and no group is left")
    host.virsh("undefine g5")
    host.virsh_args("define", host.write_xml(text.replace("<weight>500</weight>", ""), "g5.xml"))
    if not os.access("/sys/fs/cgroup/blkio/tasks", os.W_OK):
        tap.skip("no cgroup v1 blkio controller")
        return
    result = host.virsh("start g5 --paused")
    tap.equal(result.status, 0, "limits of a device") or tap.note(result)
    tap.equal(blkio_group("blkio.throttle.read_bps_device"), f"{number} 1048576", "are the group's")
    result = host.virsh(f"blkiotune g5 --device-read-bytes-sec {device},0 --device-write-iops-sec {device},50 --live")
    tap.equal(result.status, 0, "blkiotune --live") or tap.note(result)
    tap.equal((blkio_group("blkio.throttle.read_bps_device"), blkio_group("blkio.throttle.write_iops_device")),
              ("", f"{number} 50"), "changes them")
    result = host.virsh("blkiotune g5 --device-write-iops-sec /dev/null,50 --live")
    tap.ok(result.status == 1 and "'/dev/null': it is not a block device" in result.err, "what is no block device is named", result)
    with host.unsaveable("g5"):
        tap.equal(host.virsh(f"blkiotune g5 --device-write-iops-sec {device},70 --live --config").status, 1,
                  "a definition that cannot be saved")
    tap.equal(blkio_group("blkio.throttle.write_iops_device"), f"{number} 50", "leaves the limits as they were")
    host.virsh("destroy g5")
    tap.equal(blkio_group("tasks"), None, "the group goes with the domain")


def boot_order(host):
    """Kept and checked; a guest that is booted from its kernel has no other use for it."""
    disk = "<disk type='file'><source file='/nonexistent'/><target dev='{}'/><boot order='{}'/></disk>"
    good = host.xml(name="g6").replace("<console", disk.format("xvda", 2) + disk.format("xvdb", 1) + "<console")
    tap.equal(host.virsh_args("define", "--validate", host.write_xml(good, "g6.xml")).status, 0, "boot order in a definition")
    tap.equal(re.findall(r"<boot order='(\d)'/>", host.virsh("dumpxml g6").out), ["2", "1"], "is kept")
    for old, new, words in (("order='1'", "order='2'", "boot order '2' used for more than one device"), ("order='1'", "order='0'", "'0'"),
                            ("</os>", "<boot dev='network'/></os>", "no firmware")):
        result = host.virsh_args("define", host.write_xml(good.replace(old, new), "g6.xml"))
        tap.ok(result.status == 1 and words in result.err, f"{new} is refused", result)
    nic = host.write_xml("<interface type='bridge'><source bridge='br0'/><boot order='1'/></interface>", "nic.xml")
    result = host.virsh_args("attach-device", "g6", nic, "--config")
    tap.ok(result.status == 1 and "boot order '1'" in result.err, "and of a device that is attached", result)


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
    for device, words in (("<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>", "RDRAND"),
                          ("<vsock model='virtio'><cid auto='yes'/></vsock>", "vsock")):
        result = host.virsh_args("define", host.write_xml(host.xml(name="g2").replace("<console", device + "<console", 1)))
        tap.ok(result.status == 1 and words in result.err, f"{device[:6]} is refused by name", result)
    boot_order(host)
    block_io(host)
tap.done()
