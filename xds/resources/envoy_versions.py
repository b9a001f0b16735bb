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


def group_variant(group: str) -> str:
    """The variant of the Envoys of a group."""
    return f"group/{group}"


def callout_only(variant: str) -> str:
    """The variant without native routes of a variant."""
    return f"{variant}/{CALLOUT_ONLY}" if variant else CALLOUT_ONLY


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
        return variant if gets_native_routes(node) else callout_only(variant)
