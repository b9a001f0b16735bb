"""What the routes of a VirtualService have in common: destinations, timeouts and retries."""

from collections.abc import Iterable, Iterator
from typing import Final

from protos.istio_networking_pb2 import (
    Destination,
    HTTPMatchRequest,
    HTTPRetry,
    HTTPRoute,
    HTTPRouteDestination,
    PortSelector,
    StringMatch,
)
from sluice.config.models import Model, Retries
from xds.istio.destinations import VersionDestination
from xds.resources.proto_messages import seconds

MESH: Final = "mesh"
"""Istio's name for all sidecars, among the gateways of a VirtualService."""


def version_route(
    name: str,
    model: Model,
    matches: Iterable[HTTPMatchRequest],
    destinations: Iterable[HTTPRouteDestination],
    retry_on: Iterable[str] | None = None,
) -> HTTPRoute:
    """A route to versions of a model. Reports of requests have its `name`.

    `retry_on` replaces the causes in the config.
    """
    causes = model.retries.retry_on if retry_on is None else retry_on
    route = HTTPRoute(
        name=name, match=matches, route=destinations, retries=_retry(model.retries, causes)
    )
    # Istio has no timeout by default, and refuses one of 0.
    if model.timeout:
        route.timeout.FromTimedelta(seconds(model.timeout))
    return route


def path_matches(name: str, model: Model, below: str = "") -> Iterator[HTTPMatchRequest]:
    """Matches the paths of a model, and with `below` only the paths below each."""
    for prefix in model.prefixes(name):
        path = f"{prefix}{below}"
        # A prefix would also match `/v2/models/NAME-2`.
        for uri in (StringMatch(exact=path), StringMatch(prefix=f"{path}/")):
            yield HTTPMatchRequest(uri=uri)


def destination(target: VersionDestination) -> Destination:
    """The endpoints of a version."""
    found = Destination(host=target.host, subset=target.subset)
    if target.port is not None:
        found.port.CopyFrom(PortSelector(number=target.port))
    return found


def _retry(retries: Retries, causes: Iterable[str]) -> HTTPRetry:
    """Without attempts, Istio retries nothing. Without the message, it has retries of its own."""
    if not retries.attempts:
        return HTTPRetry()
    per_try = retries.per_try_timeout
    return HTTPRetry(
        attempts=retries.attempts,
        retry_on=",".join(causes),
        per_try_timeout=None if per_try is None else seconds(per_try),
    )
