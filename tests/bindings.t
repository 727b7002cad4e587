#!/usr/bin/python3
"""The Python and Perl bindings as the distribution ships them drive a guest through its life."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
import libvirt
import tap
from host import Host, TOP, wait_for

libvirt.registerErrorHandler(lambda *_: None, None)


def read_stream(stream, wanted, limit=4 << 20):
    text = b""
    while wanted not in text and len(text) < limit:
        data = stream.recv(65536)
        if not data:
            break
        text += data
    return text


with Host() as host:
    connection = libvirt.open(host.uri)
    tap.equal(connection.getType(), "Xen", "the connection is of type Xen")
    tap.ok(connection.getVersion() >= 4000000, "version", connection.getVersion())
    tap.ok(connection.getInfo()[1] > 0, "node memory")
    tap.contains(connection.getCapabilities(), "xenpvh", "capabilities name PVH guests")
    tap.contains(connection.getDomainCapabilities(), "xenpvh", "so do the domain capabilities")
    tap.ok(connection.getMaxVcpus(None) >= 1, "maximum vCPUs")

    domain = connection.defineXML(host.xml(name="py"))
    tap.equal([d.name() for d in connection.listAllDomains()], ["py"], "a defined domain is listed")
    tap.equal(connection.lookupByUUIDString(domain.UUIDString()).name(), "py", "and found by UUID")
    domain.create()
    tap.ok(domain.isActive() and domain.ID() > 0, "create starts it")
    tap.equal(connection.lookupByID(domain.ID()).name(), "py", "it is found by ID")
    stream = connection.newStream()
    domain.openConsole(None, stream)
    text = read_stream(stream, b"guest: up after")
    tap.ok(b"guest: up after" in text, "its console comes over a stream", text[-1000:])
    stream.abort()
    state, maximum, memory, vcpus, cpu_time = domain.info()
    tap.equal((state, maximum, memory, vcpus), (libvirt.VIR_DOMAIN_RUNNING, 262144, 262144, 1), "info")
    tap.ok(cpu_time > 0, "CPU time")
    tap.ok(domain.vcpus()[0][0][2] > 0, "vCPU time")
    tap.ok("actual" in domain.memoryStats(), "memory statistics")
    (_, stats), = connection.getAllDomainStats()
    tap.equal(stats["state.state"], libvirt.VIR_DOMAIN_RUNNING, "bulk statistics")
    domain.suspend()
    tap.equal(domain.state()[0], libvirt.VIR_DOMAIN_PAUSED, "suspend")
    domain.resume()
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "a title", None, None, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    tap.equal(domain.metadata(libvirt.VIR_DOMAIN_METADATA_TITLE, None), "a title", "title")
    domain.shutdown()
    tap.ok(wait_for(lambda: not domain.isActive(), 120), "shutdown")
    domain.setAutostart(1)
    tap.equal(domain.autostart(), 1, "autostart")
    try:
        domain.suspend()
        tap.ok(False, "suspend of a domain that is off fails")
    except libvirt.libvirtError as error:
        tap.equal(error.get_error_code(), libvirt.VIR_ERR_OPERATION_INVALID, "suspend of a domain that is off fails")
    domain.undefine()
    try:
        connection.lookupByName("py")
        tap.ok(False, "it is gone")
    except libvirt.libvirtError as error:
        tap.equal(error.get_error_code(), libvirt.VIR_ERR_NO_DOMAIN, "it is gone")
    connection.close()

    result = host.client("/usr/bin/perl", os.path.join(TOP, "tests", "bindings.pl"), host.uri, host.write_xml(host.xml(name="pl")),
                         seconds=400)
    for line in result.out.splitlines():
        tap.ok(line.startswith("ok"), f"Sys::Virt: {line}")
    tap.equal(result.status, 0, f"the Perl script ends well {result.err}")
tap.done()
