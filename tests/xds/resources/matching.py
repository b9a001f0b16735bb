"""Evaluates a route table as Envoy does, for requests that are given by their headers.

tests/integration/test_native.py tests that Envoy agrees.
"""

import re
from collections.abc import Iterator, Mapping

from protos.matcher_pb2 import HttpRequestHeaderMatchInput, Matcher, StringMatcher
from protos.route_pb2 import HeaderMatcher, Route, RouteConfiguration, RouteList
from xds.protocol import resource_types
from xds.protocol.snapshot import Snapshot

Headers = Mapping[str, str]


def route_table(snapshot: Snapshot) -> RouteConfiguration:
    """The route table of a snapshot."""
    body = snapshot.types[resource_types.ROUTE].resources["gateway"].body
    return RouteConfiguration.FromString(body)


def routes(snapshot: Snapshot, headers: Headers) -> list[Route]:
    """The list of routes that the matcher tree finds for a request."""
    (host,) = route_table(snapshot).virtual_hosts
    found = evaluate(host.matcher, headers)
    assert found is not None
    return found


def route(snapshot: Snapshot, headers: Headers) -> Route:
    """The route of a request whose runtime keys have their default."""
    return next(each for each in routes(snapshot, headers) if admits(each, headers))


def all_routes(message: Matcher | Matcher.OnMatch) -> Iterator[Route]:
    """Every route in a matcher."""
    if isinstance(message, Matcher.OnMatch):
        if message.HasField("action"):
            yield from RouteList.FromString(message.action.typed_config.value).routes
        else:
            yield from all_routes(message.matcher)
        return
    tree = message.matcher_tree
    nested = [*tree.exact_match_map.map.values(), *tree.prefix_match_map.map.values()]
    nested += [each.on_match for each in message.matcher_list.matchers]
    for on_match in (*nested, *([message.on_no_match] if message.HasField("on_no_match") else [])):
        yield from all_routes(on_match)


def evaluate(matcher: Matcher, headers: Headers) -> list[Route] | None:
    """The routes that a matcher finds; None if it finds none."""
    if matcher.HasField("matcher_tree"):
        found = _in_tree(matcher.matcher_tree, headers)
    else:
        cases = matcher.matcher_list.matchers
        found = (each.on_match for each in cases if meets(each.predicate, headers))
    results = (_follow(each, headers) for each in found)
    result = next((each for each in results if each is not None), None)
    if result is None and matcher.HasField("on_no_match"):
        return _follow(matcher.on_no_match, headers)
    return result


def meets(predicate: Matcher.MatcherList.Predicate, headers: Headers) -> bool:
    """Whether a request meets the predicate."""
    match predicate.WhichOneof("match_type"):
        case "and_matcher":
            return all(meets(each, headers) for each in predicate.and_matcher.predicate)
        case "or_matcher":
            return any(meets(each, headers) for each in predicate.or_matcher.predicate)
        case "not_matcher":
            return not meets(predicate.not_matcher, headers)
    single = predicate.single_predicate
    value = headers.get(_header(single.input.typed_config.value))
    return value is not None and _matches(single.value_match, value)


def admits(route: Route, headers: Headers) -> bool:
    """Whether the route's own match admits a request."""
    match, path = route.match, headers[":path"].partition("?")[0]
    match match.WhichOneof("path_specifier"):
        case "path":
            fits = path == match.path
        case "safe_regex":
            fits = re.fullmatch(match.safe_regex.regex, path) is not None
        case _:
            fits = path.startswith(match.prefix)
    return fits and all(_meets(each, headers) for each in match.headers)


def _meets(matcher: HeaderMatcher, headers: Headers) -> bool:
    value = headers.get(matcher.name)
    if matcher.HasField("present_match"):
        return (value is not None) != matcher.invert_match
    if matcher.HasField("range_match"):
        bounds = matcher.range_match
        return value is not None and value.isdigit() and bounds.start <= int(value) < bounds.end
    return value is not None and _matches(matcher.string_match, value)


def _in_tree(tree: Matcher.MatcherTree, headers: Headers) -> Iterator[Matcher.OnMatch]:
    """The longest prefix first: Envoy goes on with shorter ones if it finds no route there."""
    value = headers.get(_header(tree.input.typed_config.value))
    if value is None:
        return
    exact, prefixes = tree.exact_match_map.map, tree.prefix_match_map.map
    if value in exact:
        yield exact[value]
    for prefix in sorted(filter(value.startswith, prefixes), key=len, reverse=True):
        yield prefixes[prefix]


def _follow(found: Matcher.OnMatch, headers: Headers) -> list[Route] | None:
    if found.HasField("action"):
        return list(RouteList.FromString(found.action.typed_config.value).routes)
    return evaluate(found.matcher, headers)


def _header(packed: bytes) -> str:
    return HttpRequestHeaderMatchInput.FromString(packed).header_name


def _matches(matcher: StringMatcher, value: str) -> bool:
    match matcher.WhichOneof("match_pattern"):
        case "exact":
            return value == matcher.exact
        case "prefix":
            return value.startswith(matcher.prefix)
        case "suffix":
            return value.endswith(matcher.suffix)
        case "contains":
            return matcher.contains in value
    # RE2's \C is any byte.
    regex = matcher.safe_regex.regex.replace(r"\C", "(?s:.)")
    return re.fullmatch(regex, value) is not None
