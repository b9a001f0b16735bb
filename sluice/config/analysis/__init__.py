"""Warnings: what is valid in a config, but certainly does not do what its author wants.

Every rule is a pure function of the config, in the table `RULES`. A rule must be certain: a config
that works as intended has no warning.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from sluice.config.analysis import access, exposure, routing, traffic
from sluice.config.analysis.rule import FAILING_HEALTH_CHECK, Rule, WarningKind
from sluice.config.errors import KeyPath, Place, Problem
from sluice.config.gateway import GatewayConfig

RULES: Final[tuple[Rule, ...]] = (
    *access.RULES,
    *routing.RULES,
    *traffic.RULES,
    *exposure.RULES,
)


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning about a key. `code` is the stable name of its kind."""

    code: str
    path: KeyPath
    message: str

    @classmethod
    def of(cls, kind: WarningKind, path: KeyPath, what: str) -> "Warned":
        """The warning of a kind, with its remedy."""
        return cls(kind.code, path, f"{what}; {kind.remedy}")

    def placed(self, place: Place) -> Problem:
        """The warning with its place in a file."""
        return replace(place(self.path, self.message), code=self.code)


def analyze(config: GatewayConfig) -> Iterator[Warned]:
    """The warnings about a valid config, in the order of the rules."""
    for rule in RULES:
        for path, what in rule.check(config):
            yield Warned.of(rule.kind, path, what)


__all__ = ["FAILING_HEALTH_CHECK", "RULES", "Rule", "Warned", "WarningKind", "analyze"]
