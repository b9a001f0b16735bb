"""The conditions on callers that a model's config states: `access.allow`, and values of claims."""

from collections.abc import Iterator

from sluice.config.claims import SPACE_SEPARATED
from sluice.config.models import AllowRule
from sluice.config.placement.comparable import (
    is_header_safe,
    is_plain,
    is_plain_name,
    is_plain_prefix,
)
from sluice.config.placement.plan_types import All, AnyOf, ClaimTest, GroupTest, SubjectTest, Test


def allowed_callers(rules: tuple[AllowRule, ...]) -> AnyOf:
    """The test of the rules that Envoy can express. The callout decides about other callers."""
    return AnyOf(tuple(test for rule in rules for test in _allowed(rule)))


def _allowed(rule: AllowRule) -> Iterator[Test]:
    parts: list[Test] = []
    if rule.groups:
        parts.append(AnyOf(tuple(GroupTest(group) for group in rule.groups if is_plain(group))))
    if rule.subjects:
        parts.append(AnyOf(tuple(SubjectTest(s) for s in rule.subjects if is_header_safe(s))))
    for claim, value in rule.claims.items():
        test = claim_test(claim, value, prefix=False)
        parts.append(AnyOf(() if test is None else (test,)))
    if all(part.tests for part in parts if isinstance(part, AnyOf)):
        yield All(tuple(parts))


def claim_test(claim: str, value: str, *, prefix: bool) -> ClaimTest | None:
    """The test of a claim; None if Envoy cannot express it."""
    separated = (claim,) in SPACE_SEPARATED
    if not is_plain_name(claim) or (separated and " " in value):
        return None
    plain = is_plain_prefix(value) if prefix else is_plain(value)
    return ClaimTest(claim, value, prefix, separated) if plain else None
