"""Which Envoys get native routes.

In resources of a control plane, an Envoy ignores fields that it does not know. It would admit more
requests if it ignored a matcher. So old Envoys get no native routes. Neither do Envoys whose
bootstrap lacks the runtime layer by which the callout switches native routes on: these would stay
off.
"""

from typing import Final

from sluice.contract.names import NATIVE_RUNTIME, RUNTIME_METADATA
from xds.protocol.snapshot import NodeIdentity

OLDEST_NATIVE: Final = (1, 37, 0)
"""The oldest Envoy with native routes, which is the oldest one that Sluice supports."""

CALLOUT_ONLY: Final = "callout-only"
"""The variant of snapshots for other Envoys: the callout decides every request."""

_ENVOY: Final = "envoy"
"""`Node.user_agent_name` of every Envoy."""


def variant_of(node: NodeIdentity) -> str:
    """The variant of a node's snapshot. An Envoy that does not tell its version counts as old."""
    if node.agent.partition(" ")[0] != _ENVOY:
        return ""
    is_new = node.build_version is not None and node.build_version >= OLDEST_NATIVE
    has_layer = node.metadata.get(RUNTIME_METADATA) == NATIVE_RUNTIME
    return "" if is_new and has_layer else CALLOUT_ONLY
