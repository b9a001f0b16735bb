"""Warnings: what is valid in a config, but certainly does not do what its author wants.

Every rule is a pure function of the config, in the table `RULES`. A rule must be certain: a config
that works as intended has no warning.
"""

from collections.abc import Iterator
from typing import Final

from sluice.config.analysis import access, exposure, memory, routing, traffic, video
from sluice.config.analysis.rule import FAILING_HEALTH_CHECK, Rule
from sluice.config.finding import Finding
from sluice.config.gateway import GatewayConfig

RULES: Final[tuple[Rule, ...]] = (
    *access.RULES,
    *routing.RULES,
    *traffic.RULES,
    *memory.RULES,
    *video.RULES,
    *exposure.RULES,
)


def analyze(config: GatewayConfig) -> Iterator[Finding]:
    """The warnings about a valid config, in the order of the rules."""
    for rule in RULES:
        for path, what in rule.check(config):
            yield Finding.of(rule.kind, path, what)


__all__ = ["FAILING_HEALTH_CHECK", "RULES", "Rule", "analyze"]
