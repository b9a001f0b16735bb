"""One thing that is left out of a message, and what requests must be like to notice it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from google.protobuf.message import Message

from protos.matcher_pb2 import HttpRequestHeaderMatchInput, Matcher
from protos.route_pb2 import Route, RouteList
from sluice.contract import headers
from sluice.contract.names import NATIVE_ROUTE_SUFFIX
from xds.resources.proto_messages import PACKED

M = TypeVar("M", bound=Message)

Pick = tuple[str, str]
"""The cluster that a native route chooses, and the reason that it gives."""

Picks = frozenset[Pick]

Reachable = frozenset[tuple[Pick, str]]
"""What native routes choose, each with its path: `=` and a path, `^` and a prefix, or nothing."""


@dataclass(frozen=True, slots=True)
class Omission:
    """`message` lacks `what`. `place`: where that is in the route table.

    `inputs`: the headers that `what` reads. `picks`: what the native routes choose whose requests
    it concerns. `path`: `=` and their path, or `^` and a prefix of it. `off`: only requests whose
    native routes are switched off notice it.
    """

    what: str
    inputs: frozenset[str]
    picks: Picks
    message: Message
    place: tuple[str, ...] = ()
    path: str = ""
    off: bool = False

    @property
    def name(self) -> str:
        """The path of what is left out."""
        return " > ".join((*self.place, self.what))

    def within(self, step: str, message: Message, path: str = "") -> "Omission":
        """The same as a part of an outer message, for requests with this prefix of the path."""
        place = (step, *self.place) if step else self.place
        return replace(self, place=place, message=message, path=self.path or path)


def copied(message: M) -> M:
    """A copy that can be changed."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def picks(message: Message | None) -> Picks:
    """What the native routes in a message choose."""
    return frozenset(pick for pick, _ in reachable(message))


def reachable(message: Message | None, path: str = "") -> Reachable:
    """What the native routes in a message choose, for which paths."""
    if message is None or NATIVE_ROUTE_SUFFIX.encode() not in message.SerializeToString():
        return frozenset()
    match message:
        case Route():
            return frozenset((pick, path) for pick in _route_picks(message))
        case RouteList():
            return _union((each, path) for each in message.routes)
        case Matcher.OnMatch():
            inner = message.matcher if message.HasField("matcher") else routes_of(message)
            return reachable(inner, path)
        case Matcher():
            return _union(_parts(message, path))
    raise AssertionError(f"no routes in {type(message)}")


def _parts(matcher: Matcher, path: str) -> Iterator[tuple[Message, str]]:
    yield matcher.on_no_match, path
    for case in matcher.matcher_list.matchers:
        yield case.on_match, path
    for step, on_match in cases(matcher.matcher_tree):
        yield on_match, step.path or path


@dataclass(frozen=True, slots=True)
class Step:
    """The comparison of a header with a key: the whole value (`=`), or its beginning (`^`)."""

    header: str
    kind: str
    key: str

    @property
    def path(self) -> str:
        """What it says about the path; empty if it compares another header."""
        return f"{self.kind}{self.key}" if self.header == ":path" else ""

    def __str__(self) -> str:
        return f"{self.header} {self.kind} {self.key}"


def cases(tree: Matcher.MatcherTree) -> Iterator[tuple[Step, Matcher.OnMatch]]:
    """The cases of a tree, in the order of their keys."""
    header = HttpRequestHeaderMatchInput.FromString(tree.input.typed_config.value).header_name
    for kind, found in (("=", tree.exact_match_map.map), ("^", tree.prefix_match_map.map)):
        for key in sorted(found):
            yield Step(header, kind, key), found[key]


def on_path(following: Reachable, path: str) -> Reachable:
    """Those of the routes that a request with this path can have."""
    return frozenset((pick, other) for pick, other in following if _may_meet(path, other))


def _may_meet(one: str, other: str) -> bool:
    """Whether a path can meet both: each is a path, a prefix, or nothing."""
    exact, prefix = sorted((one, other), key=lambda each: not each.startswith("="))
    if exact.startswith("="):
        return exact == prefix if prefix.startswith("=") else exact[1:].startswith(prefix[1:])
    return one[1:].startswith(other[1:]) or other[1:].startswith(one[1:])


def _union(parts: Iterable[tuple[Message, str]]) -> Reachable:
    return frozenset().union(*(reachable(message, path) for message, path in parts))


def _route_picks(route: Route) -> list[Pick]:
    if not route.name.endswith(NATIVE_ROUTE_SUFFIX):
        return []
    weighted = route.route.weighted_clusters.clusters
    chosen = [(each.name, each.request_headers_to_add) for each in weighted]
    chosen = chosen or [(route.route.cluster, route.request_headers_to_add)]
    return [
        (cluster, next(a.header.value for a in added if a.header.key == headers.REASON))
        for cluster, added in chosen
    ]


def routes_of(on_match: Matcher.OnMatch) -> RouteList | None:
    """The routes of an action; None if the action has none."""
    packed = on_match.action.typed_config
    if packed.type_url != f"type.googleapis.com/{PACKED[RouteList]}":
        return None
    return RouteList.FromString(packed.value)
