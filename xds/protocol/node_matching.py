"""Which connected nodes a request of CSDS selects (envoy.type.matcher.v3.NodeMatcher)."""

from collections.abc import Iterable, Sequence

from protos.client_status_pb2 import NodeMatcher, StructMatcher
from protos.matcher_pb2 import StringMatcher, ValueMatcher
from xds.protocol.nodes import Node

MAX_MATCHERS = 100
"""Matchers in one request, so that a request takes little time."""


class UnsupportedMatcherError(Exception):
    """A matcher that the control plane does not evaluate. The text says which."""


def matching(nodes: Iterable[Node], matchers: Sequence[NodeMatcher]) -> list[Node]:
    """The nodes that one of the matchers selects; all without matchers.

    Raises UnsupportedMatcherError: a matcher that is ignored would select other nodes.
    """
    if not matchers:
        return list(nodes)
    if sum(1 + len(each.node_metadatas) for each in matchers) > MAX_MATCHERS:
        raise UnsupportedMatcherError(f"more than {MAX_MATCHERS} matchers")
    for each in matchers:
        _check(each)
    return [node for node in nodes if any(_matches(each, node) for each in matchers)]


def _check(matcher: NodeMatcher) -> None:
    """Raises UnsupportedMatcherError."""
    if matcher.HasField("node_id"):
        _check_text(matcher.node_id)
    for each in matcher.node_metadatas:
        kind = each.value.WhichOneof("match_pattern")
        if len(each.path) != 1 or kind not in {"string_match", "double_match", "present_match"}:
            raise UnsupportedMatcherError(
                "node_metadatas: only one key, with string_match, double_match or present_match"
            )
        if kind == "string_match":
            _check_text(each.value.string_match)


def _check_text(matcher: StringMatcher) -> None:
    # A regular expression can take any time.
    if matcher.WhichOneof("match_pattern") not in {"exact", "prefix", "suffix", "contains"}:
        raise UnsupportedMatcherError("only exact, prefix, suffix and contains match text")


def _matches(matcher: NodeMatcher, node: Node) -> bool:
    if matcher.HasField("node_id") and not _text_matches(matcher.node_id, node.id):
        return False
    return all(_metadata_matches(each, node) for each in matcher.node_metadatas)


def _metadata_matches(matcher: StructMatcher, node: Node) -> bool:
    return _value_matches(matcher.value, node.metadata.get(matcher.path[0].key))


def _value_matches(matcher: ValueMatcher, value: str | float | None) -> bool:
    kind = matcher.WhichOneof("match_pattern")
    if kind == "present_match":
        return (value is not None) == matcher.present_match
    if kind == "string_match":
        return isinstance(value, str) and _text_matches(matcher.string_match, value)
    if value is None or isinstance(value, str):
        return False
    number = matcher.double_match
    if number.WhichOneof("match_pattern") == "exact":
        return value == number.exact
    return number.range.start <= value < number.range.end


def _text_matches(matcher: StringMatcher, text: str) -> bool:
    kind = matcher.WhichOneof("match_pattern")
    pattern: str = getattr(matcher, kind or "exact")
    if matcher.ignore_case:
        pattern, text = pattern.lower(), text.lower()
    if kind == "prefix":
        return text.startswith(pattern)
    if kind == "suffix":
        return text.endswith(pattern)
    return pattern in text if kind == "contains" else pattern == text
