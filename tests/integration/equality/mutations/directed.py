"""Requests that are one edit away from an admitted one: for each header that a matcher reads.

The edits come from the compiled resources: the values that matchers compare with a header, the
claims that the token filter copies to it, and the headers that the route table knows.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from protos.matcher_pb2 import HttpRequestHeaderMatchInput, Matcher
from protos.route_pb2 import RouteConfiguration, RouteList
from sluice.contract import headers, names
from tests.integration.equality.mutations import directed_tokens, token_filter
from tests.integration.equality.mutations.mutation import Types
from tests.integration.equality.mutations.omission import routes_of
from tests.integration.equality.mutations.predicates import values
from tests.integration.equality.policies import World
from tests.integration.equality.request import Header, Request
from xds.protocol import resource_types

ANY: Final = "*"
"""The input of edits that concern no single header."""

_METHODS: Final = (b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"PUT", b"POST", b"post")
_IDS: Final = tuple(b"%d" % (7919 * number) for number in range(1, 25))
_UPGRADES: Final = (b"websocket", b"WebSocket", b"h2c", b"x")
_CONNECTIONS: Final = (b"upgrade", b"keep-alive, Upgrade")


@dataclass(frozen=True, slots=True)
class Compared:
    """What matchers compare: values by header, and the range of `content-length` by its bounds.

    `claims`: the claim that the token filter copies to a header, by issuer and header. `internal`:
    all internal headers.
    """

    values: Mapping[str, tuple[str, ...]]
    lengths: tuple[int, ...]
    claims: Mapping[tuple[str, str], str]
    internal: tuple[str, ...]

    @classmethod
    def of(cls, types: Types, world: World) -> "Compared":
        """What the compiled resources of a config compare, and the headers of its canaries."""
        body = types[resource_types.ROUTE][names.ROUTE_CONFIGURATION].body
        table = RouteConfiguration.FromString(body)
        found = _Found()
        for host in table.virtual_hosts:
            found.add_matcher(host.matcher)
        for canary in (c for m in world.models.values() for c in m.get("canaries", ())):
            for match in canary.get("headers", ()):
                found.values[match["name"]].add(match["value"])
        providers = token_filter.providers(types[resource_types.EXTENSION][names.JWT_FILTER])
        claims = {
            (provider.issuer, each.header_name): each.claim_name
            for provider in providers.values()
            for each in provider.claim_to_headers
        }
        internal = re.findall(rb"%b[a-z0-9-]+" % headers.INTERNAL_PREFIX.encode(), body)
        return cls(
            {header: tuple(sorted(each)) for header, each in found.values.items()},
            tuple(sorted(found.lengths)),
            claims,
            tuple(sorted({each.decode() for each in internal})),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """All headers that something reads."""
        claims = (header for _, header in self.claims)
        read = (*self.values, headers.CONTENT_LENGTH, token_filter.TOKEN, *claims, ANY)
        return tuple(dict.fromkeys(read))


@dataclass(slots=True)
class _Found:
    values: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    lengths: set[int] = field(default_factory=set)

    def add_matcher(self, matcher: Matcher) -> None:
        for case in matcher.matcher_list.matchers:
            for header, value in values(case.predicate):
                kind = str(value.WhichOneof("match_pattern"))
                text = "" if kind == "safe_regex" else getattr(value, kind)
                self.values[header].update(filter(None, (text,)))
            self._add(case.on_match)
        if matcher.HasField("matcher_tree"):
            tree = matcher.matcher_tree
            packed = tree.input.typed_config.value
            header = HttpRequestHeaderMatchInput.FromString(packed).header_name
            for key, found in (
                *tree.exact_match_map.map.items(),
                *tree.prefix_match_map.map.items(),
            ):
                self.values[header].add(key)
                self._add(found)
        if matcher.HasField("on_no_match"):
            self._add(matcher.on_no_match)

    def _add(self, on_match: Matcher.OnMatch) -> None:
        if on_match.HasField("matcher"):
            self.add_matcher(on_match.matcher)
        else:
            self._add_routes(routes_of(on_match) or RouteList())

    def _add_routes(self, routes: RouteList) -> None:
        for condition in (each for route in routes.routes for each in route.match.headers):
            kind = condition.WhichOneof("header_match_specifier")
            self.values[condition.name].update(filter(None, (condition.string_match.exact,)))
            if kind == "range_match":
                bounds = condition.range_match
                self.lengths.update((bounds.start, bounds.end))


def edits(request: Request, read: str, compared: Compared, world: World) -> Iterator[Request]:
    """Requests that differ from this one in what one header says."""
    for changed in _edits(request, read, compared, world):
        if not changed.is_sent_as(request):
            http2 = (changed.http2 or not changed.path.isascii()) and not changed.ends_http2
            yield replace(changed, edit=f"{read}: directed", http2=http2)


def _edits(request: Request, read: str, compared: Compared, world: World) -> Iterator[Request]:
    issuer = "" if request.credential is None else str(request.credential.claims["iss"])
    claim = compared.claims.get((issuer, read))
    if claim is not None:
        return directed_tokens.claim_edits(request, claim, world)
    match read:
        case ":method":
            return _methods(request, compared.values[read])
        case ":path":
            return _paths(request, compared.values[read])
        case headers.CONTENT_LENGTH:
            return _lengths(request, compared.lengths)
        case token_filter.TOKEN:
            return directed_tokens.token_edits_of(request, world)
        case "upgrade":
            return _upgrades(request)
        case _ if read == ANY or read.startswith(headers.INTERNAL_PREFIX):
            return _unread(request, compared)
    return _header(request, read.encode(), compared.values.get(read, ()))


def _upgrades(request: Request) -> Iterator[Request]:
    for protocol in _UPGRADES:
        for options in _CONNECTIONS:
            yield request.adding((b"upgrade", protocol), (b"connection", options))


def _header(request: Request, name: bytes, known: Iterable[str]) -> Iterator[Request]:
    """Another value of a header, or none, or two."""
    texts = [each.encode() for each in known]
    first = request.values(name)[:1]
    for value in (
        *texts,
        b"",
        b"x",
        *(v + b",x" for v in _IDS[:8]),
        *(v for t in texts for v in _almost(t)),
        *_IDS,
    ):
        yield request.with_header(name, value)
    yield request.with_header(name, None)
    for value in (*first, *texts, b"x"):
        yield request.adding((name, value))
        yield replace(request, headers=((name, value), *request.headers))
        yield request.with_header(name, value + b",x")
        yield request.with_header(name, value + b",").adding((name, value))


def _almost(value: bytes) -> tuple[bytes, ...]:
    return (
        value + b"x", value[:-1], value.upper(), value + b";", value + b"/x", value + b"; a=b",
        value.title(), b"x" + value,
    )  # fmt: skip


def _methods(request: Request, known: Iterable[str]) -> Iterator[Request]:
    for method in (*_METHODS, *(each.encode() for each in known), b"POSTS"):
        if method == b"HEAD":
            empty = request.with_header(b"content-length", None)
            yield replace(empty, method=method, body=None)
        else:
            yield replace(request, method=method)


def _paths(request: Request, known: Iterable[str]) -> Iterator[Request]:
    path, mark, query = request.path.partition(b"?")
    head, _, last = path.rpartition(b"/")
    changed = [
        b"/v2/models/none/" + last,
        path + b"?\xc3\xa9", path + b"?a=\xff", path + b"?", path + b"?a=/infer", path + b"/",
        path + b"/infer", path + b"/x", path + b"x", head, head + b"/x", head + b"/ready",
        head + b"/" + last.upper(), head + b"/generate", head + b"/generate_stream",
        head + b"/versions/v9/" + last, path + b"/versions/v1/infer", head + b"/x/" + last,
    ]  # fmt: skip
    tails = (b"", b"infer", b"x/infer", b"/infer", b"/x", b"?a=b", b"versions/v1/infer")
    changed += (key.encode() + tail for key in known for tail in tails)
    yield from (replace(request, path=each or b"/") for each in changed)
    if mark:
        yield from (replace(request, path=each + b"?" + query) for each in changed)


def _lengths(request: Request, bounds: Iterable[int]) -> Iterator[Request]:
    near = {max(0, bound + step) for bound in bounds for step in (-1, 0, 1)}
    for size in sorted(near):
        if size < 1 << 16:
            yield request.with_body(b"x" * size)
    yield request.with_header(b"content-length", None)
    yield replace(request.with_header(b"content-length", None), body=None)


def _unread(request: Request, compared: Compared) -> Iterator[Request]:
    """Headers that no client may set, or that must not reach a model server."""
    values = (b"true", b"root", request.path[11:].partition(b"/")[0], b"m/v1")
    known: list[Header] = [(name.encode(), v) for name in compared.internal for v in values]
    known += [(headers.MODEL_SERVICE.encode(), value) for value in (b"m/v1", b"q/v2")]
    known += [(b"x-sluice-x", b"1"), (b"proxy-authorization", b"Basic YTpi")]
    for header in known:
        yield request.adding(header)
