"""Objects of Istio that several tests need."""

from collections.abc import Iterable

from sluice.config.addresses import split_host_port
from tests.mesh.kube_api import Object


def networking(namespace: str, kind: str, name: str, spec: Object) -> Object:
    """An object of `networking.istio.io`."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def callout_service(namespace: str, host: str, port: int, addresses: Iterable[str]) -> Object:
    """The service of the callout, whose workers listen on these addresses."""
    spec = {
        "hosts": [host],
        "ports": [{"number": port, "name": "grpc", "protocol": "GRPC"}],
        "resolution": "STATIC",
        "endpoints": [
            {"address": address, "ports": {"grpc": int(number)}}
            for address, number in map(split_host_port, addresses)
        ],
    }
    return networking(namespace, "ServiceEntry", "callout", spec)
