"""The native routes of one model: for each way of admission that Envoy can express, in order.

A way of admission is a place in the model's matcher tree. There stands a list of its native route
and of the model's callout route. So a request that the native route does not admit, for example
because it is switched off, does not fall to another way: the callout decides it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from protos.base_pb2 import HeaderValueOption
from protos.core_pb2 import FractionalPercent, RuntimeFractionalPercent
from protos.matcher_pb2 import Int64Range, Matcher
from protos.route_pb2 import HeaderMatcher, Route, RouteAction, WeightedCluster
from sluice.config import Model
from sluice.config.gateway import Requests
from sluice.config.placement import BUCKETS, Pick, Plan, Test, Way, native_methods
from sluice.contract import headers, names
from sluice.contract.paths import OIP_PREFIX
from sluice.contract.reasons import Reason
from xds.resources import failed_handshakes, omitted_callout, token_headers
from xds.resources.native.comparisons import GroupClaims, comparable_lists, predicate, undecidable
from xds.resources.native.conditions import BEARER
from xds.resources.native.predicates import (
    Predicate,
    all_of,
    any_of,
    begins_with,
    by_prefix,
    by_value,
    first_of,
    is_exactly,
    negated,
    to_matcher,
    to_routes,
)
from xds.resources.proto_messages import boolean, header, uint32


@dataclass(frozen=True, slots=True)
class NativeModel:
    """A model with native routes. `callout` is its callout route, `groups` the claims of groups.

    `digest` is that of everything that the native routes depend on.
    """

    name: str
    digest: str
    model: Model
    plan: Plan
    requests: Requests
    groups: GroupClaims
    callout: Route

    @property
    def tests(self) -> Iterator[Test]:
        """All tests of callers and requests."""
        if self.plan.access is not None:
            yield self.plan.access
        for way in self.plan.chosen:
            if way.test is not None:
                yield way.test

    @property
    def lists(self) -> frozenset[str]:
        """The headers with claims whose lists are compared item by item."""
        return comparable_lists(self.tests, self.groups)


def _caller_has_token(each: NativeModel) -> Predicate | None:
    """Callers that `conditions.admissible` lets through without a token send no authorization."""
    if each.plan.public or each.plan.access is not None:
        # The condition for access reads claims, which only callers with a token have.
        return None
    return begins_with(headers.AUTHORIZATION, BEARER)


def _method_is_allowed(each: NativeModel) -> Predicate | None:
    return any_of(is_exactly(":method", method) for method in native_methods(each.model))


def _media_type_is_accepted(each: NativeModel) -> Predicate | None:
    """The media type has its normal form, and may have parameters."""
    kinds = each.model.content_types
    return None if "*/*" in kinds else _one_of_media_types(kinds)


@lru_cache(128)  # most models accept the same, and have a matcher for each prefix of their paths
def _one_of_media_types(kinds: tuple[str, ...]) -> Predicate:
    return any_of(matcher for kind in kinds for matcher in _media_type(kind))


def _media_type(kind: str) -> Iterator[Predicate]:
    if kind.endswith("*"):
        yield begins_with("content-type", kind.removesuffix("*"))
    else:
        yield is_exactly("content-type", kind)
        yield begins_with("content-type", f"{kind};")


def _claims_are_comparable(each: NativeModel) -> Predicate | None:
    found = undecidable(each.tests, each.groups)
    return negated(any_of(found)) if found else None


def _caller_is_allowed(each: NativeModel) -> Predicate | None:
    access = each.plan.access
    return None if access is None else predicate(access, each.groups, each.lists)


ModelCondition = Callable[[NativeModel], Predicate | None]
"""A condition for all native requests of a model; None if the model does not need it."""

MODEL_CONDITIONS: Final[tuple[ModelCondition, ...]] = (
    _caller_has_token,
    _method_is_allowed,
    _media_type_is_accepted,
    _claims_are_comparable,
    _caller_is_allowed,
)


def _length_is_declared(each: NativeModel) -> HeaderMatcher:
    """There is a body, and it is not too long. The callout counts a body of unknown length."""
    lengths = Int64Range(start=1, end=each.requests.max_body_of(each.model) + 1)
    return HeaderMatcher(name=headers.CONTENT_LENGTH, range_match=lengths)


def _version_is_not_named(_: NativeModel) -> HeaderMatcher:
    return HeaderMatcher(name=headers.MODEL_VERSION, present_match=True, invert_match=True)


RouteCondition = Callable[[NativeModel], HeaderMatcher]
"""A condition in a native route."""

ROUTE_CONDITIONS: Final[tuple[RouteCondition, ...]] = (_length_is_declared,)
"""Conditions in every native route."""

UNNAMED_CONDITIONS: Final[tuple[RouteCondition, ...]] = (_version_is_not_named,)
"""Conditions in native routes of requests whose header names no version."""


def operations(each: NativeModel) -> Matcher:
    """The model's matcher for its operations in the Open Inference Protocol."""
    versions = f"{OIP_PREFIX}{each.name}/versions/"
    # Versions without native routes.
    cases = {versions: to_routes((each.callout,))}
    for way in each.plan.versions:
        if not way.callout:
            pick = way.picks[0]
            native = _route(each, Pick(pick.version, Reason.VERSION_PATH), UNNAMED_CONDITIONS)
            cases[f"{versions}{pick.version}/"] = to_routes((native, each.callout))
    return _guarded(each, to_matcher(by_prefix(":path", cases, _chosen(each))))


