"""What a rule of the analysis is, and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from sluice.config.errors import KeyPath
from sluice.config.finding import WarningKind
from sluice.config.gateway import GatewayConfig

Found: TypeAlias = Iterator[tuple[KeyPath, str]]
"""Keys, and what is wrong with each: a sentence without its end."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Finds the warnings of one kind in a valid config, without I/O."""

    kind: WarningKind
    check: Callable[[GatewayConfig], Found]


FAILING_HEALTH_CHECK = WarningKind(
    "failing_health_check",
    "No endpoint of a version passes its health check, as an Envoy sees it, so that requests to "
    "the version are refused (503, `no_healthy_endpoint`).",
    "correct the path or the address, or remove health_check",
)
"""Only the control plane of a running gateway finds it."""
