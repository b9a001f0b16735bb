"""Routes for callers inside the mesh that use no callout: headers and weights choose the version.

They follow the rules of the callout (`extproc.decision`) as far as a mesh can express them, without
credentials, claims, limits and conversion. A caller does not stick to a version.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from protos.istio_networking_pb2 import (
    Headers,
    HTTPMatchRequest,
    HTTPRoute,
    HTTPRouteDestination,
    StringMatch,
)
from sluice.config.models import Canary, Model
from sluice.contract import headers
from sluice.contract.paths import OIP_GRPC_PREFIX
from xds.istio.destinations import VersionDestination
from xds.istio.routes import MESH, destination, path_matches, version_route

_WHOLE: Final = 10_000
"""The weight of all versions: percentages have steps of 0.01."""

_INTERNAL: Final = (
    headers.MODEL_SERVICE, headers.MODEL, headers.SUBJECT, headers.VERIFIED_SUBJECT, headers.REASON,
    headers.CANARY, headers.MIRROR, headers.PATH, headers.METHOD, headers.BODY_LENGTH,
)  # fmt: skip
"""Headers that only the gateway may set. A mesh cannot remove headers by their prefix."""


def weighted_routes(targets: Iterable[VersionDestination]) -> Iterator[HTTPRoute]:
    """The routes of one model, from the versions of this model."""
    versions = {each.version_name: each for each in targets}
    first = next(iter(versions.values()))
    name, model = first.model_name, first.model
    for version, target in versions.items():
        chosen = [*_by_path(name, model, version), *_by_header(name, model, version)]
        yield _route(chosen, (target,))
    for canary in model.canaries:
        matches = list(_by_canary(name, model, canary))
        if matches:
            yield _route(matches, (versions[canary.version],))
    yield _route(list(_requests(name, model)), _shares(model, versions))


Shares = Iterable[VersionDestination | tuple[VersionDestination, int]]


def _shares(model: Model, versions: dict[str, VersionDestination]) -> Shares:
    """The versions of the canaries and the stable one, with their weights."""
    weights = {each.version: each.buckets("xxh64") for each in model.canaries}
    stable = model.stable_version
    shares = {**weights, stable: _WHOLE - sum(weights.values())}
    used = [(versions[version], weight) for version, weight in shares.items() if weight]
    return used if len(used) > 1 else [target for target, _ in used]


def _route(matches: list[HTTPMatchRequest], shares: Shares) -> HTTPRoute:
    destinations = []
    for share in shares:
        target, weight = share if isinstance(share, tuple) else (share, 0)
        sent = Headers.HeaderOperations(
            set={headers.MODEL_VERSION: target.version_name}, remove=_INTERNAL
        )
        destinations.append(
            HTTPRouteDestination(
                destination=destination(target), weight=weight, headers=Headers(request=sent)
            )
        )
    return version_route(target.model_name, target.model, matches, destinations)


def _requests(name: str, model: Model, below: str = "") -> Iterator[HTTPMatchRequest]:
    """Matches the requests for a model, and with `below` only those for paths below its own."""
    for match in path_matches(name, model, below):
        match.gateways.append(MESH)
        yield match
    if not below:
        yield HTTPMatchRequest(
            uri=StringMatch(prefix=OIP_GRPC_PREFIX),
            headers={headers.MODEL_NAME: StringMatch(exact=name)},
            gateways=[MESH],
        )


def _by_path(name: str, model: Model, version: str) -> Iterator[HTTPMatchRequest]:
    return _requests(name, model, f"/versions/{version}")


def _by_header(name: str, model: Model, version: str) -> Iterator[HTTPMatchRequest]:
    return _with_header(_requests(name, model), headers.MODEL_VERSION, version)


def _by_canary(name: str, model: Model, canary: Canary) -> Iterator[HTTPMatchRequest]:
    for each in canary.headers:
        yield from _with_header(_requests(name, model), each.name, each.value)
    for kind in canary.model_types:
        yield from _with_header(_requests(name, model), headers.MODEL_TYPE, kind)


def _with_header(
    matches: Iterable[HTTPMatchRequest], header: str, value: str
) -> Iterator[HTTPMatchRequest]:
    for match in matches:
        match.headers[header].exact = value
        yield match
