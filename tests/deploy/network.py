"""Which connections NetworkPolicies allow."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.deploy.manifests import Manifests, Object, matches, port_numbers


@dataclass(frozen=True)
class Peer:
    """A pod, with the labels of its namespace and its ports by name; or an address outside."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    address: str = ""


def pod_of(manifests: Manifests, workload: str) -> Peer:
    """A pod of a workload."""
    (found,) = (each for each in manifests.workloads if each["metadata"]["name"] == workload)
    namespace = found["metadata"]["namespace"]
    template = found["spec"]["template"]
    labels = manifests.get("Namespace", namespace)["metadata"].get("labels", {})
    labels = {**labels, "kubernetes.io/metadata.name": namespace}
    own = template["metadata"]["labels"]
    return Peer(workload, namespace, own, labels, port_numbers(template))


def allows(
    policies: Iterable[Object], source: Peer, target: Peer, port: int, protocol: str = "TCP"
) -> bool:
    """Whether the policies of both ends allow a connection."""
    policies = list(policies)
    return _end_allows(policies, "Egress", source, target, target, port, protocol) and _end_allows(
        policies, "Ingress", target, source, target, port, protocol
    )


def _end_allows(
    policies: list[Object],
    direction: str,
    own: Peer,
    other: Peer,
    target: Peer,
    port: int,
    protocol: str,
) -> bool:
    if own.address:
        return True
    selecting = [
        each["spec"]
        for each in policies
        if each["metadata"]["namespace"] == own.namespace
        and matches(each["spec"]["podSelector"], own.labels)
        and direction in each["spec"]["policyTypes"]
    ]
    peers = "to" if direction == "Egress" else "from"
    return not selecting or any(
        _peer_matches(rule.get(peers), own, other)
        and _port_matches(rule.get("ports"), target, port, protocol)
        for spec in selecting
        for rule in spec.get(direction.lower(), ())
    )


def _peer_matches(peers: list[Any] | None, own: Peer, other: Peer) -> bool:
    return peers is None or any(_is_peer(each, own, other) for each in peers)


def _is_peer(peer: Object, own: Peer, other: Peer) -> bool:
    if "ipBlock" in peer:
        # Cluster addresses are often translated first, so a block is only for addresses outside.
        return bool(other.address) and _in_block(peer["ipBlock"], other.address)
    if other.address:
        return False
    if "namespaceSelector" in peer:
        if not matches(peer["namespaceSelector"], other.namespace_labels):
            return False
    elif other.namespace != own.namespace:
        return False
    return matches(peer.get("podSelector", {}), other.labels)


def _in_block(block: Object, address: str) -> bool:
    ip = ipaddress.ip_address(address)

    def within(cidr: str) -> bool:
        network = ipaddress.ip_network(cidr)
        return network.version == ip.version and ip in network

    return within(block["cidr"]) and not any(map(within, block.get("except", ())))


def _port_matches(ports: list[Any] | None, target: Peer, port: int, protocol: str) -> bool:
    return ports is None or any(
        each["protocol"] == protocol
        and port
        == (target.ports.get(each["port"]) if isinstance(each["port"], str) else each["port"])
        for each in ports
    )
