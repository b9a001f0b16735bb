"""Combines two versions of a resource: during a rollout, the mesh needs what each of them has."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from protos.istio_mcp_pb2 import Resource as Envelope
from protos.istio_networking_pb2 import DestinationRule, HTTPRoute, VirtualService
from xds.istio.envelope import enveloped
from xds.protocol.snapshot import Resource

_Match: TypeAlias = tuple[bytes, ...]
"""The conditions of a route. Any of them is enough."""


def combined_destination_rules(first: Resource, second: Resource) -> Resource:
    """The first DestinationRule, with the subsets that only the second one has."""
    envelope, spec = _envelope(first), DestinationRule.FromString(_spec(first))
    known = {each.name for each in spec.subsets}
    other = DestinationRule.FromString(_spec(second))
    added = [each for each in other.subsets if each.name not in known]
    if not added:
        return first
    spec.subsets.extend(added)
    return enveloped(envelope.metadata.name, envelope.body.type_url, spec)


def combined_virtual_services(first: Resource, second: Resource) -> Resource:
    """The first VirtualService, with the routes whose conditions only the second one has.

    Each of these is before all routes that follow it in the second one.
    """
    envelope, spec = _envelope(first), VirtualService.FromString(_spec(first))
    routes = list(_combined(spec.http, VirtualService.FromString(_spec(second)).http))
    if len(routes) == len(spec.http):
        return first
    del spec.http[:]
    spec.http.extend(routes)
    return enveloped(envelope.metadata.name, envelope.body.type_url, spec)


def _envelope(resource: Resource) -> Envelope:
    return Envelope.FromString(resource.body)


def _spec(resource: Resource) -> bytes:
    return _envelope(resource).body.value


def _combined(first: Sequence[HTTPRoute], second: Sequence[HTTPRoute]) -> Iterator[HTTPRoute]:
    places = {_match(route): place for place, route in reversed(list(enumerate(first)))}
    added: dict[int, list[HTTPRoute]] = defaultdict(list)
    place = len(first)
    for route in reversed(second):
        known = places.get(_match(route))
        if known is None:
            added[place].append(route)
        else:
            place = min(place, known)
    for place, route in enumerate(first):
        yield from reversed(added[place])
        yield route
    yield from reversed(added[len(first)])


def _match(route: HTTPRoute) -> _Match:
    return tuple(each.SerializeToString(deterministic=True) for each in route.match)
