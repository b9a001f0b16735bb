"""ServiceEntries: the endpoints of versions whose config lists them, or names them by DNS."""

from typing import Literal

from protos.istio_networking_pb2 import ServiceEntry, ServicePort, WorkloadEntry
from sluice.config import Version
from sluice.config.addresses import is_ip, split_host_port
from sluice.config.istio import Istio
from xds.istio.destinations import VERSION_PORT, VersionDestination

_PROTOCOLS = {"http": "HTTP", "grpc": "GRPC"}
"""Protocols of ports. By them, the mesh chooses HTTP/1.1 or HTTP/2."""


def service_entry(istio: Istio, target: VersionDestination) -> ServiceEntry:
    """The entry of a version with a host of its own."""
    version = target.version
    protocol = version.protocol
    endpoints = [
        WorkloadEntry(address=host, ports={protocol: int(port)}, weight=each.weight)
        for _, each in version.named()
        if not each.drain
        for host, port in (split_host_port(each.address),)
    ]
    return ServiceEntry(
        hosts=[target.host],
        ports=[ServicePort(number=VERSION_PORT, name=protocol, protocol=_PROTOCOLS[protocol])],
        location=ServiceEntry.MESH_EXTERNAL,
        resolution=_resolution(version, endpoints),
        endpoints=endpoints,
        export_to=istio.export_to,
    )


def _resolution(
    version: Version, endpoints: list[WorkloadEntry]
) -> Literal["STATIC", "DNS", "DNS_ROUND_ROBIN"]:
    """How the mesh finds the addresses. `DNS_ROUND_ROBIN` is Envoy's logical DNS."""
    if all(is_ip(each.address) for each in endpoints):
        return "STATIC"
    dns = None if version.endpoints_from is None else version.endpoints_from.dns
    return "DNS_ROUND_ROBIN" if dns is not None and dns.kind == "logical" else "DNS"
