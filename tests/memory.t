#!/usr/bin/python3
"""Memory of a running guest: Linux's balloon driver gives it and takes it, the host gets what is given back."""
import os
import re
import resource
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Console, Host, wait_for

MIB = 1024
# What Linux's MemTotal has less than the guest: its own image and tables.
KERNEL_KIB = 80 * MIB


def stats(host, name="g1"):
    return {key: int(value) for key, value in re.findall(r"^(\w+) (\d+)$", host.virsh(f"dommemstat {name}").out, re.M)}


def actual(host, kib, seconds=60):
    """Waits until the guest has that much; gives what it has."""
    wait_for(lambda: stats(host).get("actual") == kib, seconds, 0.3)
    return stats(host).get("actual")


def total(console):
    found = re.search(r"MemTotal:\s+(\d+)", console.run("cat /proc/meminfo") or "")
    return int(found.group(1)) if found else None


def may_lock(kib):
    """Whether a process may lock so much, or may be let to."""
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    with open("/proc/self/status") as f:
        capabilities = int(re.search(r"CapEff:\s+(\w+)", f.read()).group(1), 16)
    return hard == resource.RLIM_INFINITY or hard >= kib << 10 or bool(capabilities >> 24 & 1)


def balloon(text, current_mib):
    return re.sub(r"(<memory unit='MiB'>\d+</memory>)",
                  rf"\1\n  <currentMemory unit='MiB'>{current_mib}</currentMemory>", text)


POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
GROUPS = "/sys/fs/cgroup/memory/domus.slice"


def pool(name="nr"):
    with open(POOL.replace("nr_huge", name + "_huge")) as f:
        return int(f.read())


def set_pool(pages):
    try:
        with open(POOL, "w") as f:
            f.write(str(pages))
    except OSError:
        pass
    return pool() == pages


def hugepages(host):
    """Memory from the host's pool, with a balloon that gives some of it back."""
    backing = "<memoryBacking><hugepages><page size='2048' unit='KiB'/></hugepages></memoryBacking>\n  <vcpu"
    text = host.xml(name="g3", memory_mib=256).replace("<vcpu", backing, 1)
    path = host.write_xml(text, "huge.xml")
    tap.equal(host.virsh_args("define", "--validate", path).status, 0, "a definition with huge pages")
    before = pool()
    if not set_pool(before + 60):
        tap.skip("the host gives no huge pages")
        return
    try:
        result = host.virsh("start g3")
        tap.ok(result.status == 1 and re.search(r"needs 128 huge pages of 2048 KiB and the host's pool has \d+ free", result.err),
               "a pool that is short is told with its figures", result)
        if not set_pool(before + 130):
            tap.skip("the host gives no more huge pages")
            return
        tap.equal(host.virsh("start g3").status, 0, "with enough of them it starts")
        tap.equal(pool("free") - pool("resv"), before + 130 - 127, "and has them")
        with host.console("g3") as console:
            tap.ok(console.expect(r"guest: up") and console.prompt(), "it boots", console.text[-3000:])
            used = pool("free")
            tap.equal(host.virsh("setmem g3 100M --live").status, 0, "setmem")
            tap.ok(wait_for(lambda: stats(host, "g3")["actual"] == 100 * MIB, 60), "the balloon", stats(host, "g3"))
            tap.ok(wait_for(lambda: pool("free") - pool("resv") > before + 3 + 20, 20), "gives whole ones back to the pool",
                   f"{used} {pool('free')} {pool('resv')}")
            tap.equal(host.virsh("setmem g3 256M --live").status, 0, "setmem once more")
            tap.ok(wait_for(lambda: stats(host, "g3")["actual"] == 256 * MIB, 60), "the guest has it again", stats(host, "g3"))
            tap.ok("OK" in (console.run("dd if=/dev/zero of=/tmp/x bs=1M count=60 2>/dev/null && echo O''K") or ""),
                   "and can use it", console.text[-500:])
        host.virsh("destroy g3")
        tap.ok(wait_for(lambda: pool("free") == before + 130, 20), "all are free when it has ended")
    finally:
        host.virsh("destroy g3")
        set_pool(before)
    for old, new, words in (("size='2048'", "size='1048576'", "1048576 KiB are not supported"),
                            (">256</memory>", ">257</memory>", "not a multiple"),
                            ("unit='KiB'/>", "unit='KiB' nodeset='0'/>", "all memory of a guest")):
        result = host.virsh_args("define", host.write_xml(text.replace(old, new), "huge.xml"))
        tap.ok(result.status == 1 and words in result.err, f"{new} is refused", result)


def group_file(name):
    for folder, _, files in os.walk(GROUPS):
        if name in files and os.path.basename(folder).startswith("domus-"):
            with open(os.path.join(folder, name)) as f:
                return int(f.read())
    return None