def everywhere(each: NativeModel) -> Matcher:
    """The model's matcher for one of its paths and all paths below it."""
    return _guarded(each, _chosen(each))


def _guarded(each: NativeModel, on_match: Matcher.OnMatch) -> Matcher:
    found = (condition(each) for condition in MODEL_CONDITIONS)
    return first_of([(all_of(p for p in found if p is not None), on_match)])


def _chosen(each: NativeModel) -> Matcher.OnMatch:
    """The choice of the version: named by the header, or else by the other ways in order."""
    versions = {
        way.picks[0].version: to_routes((_route(each, way.picks[0], ()), each.callout))
        for way in each.plan.versions
        if not way.callout
    }
    return to_matcher(by_value(headers.MODEL_VERSION, versions, _by_rules(each)))


def _by_rules(each: NativeModel) -> Matcher.OnMatch:
    *cases, (last, otherwise) = [(way.test, _way(each, way)) for way in each.plan.chosen]
    assert last is None
    if not cases:
        return otherwise
    lists = each.lists
    tested = [(predicate(test, each.groups, lists), way) for test, way in cases if test is not None]
    return to_matcher(first_of(tested, otherwise))


def _way(each: NativeModel, way: Way) -> Matcher.OnMatch:
    if way.callout:
        return to_routes((each.callout,))
    if len(way.picks) == 1:
        native = _route(each, way.picks[0], UNNAMED_CONDITIONS)
    else:
        native = _weighted_route(each, way)
    return to_routes((native, each.callout))


def _route(each: NativeModel, pick: Pick, more: tuple[RouteCondition, ...]) -> Route:
    """The native route to one version."""
    cluster = names.cluster_name(each.name, pick.version)
    route = _native_route(each, more, names.native_version_key(each.digest, cluster))
    route.route.cluster = cluster
    route.request_headers_to_add.extend(_added(each, pick))
    return route


def _weighted_route(each: NativeModel, way: Way) -> Route:
    """The native route to several versions: a bucket of users belongs to one of them."""
    key = names.native_model_key(each.digest, each.name)
    route = _native_route(each, UNNAMED_CONDITIONS, key)
    hashed = token_headers.SUBJECT if way.bucket is None else way.bucket
    policy = RouteAction.HashPolicy.Header(header_name=hashed)
    route.route.hash_policy.add(header=policy)
    clusters = [
        WeightedCluster.ClusterWeight(
            name=names.cluster_name(each.name, pick.version),
            weight=uint32(pick.weight),
            request_headers_to_add=_added(each, pick),
        )
        for pick in way.picks
    ]
    assert sum(pick.weight for pick in way.picks) == BUCKETS
    weighted = WeightedCluster(clusters=clusters, use_hash_policy=boolean(True))
    route.route.weighted_clusters.CopyFrom(weighted)
    return route


def _native_route(each: NativeModel, more: tuple[RouteCondition, ...], runtime_key: str) -> Route:
    """The callout route of the model, with the conditions of a native route and no callout."""
    route = Route()
    route.CopyFrom(each.callout)
    route.name = names.native_route_name(each.name)
    conditions = (*ROUTE_CONDITIONS, *more)
    route.match.headers.extend(condition(each) for condition in conditions)
    route.match.runtime_fraction.CopyFrom(
        RuntimeFractionalPercent(
            # Without the key, the route is off: no worker has the policy that it belongs to.
            default_value=FractionalPercent(numerator=0),
            runtime_key=runtime_key,
        )
    )
    route.route.ClearField("cluster_header")
    # Native requests are no handshakes.
    route.route.ClearField("upgrade_configs")
    failed_handshakes.omit(route)
    omitted_callout.omit(route)
    return route


def _added(each: NativeModel, pick: Pick) -> list[HeaderValueOption]:
    """The headers with which the callout hands its decision to the model server."""
    added = [
        header(headers.MODEL_SERVICE, names.cluster_name(each.name, pick.version)),
        header(headers.MODEL, each.name),
        header(headers.REASON, pick.reason),
        # Without a subject, Envoy adds no header.
        header(headers.SUBJECT, f"%REQ({token_headers.SUBJECT})%"),
    ]
    if pick.reason != Reason.VERSION_HEADER:
        added.append(header(headers.MODEL_VERSION, pick.version))
    if pick.canary:
        added.append(header(headers.CANARY, "true"))
    return added
