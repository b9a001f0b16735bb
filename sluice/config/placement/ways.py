"""The ways of admission of one model, in the order of the decision."""

from collections.abc import Iterator
from typing import Final

from sluice.config.models import Canary, ClaimRule, Model
from sluice.config.placement.access import claim_test
from sluice.config.placement.plan_types import (
    BUCKETS,
    All,
    AnyOf,
    GroupTest,
    HeaderPresent,
    HeaderTest,
    Pick,
    SubjectTest,
    Test,
    Way,
)
from sluice.contract.headers import INTERNAL_PREFIX, MODEL_SERVICE, MODEL_TYPE
from sluice.contract.reasons import Reason

_JOINED: Final = ","
"""Envoy joins the values of a repeated header with a comma, and the decision with a comma and a
blank. So a value with a comma is not the same for both."""

_SHARED_HEADERS: Final = ("host", MODEL_SERVICE)
"""Headers that have another name in Envoy's matchers, or that a matcher sees and the decision does
not."""


def named_way(version: str, model: Model) -> Way:
    """The way for requests that name this version, in a header or in the path."""
    picks = (Pick(version, Reason.VERSION_HEADER),)
    return Way(f"version {version}", None, picks, callout=_conversion(picks, model))


def chosen_ways(model: Model) -> Iterator[Way]:
    """The ways for requests that name no version, up to the first that takes all that remain."""
    for way in _by_rules(model):
        yield way
        if way.test is None:
            return


def _by_rules(model: Model) -> Iterator[Way]:
    """The ways in the order of the decision: claim rules, canaries, the stable version."""
    for index, rule in enumerate(model.claim_rules):
        yield from _claim_rule(f"claim_rules.{index}", rule, model)
    for index, canary in enumerate(model.canaries):
        yield from _canary_headers(f"canaries.{index}.headers", canary, model)
    yield from _buckets(model)
    yield from _model_types(model)
    yield _way("stable", None, (_stable(model),), model)


def _stable(model: Model, weight: int = BUCKETS) -> Pick:
    return Pick(model.stable_version, Reason.STABLE, weight=weight)


def _way(
    name: str, test: Test | None, picks: tuple[Pick, ...], model: Model, bucket: str | None = None,
    why: str = "",
) -> Way:  # fmt: skip
    """A way, which is native if neither `why` nor a conversion prevents it."""
    return Way(name, test, picks, bucket, why or _conversion(picks, model))


def _conversion(picks: tuple[Pick, ...], model: Model) -> str:
    """Why the callout must convert requests for one of the versions; empty if it must not."""
    if model.inputs or model.outputs:
        return "inputs, outputs: the callout converts the requests"
    for pick in picks:
        if model.versions[pick.version].protocol == "grpc":
            return (
                f"version {pick.version} speaks gRPC: the callout converts or checks the requests"
            )
    return ""


def _claim_rule(name: str, rule: ClaimRule, model: Model) -> Iterator[Way]:
    picks = (Pick(rule.version, Reason.CLAIM),)
    prefix = rule.match == "prefix"
    test = claim_test(rule.claim, rule.value, prefix=prefix)
    if test is None:
        # Such a request may match this rule, so no later way may take it.
        yield Way(name, None, picks, callout=f"{name}: Envoy cannot compare this claim exactly")
        return
    tests: tuple[Test, ...] = (test,)
    if rule.claim == "group":
        tests += (GroupTest(rule.value, prefix),)
    yield _way(name, AnyOf(tests), picks, model)


def _canary_headers(name: str, canary: Canary, model: Model) -> Iterator[Way]:
    picks = (Pick(canary.version, Reason.CANARY_HEADER, canary=True),)
    tests: list[Test] = []
    for match in canary.headers:
        if not _is_matchable(match.name):
            yield Way(name, None, picks, callout=f"{name}: Envoy does not match {match.name}")
            return
        if not match.value or _JOINED in match.value:
            why = f"{name}: Envoy joins the values of a repeated {match.name} in another way"
            yield Way(name, HeaderPresent(match.name), picks, callout=why)
        else:
            tests.append(HeaderTest(match.name, match.value))
    if tests:
        yield _way(name, AnyOf(tuple(tests)), picks, model)


def _is_matchable(header: str) -> bool:
    return header not in _SHARED_HEADERS and not header.startswith(INTERNAL_PREFIX)


def _buckets(model: Model) -> Iterator[Way]:
    """The percentages: for callers with an id. Others have no bucket."""
    canaries = tuple(
        Pick(canary.version, Reason.CANARY_BUCKET, canary=True, weight=weight)
        for canary in model.canaries
        if (weight := canary.buckets(model.bucket.hash))
    )
    if not canaries:
        return
    bucket = model.bucket.header
    if bucket is not None and not _is_matchable(bucket):
        why = f"bucket.header: Envoy does not match {bucket}"
        yield Way("canaries.percent", None, canaries, bucket, why)
        return
    if model.bucket.hash != "modulo":
        yield from _weighted(model, canaries)
        if bucket is None:
            return
        why = f"bucket.header: Envoy hashes the values of a repeated {bucket} in another way"
    else:
        why = "bucket.hash: Envoy has no modulo"
    present = SubjectTest() if bucket is None else HeaderPresent(bucket)
    yield Way("canaries.percent", present, canaries, bucket, why)


def _weighted(model: Model, canaries: tuple[Pick, ...]) -> Iterator[Way]:
    """The ways to the canaries and to what gets the other buckets, for ids that Envoy can hash."""
    bucket = model.bucket.header
    usable = _usable(model)
    rest = BUCKETS - sum(pick.weight for pick in canaries)
    if not rest:
        yield _way("canaries.percent", usable, canaries, model, bucket)
        return
    for test, pick, why in _typed(model, rest):
        picks = (*canaries, pick)
        both = test if usable is None else All((usable, test))
        yield _way("canaries.percent", both, picks, model, bucket, why)
    yield _way("canaries.percent", usable, (*canaries, _stable(model, rest)), model, bucket)


def _usable(model: Model) -> Test | None:
    """The test of an id that Envoy can hash; None if every caller has one."""
    if model.bucket.header is not None:
        return HeaderTest(model.bucket.header)
    return SubjectTest() if model.access.public else None


def _typed(model: Model, weight: int = BUCKETS) -> Iterator[tuple[Test, Pick, str]]:
    """The canaries with model types: the test, the version, and why it takes the callout, if so.

    A type that Envoy cannot compare is one for any value.
    """
    for canary in model.canaries:
        pick = Pick(canary.version, Reason.CANARY_MODEL_TYPE, canary=True, weight=weight)
        if any(not kind or _JOINED in kind for kind in canary.model_types):
            why = "canaries.model_types: Envoy joins the values of a repeated header otherwise"
            yield HeaderPresent(MODEL_TYPE), pick, why
            return
        if canary.model_types:
            yield AnyOf(tuple(HeaderTest(MODEL_TYPE, k) for k in canary.model_types)), pick, ""


def _model_types(model: Model) -> Iterator[Way]:
    for test, pick, why in _typed(model):
        yield _way("canaries.model_types", test, (pick,), model, why=why)
