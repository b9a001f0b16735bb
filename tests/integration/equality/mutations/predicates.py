"""Predicates that more or fewer requests meet, because one of their parts is left out."""

from collections.abc import Iterator
from typing import Final

from protos.matcher_pb2 import HttpRequestHeaderMatchInput, StringMatcher
from xds.resources.native.predicates import (
    Predicate,
    all_of,
    any_of,
    is_present,
    negated,
    never,
)

ALWAYS: Final = is_present(":path")
NEVER: Final = never(":path")

Part = tuple[str, frozenset[str], Predicate]
"""What is left out, the headers that it reads, and the predicate without it."""

MAX_SHOWN: Final = 60
"""Characters of a value, or parts of a list, in a name."""


def weaker(predicate: Predicate) -> Iterator[Part]:
    """Predicates that more requests meet: without the whole, and without each part."""
    if not predicate.HasField("and_matcher"):
        yield shown(predicate), inputs(predicate), ALWAYS
    yield from _parts(predicate, weaker=True)


def narrower(predicate: Predicate) -> Iterator[Part]:
    """Predicates that fewer requests meet: without each part. Not without the whole."""
    yield from _parts(predicate, weaker=False)


def _parts(predicate: Predicate, *, weaker: bool) -> Iterator[Part]:
    if predicate.HasField("not_matcher"):
        for what, read, part in _parts(predicate.not_matcher, weaker=not weaker):
            yield f"not: {what}", read, negated(part)
        return
    if predicate.HasField("single_predicate"):
        yield from () if weaker else _without_alternatives(predicate)
        return
    conjunction = predicate.HasField("and_matcher")
    kind, joined = ("all", all_of) if conjunction else ("any", any_of)
    parts = list((predicate.and_matcher if conjunction else predicate.or_matcher).predicate)
    for index, part in enumerate(parts):
        others = [*parts[:index], *parts[index + 1 :]]
        if conjunction == weaker and others:
            yield f"{kind} {index}: {shown(part)}", inputs(part), joined(others)
        for what, read, changed in _parts(part, weaker=weaker):
            mutant = joined([*parts[:index], changed, *parts[index + 1 :]])
            yield f"{kind} {index}: {what}", read, mutant


_SEARCH: Final = r"\C*(?:"
"""The beginning of a regular expression that searches for one of several texts."""


def _without_alternatives(predicate: Predicate) -> Iterator[Part]:
    """A search for several texts, without each of them."""
    regex = predicate.single_predicate.value_match.safe_regex.regex
    if not regex.startswith(_SEARCH):
        return
    texts, end = _alternatives(regex)
    for index, text in enumerate(texts):
        changed = Predicate()
        changed.CopyFrom(predicate)
        others = "|".join([*texts[:index], *texts[index + 1 :]])
        changed.single_predicate.value_match.safe_regex.regex = f"{_SEARCH}{others}{regex[end:]}"
        yield f"search for {text}", inputs(predicate), changed


def _alternatives(regex: str) -> tuple[list[str], int]:
    """The alternatives of the first group, and where the group ends."""
    depth, found = 1, [""]
    for at in range(len(_SEARCH), len(regex)):
        character = regex[at]
        depth += {"(": 1, ")": -1}.get(character, 0)
        if not depth:
            return found, at
        if depth == 1 and character == "|":
            found.append("")
        else:
            found[-1] += character
    raise ValueError(regex)


def inputs(predicate: Predicate) -> frozenset[str]:
    """The headers that a predicate reads."""
    if predicate.HasField("single_predicate"):
        return frozenset((input_header(predicate),))
    if predicate.HasField("not_matcher"):
        return inputs(predicate.not_matcher)
    listed = (*predicate.and_matcher.predicate, *predicate.or_matcher.predicate)
    return frozenset().union(*map(inputs, listed))


def values(predicate: Predicate) -> Iterator[tuple[str, StringMatcher]]:
    """The headers that a predicate reads, each with how its value is compared."""
    if predicate.HasField("single_predicate"):
        yield input_header(predicate), predicate.single_predicate.value_match
    elif predicate.HasField("not_matcher"):
        yield from values(predicate.not_matcher)
    else:
        for part in (*predicate.and_matcher.predicate, *predicate.or_matcher.predicate):
            yield from values(part)


def input_header(predicate: Predicate) -> str:
    """The header that a single predicate reads."""
    config = predicate.single_predicate.input.typed_config
    return HttpRequestHeaderMatchInput.FromString(config.value).header_name


def shown(predicate: Predicate) -> str:
    """A predicate in short."""
    if predicate.HasField("single_predicate"):
        value = predicate.single_predicate.value_match
        kind = str(value.WhichOneof("match_pattern"))
        text = value.safe_regex.regex if kind == "safe_regex" else getattr(value, kind)
        return f"{input_header(predicate)} {kind} {text[:MAX_SHOWN]!r}"
    if predicate.HasField("not_matcher"):
        return f"not ({shown(predicate.not_matcher)})"
    conjunction = predicate.HasField("and_matcher")
    parts = (predicate.and_matcher if conjunction else predicate.or_matcher).predicate
    return f"{'all' if conjunction else 'any'} of ({shown(parts[0])} and {len(parts) - 1} more)"
