"""Conditions on what the rules read of a caller, as conjunctions and disjunctions."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final, TypeAlias

from sluice.config.assertions.work import Work
from sluice.config.models import AllowRule, ClaimRule

Property: TypeAlias = str
"""What a condition reads: `SUBJECT`, `GROUPS`, or the name of a claim after `CLAIM`."""

SUBJECT: Final = "subject"
GROUPS: Final = "groups"
CLAIM: Final = "claim:"


@dataclass(frozen=True, slots=True)
class Condition:
    """Whether a property has a value that is one of `values`, or begins with one (`prefix`).

    `holds` is False for the opposite: it has no such value.
    """

    property: Property
    values: tuple[str, ...]
    prefix: bool = False
    holds: bool = True


All: TypeAlias = tuple[Condition, ...]
"""Each of these conditions is true."""

AnyOf: TypeAlias = tuple[All, ...]
"""One of these is true. Empty: nothing is."""

ALWAYS: Final[AnyOf] = ((),)


def matches(rule: AllowRule) -> All:
    """The conditions of callers that meet the rule."""
    return tuple(_positive(rule))


def fails(rule: AllowRule) -> AnyOf:
    """The conditions of callers that do not meet the rule."""
    return tuple((_opposite(each),) for each in _positive(rule))


def selects(rule: ClaimRule) -> AnyOf:
    """The conditions of callers whose claims match the rule."""
    return tuple((each,) for each in _of_claim_rule(rule))


def ignores(rule: ClaimRule) -> All:
    """The conditions of callers whose claims do not match the rule."""
    return tuple(_opposite(each) for each in _of_claim_rule(rule))


def conjunctions(parts: list[AnyOf], work: Work) -> Iterator[All]:
    """The conjunctions of which at least one is true if each of the parts is true."""
    for chosen in product(*parts):
        conditions = tuple(condition for each in chosen for condition in each)
        work.step(1 + len(conditions))
        yield conditions


def _positive(rule: AllowRule) -> Iterator[Condition]:
    if rule.groups:
        yield Condition(GROUPS, rule.groups)
    if rule.subjects:
        yield Condition(SUBJECT, rule.subjects)
    for name, value in rule.claims.items():
        yield Condition(CLAIM + name, (value,))


def _of_claim_rule(rule: ClaimRule) -> Iterator[Condition]:
    prefix = rule.match == "prefix"
    yield Condition(CLAIM + rule.claim, (rule.value,), prefix)
    if rule.claim == "group":
        yield Condition(GROUPS, (rule.value,), prefix)


def _opposite(condition: Condition) -> Condition:
    return Condition(condition.property, condition.values, condition.prefix, not condition.holds)
