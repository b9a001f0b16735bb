"""Which Envoys get native routes, and which are in a group.

In resources of a control plane, an Envoy ignores fields that it does not know. It would admit more
requests if it ignored a matcher. So old Envoys get no native routes. Neither do Envoys whose
bootstrap lacks the runtime layer by which the callout switches native routes on: these would stay
off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from sluice.config.node_groups import NodeGroup, NodeMatch
from sluice.contract.names import NATIVE_RUNTIME, RUNTIME_METADATA
from xds.protocol.snapshot import NodeIdentity

OLDEST_NATIVE: Final = (1, 37, 0)
"""The oldest Envoy with native routes, which is the oldest one that Sluice supports."""

OLDEST_AWAITING: Final = (1, 38, 0)
"""The oldest Envoy that holds a request until it has the cluster of the request. Older ones begin
the request again (https://github.com/envoyproxy/envoy/pull/43163)."""

NOT_AWAITING: Final = "not-awaiting"
"""The variant of snapshots for Envoys that get native routes, but hold no requests."""

CALLOUT_ONLY: Final = "callout-only"
"""The variant of snapshots for other Envoys: the callout decides every request."""

_ENVOY: Final = "envoy"
"""`Node.user_agent_name` of every Envoy."""


def is_envoy(node: NodeIdentity) -> bool:
    """Whether a node says that it is an Envoy."""
    return node.agent.partition(" ")[0] == _ENVOY


def gets_native_routes(node: NodeIdentity) -> bool:
    """Whether an Envoy gets native routes. One that does not tell its version counts as old."""
    is_new = node.build_version is not None and node.build_version >= OLDEST_NATIVE
    has_layer = node.metadata.get(RUNTIME_METADATA) == NATIVE_RUNTIME
    return is_new and has_layer


def awaits_clusters(node: NodeIdentity) -> bool:
    """Whether an Envoy that gets native routes holds requests until it has their cluster."""
    return node.build_version is not None and node.build_version >= OLDEST_AWAITING


def group_variant(group: str) -> str:
    """The variant of the Envoys of a group."""
    return f"group/{group}"


def callout_only(variant: str) -> str:
    """The variant without native routes of a variant."""
    return f"{variant}/{CALLOUT_ONLY}" if variant else CALLOUT_ONLY


def not_awaiting(variant: str) -> str:
    """The variant of a variant for Envoys that hold no requests until they have the cluster."""
    return f"{variant}/{NOT_AWAITING}" if variant else NOT_AWAITING


@dataclass(frozen=True, slots=True)
class EnvoyVariants:
    """Chooses the variant of a node: by the group and the version of the Envoy."""

    matches: tuple[tuple[str, NodeMatch], ...] = ()

    @classmethod
    def of(cls, groups: Mapping[str, NodeGroup]) -> Self:
        """The choice for these groups."""
        return cls(tuple((name, each.match) for name, each in groups.items()))

    def __call__(self, node: NodeIdentity) -> str:
        if not is_envoy(node):
            return ""
        said = (node.id, node.cluster, node.locality)
        group = next((name for name, match in self.matches if match.includes(*said)), None)
        variant = "" if group is None else group_variant(group)
        if not gets_native_routes(node):
            return callout_only(variant)
        return variant if awaits_clusters(node) else not_awaiting(variant)
