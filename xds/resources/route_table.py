"""The route table as a matcher tree: Envoy finds a request's model in constant time.

The tree compares, in this order: the model that the callout has chosen; for requests that Envoy may
admit alone, the path, and below it the conditions of the model's native routes; the path. The
callout's decision comes first, so a decided request is never matched natively again.

The maps of the tree have the serialized matchers of all models as values. Those of unchanged models
come from a cache, so this module writes the maps without building messages for them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from protos.route_pb2 import Route
from sluice.contract import headers
from sluice.contract.paths import OIP_GRPC_PREFIX
from xds.protocol.wire import Parts, entry, field
from xds.resources.native.conditions import (
    is_above_operations,
    is_operation,
    operation_path,
    target_is_ascii,
)
from xds.resources.native.predicates import Predicate, header_input, is_present, to_routes
from xds.resources.proto_messages import serialized

_EXACT: Final = 2
_PREFIX: Final = 3
"""Field numbers of Matcher.MatcherTree: the map of exact values, and the map of prefixes."""


@dataclass(frozen=True, slots=True)
class ModelTable:
    """The serialized matchers of one model (xds.type.matcher.v3.Matcher.OnMatch).

    `prefixes` are its paths, the first one that of the Open Inference Protocol. `decided` is for
    requests that the callout has admitted, `callout` for those that it must decide. `native` is for
    the operations below the first one; `everywhere` for the other paths, and all below them.
    Both are empty if the model has no native routes.
    """

    name: str
    prefixes: tuple[str, ...]
    decided: bytes
    callout: bytes
    native: bytes = b""
    everywhere: bytes = b""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A path that belongs to no model, and the routes for it."""

    path: str
    routes: tuple[Route, ...]


def matcher(
    models: Iterable[ModelTable],
    fixed: Iterable[Fixed],
    others: Iterable[Route],
    admissible: Predicate | None,
) -> Parts:
    """The serialized VirtualHost.matcher.

    `fixed`: paths that apply if no model has them. `others`: the routes of all other requests.
    `admissible`: what every native admission needs; None if there are no native routes.
    """
    tables = list(models)
    owners = {prefix: table for table in tables for prefix in table.prefixes}
    exact: dict[str, Parts] = {}
    prefixes: dict[str, Parts] = {}
    for each in fixed:
        if not any(ancestor in owners for ancestor in (each.path, *ancestors(each.path))):
            _put_path(exact, prefixes, each.path, [serialized(to_routes(each.routes))])
    for prefix, table in owners.items():
        exact[prefix] = prefixes[f"{prefix}?"] = prefixes[f"{prefix}/"] = [table.callout]
    if tables:
        by_name: dict[str, Parts] = {table.name: [table.callout] for table in tables}
        prefixes[OIP_GRPC_PREFIX] = _nested(_tree(headers.MODEL_NAME, _EXACT, by_name))
    undecided = _tree(":path", _PREFIX, prefixes, [serialized(to_routes(others))])
    undecided = _tree(":path", _EXACT, exact, _nested(undecided))
    if admissible is not None:
        native = _native(tables, owners)
        if native is not None:
            undecided = _guarded(admissible, native, undecided)
    decided: dict[str, Parts] = {table.name: [table.decided] for table in tables}
    return _tree(headers.MODEL, _EXACT, decided, _nested(undecided)) if decided else undecided


def _put_path(exact: dict[str, Parts], prefixes: dict[str, Parts], path: str, found: Parts) -> None:
    """Add a whole path, with or without a query."""
    exact[path] = prefixes[f"{path}?"] = found


