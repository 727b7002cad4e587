#!/usr/bin/python3
"""CPU models: what there is for guests, what a guest is given, comparing and baselines by stock virsh."""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host

SCHEMAS = "/usr/share/libvirt/schemas"


def valid(schema, path):
    if not os.path.exists(f"{SCHEMAS}/{schema}"):
        return True
    return subprocess.run(["xmllint", "--noout", "--relaxng", f"{SCHEMAS}/{schema}", path],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False).returncode == 0


def flags_of(host, name, cpu):
    """The flags that the guest's kernel finds with that <cpu>."""
    text = host.xml(name=name).replace("<os>", f"{cpu}\n  <os>")
    result = host.virsh_args("create", "--validate", host.write_xml(text))
    if not tap.equal(result.status, 0, f"a guest with {cpu}"):
        tap.note(str(result))
        return set()
    with host.console(name) as console:
        tap.ok(console.expect(r"guest: up") and console.prompt(), "boots", console.text[-3000:])
        found = re.search(r"^flags\s*: (.*)$", console.run("grep -m1 ^flags /proc/cpuinfo") or "", re.M)
    host.virsh(f"destroy {name}")
    return set(found.group(1).split()) if found else set()


with Host() as host:
    capabilities = host.write_xml(host.virsh("capabilities").out, "capabilities.xml")
    domain_capabilities = host.write_xml(host.virsh("domcapabilities").out, "domcapabilities.xml")
    if subprocess.run(["sh", "-c", "command -v xmllint"], stdout=subprocess.DEVNULL, check=False).returncode == 0:
        tap.ok(valid("domaincaps.rng", domain_capabilities), "domcapabilities are valid")
    with open(domain_capabilities) as f:
        text = f.read()
    model = re.search(r"<mode name='host-model' supported='yes'>\s*<model fallback='forbid'>(\S+)</model>(.*?)</mode>", text, re.S)
    tap.ok(model, "there is a host-model", text)
    tap.ok("<mode name='custom' supported='yes'>" in text and "<mode name='host-passthrough' supported='yes'>" in text,
           "and the other modes")
    result = host.virsh(f"cpu-compare {capabilities}")
    tap.ok(result.status == 0 and "identical" in result.out, "the host's CPU is the host's CPU", result)
    result = host.virsh(f"hypervisor-cpu-compare {domain_capabilities}")
    tap.ok(result.status == 0 and "identical" in result.out, "a guest's is what guests can have", result)
    more = host.write_xml("<cpu match='exact'><model>486</model><feature policy='require' name='amx-tile'/>"
                          "<feature policy='require' name='xop'/></cpu>", "more.xml")
    result = host.virsh(f"hypervisor-cpu-compare {more}")
    tap.ok(result.status == 1 and "incompatible" in result.out, "not one with more", result)
    result = host.virsh(f"hypervisor-cpu-compare {more} --error")
    tap.ok(result.status == 1 and "xop" in result.err, "which is told by name", result)
    baseline = host.virsh(f"hypervisor-cpu-baseline {capabilities}")
    tap.ok(baseline.status == 0 and "<model fallback='forbid'>" in baseline.out, "hypervisor-cpu-baseline", baseline)
    result = host.virsh(f"hypervisor-cpu-compare {host.write_xml(baseline.out, 'baseline.xml')}")
    tap.equal(result.status, 0, "gives what guests can have")
    result = host.virsh(f"cpu-baseline {capabilities} --features --migratable")
    tap.ok(result.status == 0 and "name='fpu'" in result.out and "invtsc" not in result.out, "cpu-baseline", result)
    tap.ok("Westmere" in host.virsh("cpu-models x86_64").out.split(), "cpu-models")
    result = host.virsh(f"cpu-baseline {host.write_xml('<cpu><model>none</model></cpu>', 'none.xml')}")
    tap.ok(result.status == 1 and "'none' is not known" in result.err, "a model that nobody knows", result)

    everything = flags_of(host, "g1", "<cpu mode='host-passthrough' migratable='off'/>")
    tap.ok({"sse2", "nx", "lm"} <= everything, "which finds much", everything)
    less = flags_of(host, "g2", "<cpu mode='host-model'><feature policy='disable' name='x2apic'/>"
                                "<feature policy='disable' name='popcnt'/></cpu>")
    tap.equal(everything - less, {flag for flag in ("x2apic", "popcnt") if flag in everything}, "finds all but what is disabled")
    few = flags_of(host, "g3", "<cpu mode='custom'><model>core2duo</model></cpu>")
    tap.ok("sse2" in few and not few & {"aes", "avx", "popcnt", "smep"}, "finds what the model had", few)

    for cpu, words in (("<cpu mode='custom'><model>none</model></cpu>", "model 'none' is not known"),
                       ("<cpu mode='host-model'><feature name='none'/></cpu>", "feature 'none' is not known"),
                       ("<cpu mode='host-passthrough'><feature policy='require' name='xop'/></cpu>", "required: xop"),
                       ("<cpu mode='host-passthrough'><feature policy='forbid' name='sse2'/></cpu>", "'sse2' is forbidden"),
                       ("<cpu mode='custom' check='full'><model>EPYC-Milan</model></cpu>", "required:"),
                       ("<cpu mode='host-model'><vendor>Hygon</vendor></cpu>", "'Hygon'")):
        result = host.virsh_args("create", host.write_xml(host.xml(name="g4").replace("<os>", cpu + "<os>")))
        tap.ok(result.status == 1 and words in result.err, f"{cpu} is refused", result)
tap.done()
