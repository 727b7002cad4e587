#!/usr/bin/python3
"""Bad input: each is refused with an error that names the culprit; the daemon goes on and nothing is left."""
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import tap
from host import Host, guest_files

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"

# What is replaced in a good domain XML, and what the error must name.
DEFINE = [
    ("</os>", "", "mismatch"),
    ("type='xen'", "type='kvm'", "kvm"),
    ("<name>bad</name>", "", "name"),
    ("<name>bad</name>", "<name>a/b</name>", "a/b"),
    (">256</memory>", ">twelve</memory>", "twelve"),
    (">256</memory>", ">1</memory>", "memory"),
    ("<vcpu>1</vcpu>", "<vcpu>0</vcpu>", "vcpu"),
    ("<vcpu>1</vcpu>", "<vcpu>9999</vcpu>", "9999"),
    ("arch='x86_64'", "arch='vax'", "vax"),
    ("xenpvh</type>", "teapot</type>", "teapot"),
    ("<on_crash>destroy", "<on_crash>explode", "explode"),
    ("<console type='pty'/>", "<tpm model='tpm-crb'/>", "tpm"),
    ("<devices>", "<devices><frobnicator/>", "frobnicator"),
]


def truncated_kernel(host):
    with open(f"{guest_files()}/vmlinuz", "rb") as f:
        return f.read(1 << 20)


def elf(host, **fields):
    """An ELF64 header with one absurd program header."""
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56,
                         fields.get("phnum", 1), 0, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 5, fields.get("offset", 1 << 62), 0, fields.get("paddr", 0),
                                fields.get("filesz", 1 << 63), fields.get("memsz", 1 << 63), 4096)


# Kernel files: name, contents, what the error must name.
KERNELS = [
    ("missing", None, "missing"),
    ("empty", lambda host: b"", "empty"),
    ("text", lambda host: b"not a kernel at all\n" * 1000, "text"),
    ("truncated", truncated_kernel, "truncated"),
    ("absurd-elf", elf, "absurd-elf"),
    ("phnum-elf", lambda host: elf(host, phnum=65535), "phnum-elf"),
]


def leftovers(host):
    return host.hv_pids(), host.client("xenstore-list", "/local/domain").out.split()


with Host() as host:
    good = host.xml(name="bad")
    tap.equal(host.virsh_args("define", host.write_xml(good)).status, 0, "the XML is good as it is")
    host.virsh("undefine bad")
    for old, new, culprit in DEFINE:
        tap.contains(good, old, f"(the XML has {old})") if old not in good else None
        result = host.virsh_args("define", host.write_xml(good.replace(old, new)))
        tap.ok(result.status != 0 and culprit.lower() in result.err.lower(),
               f"define refuses {new or 'no ' + old} by name", result)
    result = host.virsh_args("define", "--validate", host.write_xml(good.replace("<devices>", "<devices><bogus/>")))
    tap.ok(result.status != 0 and "domain.rng" in result.err, "--validate names the schema that is violated", result)
    tap.equal(host.virsh("list --all --name").out.split(), [], "none of them is defined")

    baseline = leftovers(host)
    for name, contents, culprit in KERNELS:
        path = os.path.join(host.root, name)
        if contents:
            with open(path, "wb") as f:
                f.write(contents(host))
        host.define(name="k1", kernel=path)
        result = host.virsh("start k1")
        tap.ok(result.status != 0 and culprit in result.err, f"start refuses a kernel that is {name}", result)
        tap.equal(host.state("k1"), "shut off", "and the domain stays shut off")
        host.virsh("undefine k1")
    host.define(name="k1", memory_mib=16)
    result = host.virsh("start k1")
    tap.ok(result.status != 0 and "memory" in result.err, "too little memory for the kernel is said so", result)
    host.virsh("undefine k1")
    host.define(name="k1", initrd="/nonexistent/initrd")
    result = host.virsh("start k1")
    tap.ok(result.status != 0 and "/nonexistent/initrd" in result.err, "a missing ramdisk is named", result)
    host.virsh("undefine k1")
    tap.equal(leftovers(host), baseline, "failed starts leave no process and no store entry")

    # Names and UUIDs in use.
    host.define(name="one", uuid=UUID)
    result = host.virsh_args("define", host.write_xml(host.xml(name="two", uuid=UUID)))
    tap.ok(result.status != 0 and UUID in result.err, "a UUID in use is refused", result)
    result = host.virsh_args("define", host.write_xml(host.xml(name="one", uuid=UUID.replace("c7", "c8"))))
    tap.ok(result.status != 0 and "one" in result.err, "a name in use by another UUID is refused", result)

    # Wrong states.
    for command, word in [("destroy one", "not running"), ("suspend one", "not running"), ("resume one", "not running"),
                          ("shutdown one", "not running"), ("reboot one", "not running"),
                          ("console one", "not running"), ("domstate nobody", "nobody"),
                          ("start nobody", "nobody")]:
        result = host.virsh(command)
        tap.ok(result.status != 0 and word in result.err, f"{command}: {word}", result)
    result = host.client("virsh", "-r", "-c", host.uri.replace("virtxend-sock", "virtxend-sock-ro"), "start one")
    tap.ok(result.status != 0 and ("read only" in result.err or "denied" in result.err), "read-only cannot start", result)

    # Clients that do not keep to the protocol.
    path = f"{host.root}/run/libvirt/virtxend-sock"
    for name, data in [("garbage", os.urandom(4096)), ("a huge length", struct.pack(">I", 0x7fffffff)),
                       ("half a message", struct.pack(">IIIIIII", 36, 0x20008086, 1, 66, 0, 0, 0)),
                       ("a zero length", b"\0\0\0\0")]:
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                s.sendall(data)
    flood = socket.socket(socket.AF_UNIX)
    flood.connect(path)
    flood.setblocking(False)
    call = struct.pack(">IIIIIII", 28, 0x20008086, 1, 66, 0, 0, 0)
    try:
        for serial in range(100000):
            flood.send(call)
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass
    tap.equal(host.virsh("list --all --name").out.split(), ["one"], "clients with garbage and floods harm nobody else")
    flood.close()
    tap.equal(host.virsh("undefine one").status, 0, "undefine")
tap.done()
