"""The plan of a model: its ways of admission, and the conditions for them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from sluice.config import models
from sluice.contract.reasons import Reason

BUCKETS: Final = models.BUCKETS["xxh64"]
"""Buckets of users, for the percentages of canaries: the sum of the weights of a way's picks."""


@dataclass(frozen=True, slots=True)
class ClaimTest:
    """The claim has the value, or one with this prefix. A group is a value of a claim of groups.

    `separated`: the text of the claim is a list of values, separated by spaces.
    """

    claim: str
    value: str
    prefix: bool = False
    separated: bool = False


@dataclass(frozen=True, slots=True)
class GroupTest:
    """The caller is in the group. Each issuer has a claim with the groups of its callers."""

    value: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class SubjectTest:
    """The caller is this subject; with None, the caller has a subject."""

    value: str | None = None


@dataclass(frozen=True, slots=True)
class HeaderTest:
    """The request header has this value. None: it has a value that both sides read alike."""

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class HeaderPresent:
    """The request has the header, with any value."""

    name: str


@dataclass(frozen=True, slots=True)
class All:
    """Every test is met."""

    tests: "tuple[Test, ...]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one test is met."""

    tests: "tuple[Test, ...]"


Test: TypeAlias = ClaimTest | GroupTest | SubjectTest | HeaderTest | HeaderPresent | All | AnyOf
"""A condition for a way of admission. Each is certain, in both directions, if `Plan.lists` are
excluded."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A version that a request can get, for `reason`. `weight`: its number of buckets."""

    version: str
    reason: Reason
    canary: bool = False
    weight: int = BUCKETS


@dataclass(frozen=True, slots=True)
class Way:
    """One way in which a version is chosen, after those before it.

    `test` is None if the way takes all requests that remain. With one pick, this is the version.
    With several, the hash of the header `bucket` (None: of the subject) picks one. `callout` says
    why the requests of this way are decided by the callout; it is empty if they are native.
    """

    name: str
    test: Test | None
    picks: tuple[Pick, ...]
    bucket: str | None = None
    callout: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the requests of a model are decided.

    `callout` says why all are decided by the callout; it is empty if some are native. `access` is
    the condition for a caller to use the model; None: there is none. `versions` are those that a
    request can name, `chosen` the other ways in order.

    `claims` are the claims that the tests read, with `None` for the claims of groups.
    """

    callout: str
    access: Test | None = None
    public: bool = False
    versions: tuple[Way, ...] = ()
    chosen: tuple[Way, ...] = ()
    claims: tuple[str | None, ...] = ()

    @property
    def native(self) -> bool:
        """Whether Envoy admits some requests alone."""
        return not self.callout

    def why_callout(self, version: str, reason: str) -> str:
        """Why the callout decides about requests that get the version for this reason.

        Empty if Envoy decides, if nothing else about the request prevents it.
        """
        if self.callout:
            return self.callout
        named = reason in (Reason.VERSION_HEADER, Reason.VERSION_PATH)
        for way in self.versions if named else self.chosen:
            for pick in way.picks:
                if pick.version == version and (named or pick.reason == reason):
                    return way.callout
        return "no native way of admission leads to this version"

    @property
    def ways(self) -> tuple[Way, ...]:
        """All ways of admission."""
        return (*self.versions, *self.chosen)


def claims(tests: Iterable[Test]) -> Iterator[str | None]:
    """The claims that the tests read, with `None` for the claims of groups."""
    for test in tests:
        yield from _claims_of(test)


@lru_cache(1024)
def _claims_of(test: Test) -> tuple[str | None, ...]:
    match test:
        case ClaimTest(claim=claim):
            return (claim,)
        case GroupTest():
            return (None,)
        case All(tests=tests) | AnyOf(tests=tests):
            return tuple(claims(tests))
    return ()