def _native(tables: list[ModelTable], owners: Mapping[str, ModelTable]) -> Parts | None:
    """The matcher of native routes by path; None if there are none.

    A model's path may lie below a path of another model that has native routes. Such a path gets
    the routes of its own model, also if these are no native ones.
    """
    roots = {path for table in tables if table.native for path in _roots(table)}
    exact: dict[str, Parts] = {}
    prefixes: dict[str, Parts] = {}
    below = dict.fromkeys(_below(owners, roots))
    for path in below:
        _put_path(exact, prefixes, path, [owners[path].callout])
        prefixes[f"{path}/"] = [owners[path].callout]
    operations: dict[str, Parts] = {}
    for table in tables:
        if table.native:
            path = table.prefixes[0]
            operations[f"{path}/"] = _nested(_final(path, table.native, table, owners))
        for path in _roots(table)[1:] if table.everywhere else ():
            everywhere = _nested(_final(path, table.everywhere, table, owners))
            _put_path(exact, prefixes, path, everywhere)
            prefixes[f"{path}/"] = everywhere
    if not operations:
        return None
    # Paths that are no operation get only the routes of paths that the config names. Operations get
    # these too, if they find nothing else.
    others = _without(exact, is_operation), _without(prefixes, _is_operation_with_query)
    named = _guarded(target_is_ascii(), _by_path(*others), None) if prefixes else None
    inner = _without(prefixes, lambda path: not _has_operations(path))
    found = _by_path(_without(exact, lambda path: not is_operation(path)), {**inner, **operations})
    return _guarded(operation_path(), found, named)


def _is_operation_with_query(prefix: str) -> bool:
    return prefix.endswith("?") and is_operation(prefix[:-1])


def _has_operations(prefix: str) -> bool:
    """Whether an operation's target can begin with a prefix that ends with `/` or `?`."""
    return is_above_operations(prefix[:-1]) if prefix[-1] == "/" else is_operation(prefix[:-1])


def _without(paths: Mapping[str, Parts], left_out: Callable[[str], bool]) -> dict[str, Parts]:
    return {path: found for path, found in paths.items() if not left_out(path)}


def _by_path(exact: Mapping[str, Parts], prefixes: Mapping[str, Parts]) -> Parts:
    tree = _tree(":path", _PREFIX, prefixes)
    return _tree(":path", _EXACT, exact, _nested(tree)) if exact else tree


def _final(path: str, matcher: bytes, table: ModelTable, owners: Mapping[str, ModelTable]) -> Parts:
    """The model's matcher. Below a path of another model, it ends with the model's callout route.

    If it finds no route, Envoy goes on with shorter prefixes of the path: with the native routes of
    the other model.
    """
    above = (owners[each] for each in ancestors(path) if each in owners)
    if all(each is table for each in above):
        return [matcher]
    case = field(1, *field(1, serialized(is_present(":path"))), *field(2, *_nested([matcher])))
    return [*field(1, *case), *field(3, table.callout)]


def _roots(table: ModelTable) -> list[str]:
    """The paths with native routes: those that are not paths of gRPC methods."""
    return [p for p in table.prefixes if not f"{p}/".startswith(OIP_GRPC_PREFIX)]


def _below(owners: Mapping[str, ModelTable], roots: set[str]) -> Iterator[str]:
    """The paths that lie below another path with native routes."""
    if any(len(table.prefixes) > 1 for table in owners.values()):
        for prefix in owners:
            if any(ancestor in roots for ancestor in ancestors(prefix)):
                yield prefix


def ancestors(path: str) -> Iterator[str]:
    """The paths above this one, the longest first."""
    while (end := path.rfind("/")) > 0:
        path = path[:end]
        yield path


def _guarded(predicate: Predicate, found: Parts, otherwise: Parts | None) -> Parts:
    """A matcher: `found` for requests that meet the predicate, if it finds a route."""
    case = field(1, *field(1, serialized(predicate)), *field(2, *_nested(found)))
    matcher = field(1, *case)
    return matcher if otherwise is None else [*matcher, *field(3, *_nested(otherwise))]


def _nested(matcher: Parts) -> Parts:
    """The serialized Matcher.OnMatch that continues with this matcher."""
    return field(1, *matcher)


def _tree(
    name: str, kind: int, cases: Mapping[str, Parts], otherwise: Parts | None = None
) -> Parts:
    """The serialized Matcher that chooses by the value of a header."""
    entries: list[bytes] = []
    for key in sorted(cases):
        entries += entry(key, cases[key])
    tree = field(2, *field(1, serialized(header_input(name))), *field(kind, *entries))
    return tree if otherwise is None else [*tree, *field(3, *otherwise)]
