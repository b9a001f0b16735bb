"""Builders of the predicates and trees of Envoy's matchers (xds.type.matcher.v3)."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from protos.core_pb2 import TypedExtensionConfig
from protos.matcher_pb2 import HttpRequestHeaderMatchInput, Matcher, RegexMatcher, StringMatcher
from protos.route_pb2 import Route, RouteList
from xds.resources.proto_messages import extension

Predicate = Matcher.MatcherList.Predicate
"""A condition for a request."""


def is_exactly(name: str, value: str) -> Predicate:
    """The header has this value. Envoy joins the values of a repeated header with a comma."""
    return _header(name, StringMatcher(exact=value))


def begins_with(name: str, prefix: str) -> Predicate:
    """The value of the header begins with the prefix, which is not empty."""
    return _header(name, StringMatcher(prefix=prefix))


def ends_with(name: str, suffix: str) -> Predicate:
    """The value of the header ends with the suffix, which is not empty."""
    return _header(name, StringMatcher(suffix=suffix))


def contains(name: str, text: str) -> Predicate:
    """The value of the header contains the text, which is not empty."""
    return _header(name, StringMatcher(contains=text))


def matches(name: str, regex: str) -> Predicate:
    """The whole value of the header matches the regular expression (RE2)."""
    return _header(
        name,
        StringMatcher(safe_regex=RegexMatcher(google_re2=RegexMatcher.GoogleRE2(), regex=regex)),
    )


def is_present(name: str) -> Predicate:
    """The request has the header, with any bytes as its value."""
    return matches(name, r"\C*")


def never(name: str) -> Predicate:
    """No request meets this, whatever the value of the header."""
    return negated(any_of((is_present(name), negated(is_present(name)))))


def negated(predicate: Predicate) -> Predicate:
    """The request does not meet the predicate. That is true of a request without its header."""
    return Predicate(not_matcher=predicate)


def all_of(predicates: Iterable[Predicate]) -> Predicate:
    """The request meets all predicates. Envoy compares them in order, up to the first failure."""
    listed = list(predicates)
    if len(listed) == 1:
        return listed[0]
    return Predicate(and_matcher=Predicate.PredicateList(predicate=listed))


def any_of(predicates: Iterable[Predicate]) -> Predicate:
    """The request meets one of the predicates."""
    listed = list(predicates)
    if len(listed) == 1:
        return listed[0]
    return Predicate(or_matcher=Predicate.PredicateList(predicate=listed))


@lru_cache(1024)  # every matcher has an input, and few headers are compared
def header_input(name: str) -> TypedExtensionConfig:
    """The input of a matcher: the value of a request header."""
    return extension("request_header", HttpRequestHeaderMatchInput(header_name=name))


def to_routes(routes: Iterable[Route]) -> Matcher.OnMatch:
    """The first of these routes that matches the request, or none."""
    return Matcher.OnMatch(action=extension("routes", RouteList(routes=routes)))


def to_matcher(matcher: Matcher) -> Matcher.OnMatch:
    """What the other matcher finds."""
    return Matcher.OnMatch(matcher=matcher)


def first_of(
    cases: Iterable[tuple[Predicate, Matcher.OnMatch]], otherwise: Matcher.OnMatch | None = None
) -> Matcher:
    """The first case whose predicate the request meets and which finds a route."""
    fields = [
        Matcher.MatcherList.FieldMatcher(predicate=predicate, on_match=on_match)
        for predicate, on_match in cases
    ]
    return Matcher(matcher_list=Matcher.MatcherList(matchers=fields), on_no_match=otherwise)


def by_prefix(
    name: str, cases: Mapping[str, Matcher.OnMatch], otherwise: Matcher.OnMatch
) -> Matcher:
    """The case of the longest prefix of the header's value that finds a route."""
    tree = Matcher.MatcherTree(
        input=header_input(name), prefix_match_map=Matcher.MatcherTree.MatchMap(map=cases)
    )
    return Matcher(matcher_tree=tree, on_no_match=otherwise)


def by_value(
    name: str, cases: Mapping[str, Matcher.OnMatch], otherwise: Matcher.OnMatch | None = None
) -> Matcher:
    """The case of the header's exact value, in constant time."""
    tree = Matcher.MatcherTree(
        input=header_input(name), exact_match_map=Matcher.MatcherTree.MatchMap(map=cases)
    )
    return Matcher(matcher_tree=tree, on_no_match=otherwise)


def _header(name: str, value: StringMatcher) -> Predicate:
    single = Predicate.SinglePredicate(input=header_input(name), value_match=value)
    return Predicate(single_predicate=single)
