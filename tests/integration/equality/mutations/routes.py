"""Leaves out each condition and each action of native routes."""

from collections.abc import Iterator
from typing import Any

from google.protobuf.message import Message

from protos.route_pb2 import Route, RouteList
from tests.integration.equality.mutations.omission import Omission, Picks, copied, picks

_CONDITIONS = ("headers", "query_parameters", "dynamic_metadata")
"""The lists of conditions in a route's match."""


def of_routes(routes: RouteList) -> Iterator[Omission]:
    """Mutants of a list of routes. A request that no route of it matches gets no route at all."""
    for index, route in enumerate(routes.routes):
        native = picks(route)
        for each in (*_conditions(route, native), *_actions(route, native)) if native else ():
            changed = copied(routes)
            changed.routes[index].CopyFrom(each.message)
            yield each.within(f"route {index} ({route.name})", changed)


def _conditions(route: Route, native: Picks) -> Iterator[Omission]:
    for kind in _CONDITIONS:
        for index, condition in enumerate(getattr(route.match, kind)):
            changed = copied(route)
            del getattr(changed.match, kind)[index]
            read = frozenset((condition.name,)) if kind == "headers" else frozenset()
            yield Omission(_shown(condition), read, native, changed)
    if route.match.HasField("runtime_fraction"):
        changed = copied(route)
        changed.match.ClearField("runtime_fraction")
        key = route.match.runtime_fraction.runtime_key
        yield Omission(f"runtime key {key}", frozenset(), native, changed, off=True)
    path = route.match.WhichOneof("path_specifier")
    if path is not None and (path, route.match.prefix) != ("prefix", "/"):
        changed = copied(route)
        changed.match.prefix = "/"
        yield Omission(path, frozenset((":path",)), native, changed)


def _actions(route: Route, native: Picks) -> Iterator[Omission]:
    for index, added in enumerate(route.request_headers_to_add):
        changed = copied(route)
        del changed.request_headers_to_add[index]
        yield Omission(f"adds {added.header.key}", frozenset(), native, changed)
    hashed = frozenset(each.header.header_name for each in route.route.hash_policy)
    for index in range(len(route.route.hash_policy)):
        changed = copied(route)
        del changed.route.hash_policy[index]
        yield Omission(f"hash_policy {index}", hashed, native, changed)
    weighted = route.route.weighted_clusters
    if weighted.HasField("use_hash_policy"):
        changed = copied(route)
        changed.route.weighted_clusters.ClearField("use_hash_policy")
        yield Omission("use_hash_policy", hashed, native, changed)
    for at, cluster in enumerate(weighted.clusters):
        for index, added in enumerate(cluster.request_headers_to_add):
            changed = copied(route)
            del changed.route.weighted_clusters.clusters[at].request_headers_to_add[index]
            what = f"weight {at}, {cluster.name}, adds {added.header.key}"
            own = frozenset(each for each in native if each[0] == cluster.name)
            yield Omission(what, frozenset(), own, changed)


def _shown(message: Message | Any) -> str:
    return " ".join(str(message).split())
