"""Compares callers with the rules of a model: access rules and claim rules."""

from typing import Protocol

from sluice.config.models import AllowRule, ClaimRule


class Caller(Protocol):
    """What the rules read of a caller."""

    @property
    def subject(self) -> str:
        """The verified subject; empty for an anonymous caller."""

    @property
    def groups(self) -> frozenset[str]:
        """The groups of the caller."""

    def claim_values(self, name: str) -> frozenset[str]:
        """The values of a claim as text, see `sluice.config.claim_values`."""


def allow_rule_matches(rule: AllowRule, caller: Caller) -> bool:
    """Whether the caller meets every condition of the rule."""
    if rule.groups and caller.groups.isdisjoint(rule.groups):
        return False
    if rule.subjects and caller.subject not in rule.subjects:
        return False
    return all(value in caller.claim_values(name) for name, value in rule.claims.items())


def claim_rule_matches(rule: ClaimRule, caller: Caller) -> bool:
    """Whether a value of the claim matches. `group` is also the groups of the caller."""
    if _matches(rule, caller.claim_values(rule.claim)):
        return True
    return rule.claim == "group" and _matches(rule, caller.groups)


def _matches(rule: ClaimRule, values: frozenset[str]) -> bool:
    if rule.match == "exact":
        return rule.value in values
    return any(value.startswith(rule.value) for value in values)
