"""The route table as a matcher tree: Envoy finds a request's model in constant time.

The tree compares, in this order: the model that the callout has chosen; for requests that Envoy may
admit alone, the path, and below it the conditions of the model's native routes; the path. The
callout's decision comes first, so a decided request is never matched natively again.

The maps of the tree have the serialized matchers of all models as values. Those of unchanged models
come from a cache, so this module writes the maps without building messages for them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import cached_property
from typing import Final

from protos.route_pb2 import Route
from sluice.contract import headers
from sluice.contract.paths import OIP_GRPC_PREFIX, VIDEO_GRPC_PREFIX
from xds.protocol.wire import Parts, Piece, entry, field
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


@dataclass(frozen=True)
class ModelTable:
    """The serialized matchers of one model (xds.type.matcher.v3.Matcher.OnMatch).

    `prefixes` are its paths, the first one that of the Open Inference Protocol. `decided` is for
    requests that the callout has admitted, `callout` for those that it must decide. `native` is for
    the operations below the first one; `everywhere` for the other paths, and all below them.
    Both are empty if the model has no native routes. `has_video`: clients may call the
    video service for it.

    The entries that the model adds to the maps of the tree are made once.
    """

    name: str
    prefixes: tuple[str, ...]
    decided: bytes
    callout: bytes
    native: bytes = b""
    everywhere: bytes = b""
    has_video: bool = False
    _native: "dict[_Nesting, _NativeEntries]" = attribute(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @cached_property
    def decided_entry(self) -> Piece:
        """The entry by name, for requests that the callout has admitted."""
        return _entries({self.name: [self.decided]})

    @cached_property
    def callout_entry(self) -> Piece:
        """The entry by name, for requests that the callout must decide."""
        return _entries({self.name: [self.callout]})

    @cached_property
    def exact(self) -> Piece:
        """The entries of the model's paths."""
        return _entries({path: [self.callout] for path in self.prefixes})

    @cached_property
    def below(self) -> Piece:
        """The entries of everything below the model's paths, and of the paths with a query."""
        ends = (path + end for path in self.prefixes for end in "?/")
        return _entries({path: [self.callout] for path in ends})

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """The paths with native routes: those that are not paths of gRPC methods."""
        return tuple(p for p in self.prefixes if not f"{p}/".startswith(OIP_GRPC_PREFIX))

    def native_entries(self, nesting: "_Nesting") -> "_NativeEntries":
        """The entries for requests that Envoy may admit alone."""
        known = self._native.get(nesting)
        if known is None:
            known = _native_entries(self, nesting)
            self._native.clear()
            self._native[nesting] = known
        return known


@dataclass(frozen=True, slots=True)
class Fixed:
    """A path that belongs to no model, and the routes for it."""

    path: str
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class _Nesting:
    """Which paths of a model lie below other paths.

    `inner`: below a path with native routes. `foreign`: below a path of another model.
    """

    inner: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _NativeEntries:
    """What one model adds to the maps of native routes.

    `exact` and `prefixes` are for paths that the config names, of requests that are no operation;
    `operations_exact` and `operations` for operations.
    """

    exact: Piece
    prefixes: Piece
    operations_exact: Piece
    operations: Piece


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
    # In the order of names, so that the order of the models in the config changes nothing.
    tables = sorted(models, key=lambda table: table.name)
    owners = {prefix: table for table in tables for prefix in table.prefixes}
    exact: list[bytes] = [table.exact for table in tables]
    prefixes: list[bytes] = [table.below for table in tables]
    for each in fixed:
        if not any(ancestor in owners for ancestor in (each.path, *ancestors(each.path))):
            found = [serialized(to_routes(each.routes))]
            exact.append(_entries({each.path: found}))
            prefixes.append(_entries({f"{each.path}?": found}))
    if tables:
        by_name = _nested(_tree(headers.MODEL_NAME, _EXACT, [t.callout_entry for t in tables]))
        prefixes += entry(OIP_GRPC_PREFIX, by_name)
    with_video = [table.callout_entry for table in tables if table.has_video]
    if with_video:
        by_name = _nested(_tree(headers.MODEL_NAME, _EXACT, with_video))
        prefixes += entry(VIDEO_GRPC_PREFIX, by_name)
    undecided = _tree(":path", _PREFIX, prefixes, [serialized(to_routes(others))])
    undecided = _tree(":path", _EXACT, exact, _nested(undecided))
    if admissible is not None:
        native = _native(tables, owners)
        if native is not None:
            undecided = _guarded(admissible, native, undecided)
    if not tables:
        return undecided
    decided = [table.decided_entry for table in tables]
    return _tree(headers.MODEL, _EXACT, decided, _nested(undecided))