def limits(host):
    """virsh memtune: what a control group lets the domain's process have."""
    text = host.xml(name="g4", memory_mib=256).replace(
        "<vcpu", "<memtune><hard_limit unit='MiB'>600</hard_limit></memtune>\n  <vcpu", 1)
    tap.equal(host.virsh_args("define", "--validate", host.write_xml(text, "limit.xml")).status, 0, "memtune in a definition")
    shown = host.virsh("memtune g4").out
    tap.ok(re.search(r"hard_limit +: 614400\nsoft_limit +: unlimited\nswap_hard_limit: unlimited", shown), "virsh memtune", shown)
    result = host.virsh("memtune g4 --hard-limit 500M --swap-hard-limit 400M --config")
    tap.ok(result.status == 1 and "swap_hard_limit 409600 KiB is less than hard_limit" in result.err, "what cannot be", result)
    tap.equal(host.virsh("memtune g4 --soft-limit 300M --config").status, 0, "memtune --config")
    tap.contains(host.virsh("dumpxml g4").out, "<soft_limit unit='KiB'>307200</soft_limit>", "is in the definition")
    if not os.access("/sys/fs/cgroup/memory/tasks", os.W_OK):
        tap.skip("no cgroup v1 memory controller")
        return
    tap.equal(host.virsh("start g4 --paused").status, 0, "it starts")
    tap.equal(group_file("memory.limit_in_bytes"), 600 << 20, "in a group with its limit")
    tap.equal(group_file("memory.soft_limit_in_bytes"), 300 << 20, "and the soft one")
    tap.equal(host.virsh("memtune g4 --hard-limit 700M --swap-hard-limit 800M --live").status, 0, "memtune --live")
    tap.equal((group_file("memory.limit_in_bytes"), group_file("memory.memsw.limit_in_bytes")), (700 << 20, 800 << 20),
              "changes it")
    tap.equal(host.virsh("memtune g4 --hard-limit 400M --swap-hard-limit 500M --live").status, 0, "and down")
    tap.equal((group_file("memory.limit_in_bytes"), group_file("memory.memsw.limit_in_bytes")), (400 << 20, 500 << 20),
              "in the order that the kernel wants")
    with host.unsaveable("g4"):
        tap.equal(host.virsh("memtune g4 --hard-limit 450M --live --config").status, 1, "a definition that cannot be saved")
    tap.equal(group_file("memory.limit_in_bytes"), 400 << 20, "leaves the limit as it was")
    tap.equal(host.virsh("memtune g4 --hard-limit -1 --swap-hard-limit -1 --live").status, 0, "limits are lifted")
    tap.ok(group_file("memory.limit_in_bytes") > 1 << 50, "all of them")
    host.stop(9)
    host.start()
    tap.contains(host.virsh("memtune g4 --live").out, "soft_limit     : 307200", "a new daemon knows them")
    host.virsh("destroy g4")
    tap.equal(group_file("memory.limit_in_bytes"), None, "the group goes with the domain")


