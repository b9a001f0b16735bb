"""Chooses the Envoys that get a config before the others."""

import hashlib
from collections.abc import Collection
from math import ceil

from xds.protocol.nodes import UNKNOWN, Node, Nodes


def envoys(nodes: Nodes) -> frozenset[str]:
    """The ids of the connected Envoys. An Envoy that does not say its id has none."""
    return frozenset(node.id for node in nodes if node.kind == "envoy" and _is_identified(node))


def _is_identified(node: Node) -> bool:
    return node.variant is not None and node.id != UNKNOWN


def chosen(ids: Collection[str], share: float) -> frozenset[str]:
    """The Envoys of a stage: at least one, and not all. Empty if there are fewer than two.

    The order is that of a hash, so that the same Envoys are chosen again, in any replica.
    """
    number = min(max(1, ceil(share * len(ids))), len(ids) - 1)
    ordered = sorted(ids, key=lambda each: (hashlib.sha256(each.encode()).digest(), each))
    return frozenset(ordered[: max(0, number)])
