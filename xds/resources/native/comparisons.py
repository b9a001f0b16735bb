"""Translates the tests of a plan into predicates, and finds the callers that they cannot judge."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from sluice.config.claims import SPACE_SEPARATED
from sluice.config.placement import (
    All,
    AnyOf,
    ClaimTest,
    GroupTest,
    HeaderPresent,
    HeaderTest,
    SubjectTest,
    Test,
    is_item,
)
from xds.resources import token_headers
from xds.resources.native.lists import contains_prefix, contains_text, is_list, is_unreadable
from xds.resources.native.predicates import (
    Predicate,
    all_of,
    any_of,
    begins_with,
    contains,
    ends_with,
    is_exactly,
    is_present,
    matches,
    never,
)

GroupClaims = tuple[str, ...]
"""The claims in which the native issuers have the groups of their callers."""


MAX_LIST_VALUES: Final = 32
"""Values with which the items of a list claim are compared. Each needs regular expressions that
read the whole list, so with more values, a call of the callout takes less time."""


def predicate(test: Test, groups: GroupClaims, lists: frozenset[str]) -> Predicate:
    """The predicate of a test, for requests that `undecidable` does not exclude."""
    match test:
        case All(tests=tests):
            return all_of(predicate(each, groups, lists) for each in tests)
        case HeaderPresent(name=name):
            return is_present(name)
        case HeaderTest(name=name, value=None):
            return matches(name, "[^,]+")
        case HeaderTest(name=name, value=str(value)):
            return is_exactly(name, value)
        case SubjectTest(value=None):
            return is_present(token_headers.SUBJECT)
        case SubjectTest(value=str(value)):
            return is_exactly(token_headers.SUBJECT, value)
        case AnyOf() | GroupTest() | ClaimTest():
            return _one_of(_alternatives(test, groups, lists))
    raise AssertionError(f"no predicate for {test}")


_Alternative = tuple[str | None, Predicate]
"""A predicate, and the header that must hold a list for it; None if it needs no list."""


def _alternatives(test: Test, groups: GroupClaims, lists: frozenset[str]) -> Iterator[_Alternative]:
    match test:
        case AnyOf(tests=tests):
            for each in tests:
                yield from _alternatives(each, groups, lists)
        case GroupTest() | ClaimTest():
            for comparison in _compared(test, groups):
                yield from _values_of(*comparison, lists)
        case _:
            yield None, predicate(test, groups, lists)


def _one_of(alternatives: Iterable[_Alternative]) -> Predicate:
    """One of the alternatives. Whether a header holds a list is compared once for all items."""
    cases: list[Predicate] = []
    items: dict[str, list[Predicate]] = {}
    for header, alternative in alternatives:
        (cases if header is None else items.setdefault(header, [])).append(alternative)
    cases += [all_of((is_list(header), any_of(found))) for header, found in items.items()]
    return any_of(cases) if cases else never(token_headers.SUBJECT)


def undecidable(tests: Iterable[Test], groups: GroupClaims) -> list[Predicate]:
    """Callers with a list claim whose items cannot be compared with the values of the tests."""
    values = _values(tests, groups)
    readable = [header for header, compared in values.items() if _is_comparable(compared)]
    found = [is_list(header) for header in values if header not in readable]
    return [*found, is_unreadable(readable)] if readable else found


def comparable_lists(tests: Iterable[Test], groups: GroupClaims) -> frozenset[str]:
    """The headers whose lists are compared with the values of the tests, item by item."""
    values = _values(tests, groups)
    return frozenset(header for header, compared in values.items() if _is_comparable(compared))


_Values = dict[tuple[str, bool], None]
"""Values, and whether each is a prefix, in the order of the tests."""


def _values(tests: Iterable[Test], groups: GroupClaims) -> dict[str, _Values]:
    """The values with which the tests compare each header."""
    found: dict[str, _Values] = {}
    for header, value, prefix, _ in chain.from_iterable(_compared(each, groups) for each in tests):
        found.setdefault(header, {})[value, prefix] = None
    return found


def _is_comparable(values: _Values) -> bool:
    few = len(values) <= MAX_LIST_VALUES
    return few and all(is_item(value, prefix=prefix) for value, prefix in values)


_Comparison = tuple[str, str, bool, bool]
"""A header with a claim, a value, whether it is a prefix, and whether text is a list of values."""


def _compared(test: Test, groups: GroupClaims) -> Iterator[_Comparison]:
    match test:
        case All(tests=tests) | AnyOf(tests=tests):
            for each in tests:
                yield from _compared(each, groups)
        case GroupTest():
            yield from _group_headers(test, groups)
        case ClaimTest():
            header = token_headers.claim(test.claim)
            yield header, test.value, test.prefix, test.separated


def _group_headers(test: GroupTest, groups: GroupClaims) -> Iterator[_Comparison]:
    for claim in groups:
        separated = (claim,) in SPACE_SEPARATED
        yield token_headers.groups(claim), test.value, test.prefix, separated


def _values_of(
    header: str, value: str, prefix: bool, separated: bool, lists: frozenset[str]
) -> Iterator[_Alternative]:
    """The values of a header that have the value, or begin with it."""
    if not separated or " " not in value:
        yield None, begins_with(header, value) if prefix else is_exactly(header, value)
        if separated:
            yield None, contains(header, f" {value}" if prefix else f" {value} ")
            if not prefix:
                yield None, begins_with(header, f"{value} ")
                yield None, ends_with(header, f" {value}")
    if header in lists:
        yield header, (contains_prefix if prefix else contains_text)(header, value)