with Host() as host:
    text = balloon(host.xml(name="g1", memory_mib=384), 192)
    tap.equal(host.virsh_args("define", host.write_xml(text)).status, 0, "half of the memory at the start")
    watcher = Console(["virsh", "-c", host.uri, "event", "--event", "balloon-change", "--loop"],
                      dict(os.environ, LC_ALL="C.UTF-8"))
    tap.equal(host.virsh("start g1").status, 0, "it starts")
    with host.console("g1") as console:
        if not tap.ok(console.expect(r"guest: up") and console.prompt(), "and boots", console.text[-3000:]):
            tap.done()
        tap.equal(actual(host, 192 * MIB), 192 * MIB, "its balloon has given back the other half")
        tap.ok(watcher.expect(r"'balloon-change' for domain 'g1': \d+KiB", 10), "event: balloon-change", watcher.text)
        small = total(console)
        tap.ok(small and small < 192 * MIB, "the guest knows", small)

        # All of the memory, and used: the host gives it when it is touched.
        tap.equal(host.virsh("setmem g1 384M --live").status, 0, "setmem to the maximum")
        tap.equal(actual(host, 384 * MIB), 384 * MIB, "the guest takes it")
        large = total(console)
        tap.equal(large - small, 192 * MIB, "and sees exactly so much more")
        tap.ok("DONE" in (console.run("mkdir -p /t; mount -t tmpfs -o size=300m t /t; "
                                      "dd if=/dev/zero of=/t/a bs=1M count=200 2>/dev/null; echo DO''NE", 300) or ""),
               "200 MiB of it are written to", console.text[-500:])
        full = stats(host)["rss"]
        tap.ok(full > 200 * MIB, "the host feels it", full)
        console.run("rm /t/a")
        tap.equal(host.virsh("setmem g1 160M --live --config").status, 0, "setmem --live --config")
        tap.equal(actual(host, 160 * MIB), 160 * MIB, "the guest gives memory back")
        tap.ok(wait_for(lambda: stats(host)["rss"] < full - 120 * MIB, 20), "and the host has it", (full, stats(host)))
        tap.note(f"resident: {full} KiB full, {stats(host)['rss']} KiB after giving back {384 - 160} MiB")
        tap.ok(watcher.expect(rf"'balloon-change' for domain 'g1': {160 * MIB}KiB", 20), "event: how much it is",
               watcher.text[-500:])
        tap.contains(host.virsh("dominfo g1").out, f"Used memory:    {160 * MIB} KiB", "dominfo tells it")
        tap.contains(host.virsh("domstats g1 --balloon").out, f"balloon.current={160 * MIB}", "domstats too")
        tap.contains(host.virsh("dumpxml g1").out, f"<currentMemory unit='KiB'>{160 * MIB}</currentMemory>",
                     "and the running configuration")
        tap.contains(host.virsh("dumpxml g1 --inactive").out,
                     f"<currentMemory unit='KiB'>{160 * MIB}</currentMemory>", "and the definition")

        # Up and down again while the guest works with memory: what is in use is not what is given.
        tap.ok("OK" in (console.run("dd if=/dev/urandom of=/t/b bs=1M count=40 2>/dev/null; md5sum /t/b >/t/sum; echo O''K",
                                    300) or ""), "a file in memory", console.text[-500:])
        for size in (384, 160, 300, 160):
            tap.equal(host.virsh(f"setmem g1 {size}M --live").status, 0, f"{size} MiB")
            tap.equal(actual(host, size * MIB), size * MIB, "it has them")
        tap.ok("OK" in (console.run("md5sum -c /t/sum && echo O''K") or ""), "the file is whole", console.text[-500:])
        complaints = console.run("dmesg | grep -iE 'BUG|Oops|xen.*balloon.*(fail|err)'; true") or ""
        tap.ok(not re.search(r"BUG|Oops", complaints), "the kernel has no complaint", complaints)

        # What cannot be.
        result = host.virsh("setmem g1 385M --live")
        tap.ok(result.status == 1 and "the maximum of domain 'g1' is 393216 KiB" in result.err,
               "more than the maximum is refused", result)
        result = host.virsh("setmem g1 1M --live")
        tap.ok(result.status == 1 and "1024 KiB is not an amount" in result.err, "next to nothing too", result)
        result = host.virsh("setmaxmem g1 512M --live")
        tap.ok(result.status == 1 and "maximum memory of domain 'g1' while it runs" in result.err,
               "a running guest's maximum stays", result)
        tap.equal(stats(host)["actual"], 160 * MIB, "and nothing has changed")
        result = host.virsh("dommemstat g1 --period 2 --live")
        tap.ok(result.status == 1 and "have no period" in result.err, "a period of statistics is refused by name", result)

        # Another daemon finds it as it is.
        host.stop(9)
        host.start()
        tap.equal(stats(host).get("actual"), 160 * MIB, "a new daemon knows it")
        tap.equal(host.virsh("setmem g1 192M").status, 0, "and sets it")
        tap.equal(actual(host, 192 * MIB), 192 * MIB, "as before")
        host.virsh("destroy g1")
    watcher.close()

    # Memory that is there from the start, and stays.
    def backed(locked):
        backing = f"<memoryBacking>{locked}<allocation mode='immediate'/></memoryBacking>\n  <vcpu"
        text = balloon(host.xml(name="g2", memory_mib=256), 160).replace("<vcpu", backing, 1)
        return host.virsh_args("create", "--validate", host.write_xml(text))

    result = backed("<locked/>")
    if may_lock(300 * MIB):
        tap.equal(result.status, 0, "a domain with locked memory")
        with open(f"/proc/{host.hv_pids()[0]}/status") as f:
            locked = int(re.search(r"VmLck:\s+(\d+)", f.read()).group(1))
        tap.ok(locked >= 256 * MIB, "which is locked", locked)
    else:
        tap.ok(result.status == 1 and "KiB of memory: Operation not permitted" in result.err,
               "where no memory may be locked the user is told", result)
        tap.equal(backed("").status, 0, "a domain with memory allocated at once")
    full = stats(host, "g2")["rss"]
    tap.ok(full > 256 * MIB, "has all of it", full)
    with host.console("g2") as console:
        tap.ok(console.expect(r"guest: up") and console.prompt(), "it boots", console.text[-3000:])
        tap.ok(wait_for(lambda: stats(host, "g2")["actual"] == 160 * MIB, 60), "its balloon", stats(host, "g2"))
        tap.ok(wait_for(lambda: stats(host, "g2")["rss"] < full - 60 * MIB, 20), "gives it back, too", stats(host, "g2"))
        tap.equal(host.virsh("inject-nmi g2").status, 0, "inject-nmi")
        tap.ok(wait_for(lambda: re.search(r"\] .*NMI", console.run("dmesg | tail -5") or ""), 10), "arrives", console.text[-500:])
    host.virsh("destroy g2")

    hugepages(host)
    limits(host)

    tap.equal(host.virsh("setmaxmem g1 128M --config").status, 0, "setmaxmem --config")
    shown = host.virsh("dumpxml g1").out
    tap.ok("<memory unit='KiB'>131072</memory>" in shown and "<currentMemory unit='KiB'>131072</currentMemory>" in shown,
           "takes the current memory with it", shown)
    tap.equal(host.virsh("setmem g1 96M --config").status, 0, "setmem --config")
    result = host.virsh("setmem g1 96M --live")
    tap.ok(result.status == 1 and "domain is not running" in result.err, "--live needs a running domain", result)
tap.done()
