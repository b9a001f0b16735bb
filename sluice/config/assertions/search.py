"""Searches a model for a request and a caller for which one assertion is not true.

The search is complete: it tries each kind of caller and request that the rules of the model can
distinguish, so an assertion for which it finds nothing is true.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sluice.config.assertion import READ_BY_CHECK, AssertedCallers, Assertion
from sluice.config.assertions.callers import ANONYMOUS, MAX_SUBJECTS, Caller, with_token
from sluice.config.assertions.conditions import (
    ALWAYS,
    AnyOf,
    conjunctions,
    fails,
    ignores,
    matches,
    selects,
)
from sluice.config.assertions.keys import Buckets, KeyGroup
from sluice.config.assertions.requests import AssertedRequest, Requests
from sluice.config.assertions.selection import chosen_version
from sluice.config.assertions.work import UndecidableError, Work
from sluice.config.auth import JwtIssuer
from sluice.config.caller_rules import allow_rule_matches
from sluice.config.models import BUCKETS, Model
from sluice.contract.headers import MODEL_TYPE, MODEL_VERSION
from sluice.contract.reasons import Reason

_ROUNDING = 1e-6
"""Part of a bucket by which the arithmetic of a percentage may be wrong."""


@dataclass(frozen=True, slots=True)
class Found:
    """A request of a caller, the version that it reaches, and why.

    `version` is empty if the model refuses the request.
    """

    request: AssertedRequest
    caller: Caller
    version: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Credentials:
    """The callers that can exist, besides those without credentials."""

    issuers: Sequence[JwtIssuer]
    keys: Sequence[KeyGroup]
    api_key_header: str


class Search:
    """Searches one model."""

    def __init__(
        self,
        assertion: Assertion,
        model: Model,
        requests: Requests,
        credentials: Credentials,
        work: Work,
    ) -> None:
        self._assertion, self._model, self._requests = assertion, model, requests
        self._credentials, self._work = credentials, work
        self._buckets = tuple(self._classes())

    def found(self) -> Found | None:
        """The first request for which the assertion is not true; None if it is true."""
        if self._assertion.admitted:
            return next(self._refused(), None)
        maximum = self._assertion.max_canary_percent
        if maximum is not None:
            return next(self._beyond(maximum), None)
        return next(self._reaching(self._forbidden()), None)

    def _forbidden(self) -> frozenset[str]:
        """The versions that no request may reach."""
        versions = self._model.versions.keys()
        if self._assertion.never is not None:
            return frozenset(versions & set(self._assertion.never))
        return frozenset(versions - set(self._assertion.always or ()))

    def _reaching(self, forbidden: frozenset[str]) -> Iterator[Found]:
        for version in sorted(forbidden):
            request = self._requests.naming(version)
            caller = None if request is None else next(self._admitted([], None), None)
            if request is not None and caller is not None:
                by_header = MODEL_VERSION in request.headers
                reason = Reason.VERSION_HEADER if by_header else Reason.VERSION_PATH
                yield Found(request, caller, version, reason)
        for index, rule in enumerate(self._model.claim_rules):
            if rule.version in forbidden:
                parts = [selects(rule), self._no_rule(index)]
                yield from self._choosing(forbidden, self._admitted(parts, None), ({},))
        stable = {self._model.stable_version, *(each.version for each in self._model.canaries)}
        if not stable.isdisjoint(forbidden):
            for buckets in self._buckets:
                callers = self._admitted([self._no_rule()], buckets)
                yield from self._choosing(forbidden, callers, self._header_choices())

    def _choosing(
        self,
        forbidden: frozenset[str],
        callers: Iterator[Caller],
        choices: Sequence[Mapping[str, str]],
    ) -> Iterator[Found]:
        for caller in callers:
            for headers in choices:
                self._work.step()
                sent = {**self._requests.headers, **headers}
                version, reason = chosen_version(self._model, caller, sent)
                request = self._requests.unnamed(version, headers) if version in forbidden else None
                if request is not None:
                    yield Found(request, caller, version, reason)

    def _beyond(self, maximum: float) -> Iterator[Found]:
        """Requests of users that get canaries although they are beyond the percentage."""
        model, hash_name = self._model, self._model.bucket.hash
        first = int(maximum * BUCKETS[hash_name] / 100 + _ROUNDING)
        total = self._total()
        if first >= total:
            return
        self._check_headers()
        beyond = Buckets(hash_name, first, total)
        header = model.bucket.header
        choices: list[Mapping[str, str]] = [{}]
        if header is not None:
            choices.append({header: self._identifier(header, beyond)})
        callers = self._admitted([self._no_rule()], beyond if header is None else None)
        versions = frozenset(canary.version for canary in model.canaries)
        for found in self._choosing(versions, callers, self._permitted(choices)):
            sent = found.request.headers.get(header or "", "")
            if found.reason is Reason.CANARY_BUCKET and beyond.has(
                found.caller.subject if header is None else sent
            ):
                yield found

    def _refused(self) -> Iterator[Found]:
        """Requests that the access rules refuse."""
        access = self._model.access
        requests = (
            self._requests.unnamed(version, {}) or self._requests.naming(version)
            for version in self._model.versions
        )
        request = next((each for each in requests if each is not None), None)
        if access.public or request is None:
            return
        if self._is_meant(ANONYMOUS):
            yield Found(request, ANONYMOUS, "", Reason.UNAUTHENTICATED)
        for caller in self._callers([fails(rule) for rule in access.allow], None):
            if access.allow and not any(allow_rule_matches(rule, caller) for rule in access.allow):
                yield Found(request, caller, "", Reason.FORBIDDEN)

    def _admitted(self, parts: list[AnyOf], buckets: Buckets | None) -> Iterator[Caller]:
        """Callers that the assertion is about, that the model admits, and that meet the parts.

        Anonymous callers and those with API keys may not meet the parts.
        """
        access = self._model.access
        if access.public and self._is_meant(ANONYMOUS):
            yield ANONYMOUS
        allowed = ALWAYS
        if access.allow:
            allowed = tuple(matches(rule) for rule in access.allow)
        for caller in self._callers([allowed, *parts], buckets):
            if not access.allow or any(allow_rule_matches(rule, caller) for rule in access.allow):
                yield caller

    def _callers(self, parts: list[AnyOf], buckets: Buckets | None) -> Iterator[Caller]:
        """Callers with credentials that the assertion is about. Those with tokens meet the parts.

        They are in the buckets, if these are given.
        """
        for group in self._credentials.keys:
            self._work.step()
            caller = group.caller_in(buckets) if self._is_meant(group.caller) else None
            if caller is not None:
                yield caller
        is_subject = None if buckets is None else buckets.has
        for conjunction in conjunctions([*self._meant(), *parts], self._work):
            for issuer in self._credentials.issuers:
                self._work.step()
                caller = with_token(issuer, conjunction, is_subject)
                if caller is not None:
                    yield caller

    def _is_meant(self, caller: Caller) -> bool:
        assertion = self._assertion
        meant = assertion.caller is None or _is_one_of(assertion.caller, caller)
        return meant and not (assertion.unless is not None and _is_one_of(assertion.unless, caller))

    def _meant(self) -> Iterator[AnyOf]:
        """The conditions of the assertion on callers with tokens."""
        caller, unless = self._assertion.caller, self._assertion.unless
        if caller is not None:
            yield () if caller.anonymous else (matches(caller),)
        if unless is not None and not unless.anonymous:
            yield fails(unless)

    def _no_rule(self, end: int | None = None) -> AnyOf:
        """The condition that no claim rule before `end` matches."""
        rules = self._model.claim_rules[:end]
        return (tuple(condition for rule in rules for condition in ignores(rule)),)

    def _total(self) -> int:
        """The number of buckets that get canaries."""
        return sum(each.buckets(self._model.bucket.hash) for each in self._model.canaries)

    def _classes(self) -> Iterator[Buckets | None]:
        """The users that `percent` can distinguish by their subject."""
        hash_name = self._model.bucket.hash
        if self._model.bucket.header is not None or not self._total():
            yield None
            return
        yield from self._ranges()
        yield Buckets(hash_name, self._total(), BUCKETS[hash_name], or_none=True)

    def _ranges(self) -> Iterator[Buckets]:
        """The buckets of each canary."""
        start, hash_name = 0, self._model.bucket.hash
        for canary in self._model.canaries:
            end = start + canary.buckets(hash_name)
            if end > start:
                yield Buckets(hash_name, start, end)
            start = end

    def _header_choices(self) -> list[Mapping[str, str]]:
        """Headers of requests that the canaries can distinguish."""
        self._check_headers()
        model = self._model
        choices: list[Mapping[str, str]] = [{}]
        choices += [{m.name: m.value} for canary in model.canaries for m in canary.headers]
        choices += [{MODEL_TYPE: kind} for canary in model.canaries for kind in canary.model_types]
        header = model.bucket.header
        if header is not None:
            choices += [{header: self._identifier(header, each)} for each in self._ranges()]
        return self._permitted(choices)

    def _permitted(self, choices: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        """The choices that the assertion's conditions on headers permit."""
        fixed = self._requests.headers
        return [
            choice
            for choice in choices
            if all(fixed.get(name, value) == value for name, value in choice.items())
        ]

    def _identifier(self, header: str, buckets: Buckets) -> str:
        """An id in the buckets that selects no canary as the value of its header; empty: none."""
        named = {m.value for each in self._model.canaries for m in each.headers if m.name == header}
        named |= {kind for each in self._model.canaries for kind in each.model_types}
        tried = range(MAX_SUBJECTS)
        return next((t for n in tried if (t := str(n)) not in named and buckets.has(t)), "")

    def _check_headers(self) -> None:
        """Raises UndecidableError if canaries read headers that this search does not choose."""
        model = self._model
        unknown = {*READ_BY_CHECK, self._credentials.api_key_header}
        read = {match.name for canary in model.canaries for match in canary.headers}
        if model.bucket.header is not None and self._total():
            read.add(model.bucket.header)
        if not read.isdisjoint(unknown):
            raise UndecidableError(
                f"canaries that read the header {min(read & unknown)} cannot be checked: let them "
                "read another header"
            )


def _is_one_of(section: AssertedCallers, caller: Caller) -> bool:
    if section.anonymous is not None and section.anonymous != caller.anonymous:
        return False
    if not (section.groups or section.subjects or section.claims):
        return True
    return not caller.anonymous and allow_rule_matches(section, caller)