def _entries(cases: Mapping[str, Parts]) -> Piece:
    """The entries of a map, by key."""
    return Piece.of([part for key in sorted(cases) for part in entry(key, cases[key])])


def _native(tables: list[ModelTable], owners: Mapping[str, ModelTable]) -> Parts | None:
    """The matcher of native routes by path; None if there are none.

    A model's path may lie below a path of another model that has native routes. Such a path gets
    the routes of its own model, also if these are no native ones.
    """
    roots = {path for table in tables if table.native for path in table.roots}
    if not roots:
        return None
    several = any(len(table.prefixes) > 1 for table in tables)
    found = [
        table.native_entries(_nesting(table, roots, owners) if several else _NOT_NESTED)
        for table in tables
    ]
    # Paths that are no operation get only the routes of paths that the config names. Operations get
    # these too, if they find nothing else.
    prefixes = [each.prefixes for each in found]
    named = None
    if any(prefixes):
        named = _guarded(target_is_ascii(), _by_path([e.exact for e in found], prefixes), None)
    exact = [each.operations_exact for each in found]
    operations = _by_path(exact, [each.operations for each in found])
    return _guarded(operation_path(), operations, named)


_NOT_NESTED: Final = _Nesting()


def _nesting(table: ModelTable, roots: set[str], owners: Mapping[str, ModelTable]) -> _Nesting:
    inner, foreign = [], []
    for path in table.prefixes:
        above = [each for each in ancestors(path) if each in owners]
        if any(each in roots for each in above):
            inner.append(path)
        if any(owners[each] is not table for each in above):
            foreign.append(path)
    return _Nesting(frozenset(inner), frozenset(foreign)) if inner or foreign else _NOT_NESTED


def _native_entries(table: ModelTable, nesting: _Nesting) -> _NativeEntries:
    exact: dict[str, Parts] = {}
    prefixes: dict[str, Parts] = {}
    operations: dict[str, Parts] = {}

    def put(path: str, found: Parts) -> None:
        exact[path] = prefixes[f"{path}?"] = prefixes[f"{path}/"] = found

    for path in nesting.inner:
        put(path, [table.callout])
    for path in table.roots[1:] if table.everywhere else ():
        put(path, _nested(_final(path, table.everywhere, table, nesting)))
    if table.native:
        path = table.prefixes[0]
        operations[f"{path}/"] = _nested(_final(path, table.native, table, nesting))
    inner = {path: found for path, found in prefixes.items() if _has_operations(path)}
    return _NativeEntries(
        _entries({path: found for path, found in exact.items() if not is_operation(path)}),
        _entries({p: found for p, found in prefixes.items() if not _is_operation_with_query(p)}),
        _entries({path: found for path, found in exact.items() if is_operation(path)}),
        _entries({**inner, **operations}),
    )


def _is_operation_with_query(prefix: str) -> bool:
    return prefix.endswith("?") and is_operation(prefix[:-1])


def _has_operations(prefix: str) -> bool:
    """Whether an operation's target can begin with a prefix that ends with `/` or `?`."""
    return is_above_operations(prefix[:-1]) if prefix[-1] == "/" else is_operation(prefix[:-1])


def _by_path(exact: list[Piece], prefixes: list[Piece]) -> Parts:
    tree = _tree(":path", _PREFIX, prefixes)
    return _tree(":path", _EXACT, exact, _nested(tree)) if any(exact) else tree


def _final(path: str, matcher: bytes, table: ModelTable, nesting: _Nesting) -> Parts:
    """The model's matcher. Below a path of another model, it ends with the model's callout route.

    If it finds no route, Envoy goes on with shorter prefixes of the path: with the native routes of
    the other model.
    """
    if path not in nesting.foreign:
        return [matcher]
    case = field(1, *field(1, serialized(is_present(":path"))), *field(2, *_nested([matcher])))
    return [*field(1, *case), *field(3, table.callout)]


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


def _tree(name: str, kind: int, entries: Iterable[bytes], otherwise: Parts | None = None) -> Parts:
    """The serialized Matcher that chooses by the value of a header, with the entries of its map."""
    tree = field(2, *field(1, serialized(header_input(name))), *field(kind, *entries))
    return tree if otherwise is None else [*tree, *field(3, *otherwise)]
