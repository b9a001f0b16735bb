"""Leaves out each comparison of a matcher tree that a request passes on its way to native routes.

What is left out lets more requests reach a native route, or lets requests reach another native
route than the one that is theirs. To leave out a way to a native route that nothing follows makes
fewer requests native. That is safe, so it is no mutation.
"""

from collections.abc import Iterator
from typing import Final

from protos.matcher_pb2 import Matcher
from tests.integration.equality.mutations import predicates
from tests.integration.equality.mutations.omission import (
    Omission,
    Reachable,
    cases,
    copied,
    on_path,
    picks,
    reachable,
    routes_of,
)
from tests.integration.equality.mutations.routes import of_routes
from xds.resources.native.predicates import to_routes

_UNUSED: Final = "\x01"
"""The beginning of a key that no request has. Envoy refuses an empty map."""


def of_matcher(matcher: Matcher, following: Reachable = frozenset()) -> Iterator[Omission]:
    """Mutants of a matcher. `following`: what may take a request that finds nothing in it."""
    after = reachable(matcher.on_no_match)
    if not matcher.on_no_match.HasField("action"):
        after |= following
    if matcher.HasField("matcher_list"):
        yield from _of_list(matcher, after)
    else:
        yield from _of_tree(matcher, after)
    if picks(matcher.on_no_match):
        for each in _of_on_match(matcher.on_no_match, following):
            changed = copied(matcher)
            changed.on_no_match.CopyFrom(each.message)
            yield each.within("otherwise", changed)


def _of_list(matcher: Matcher, following: Reachable) -> Iterator[Omission]:
    found = matcher.matcher_list.matchers
    for index, case in enumerate(found):
        native = picks(case.on_match)
        later = following.union(*(reachable(each.on_match) for each in found[index + 1 :]))
        concerned = native | {pick for pick, _ in later}
        step = f"case {index}" if len(found) > 1 else ""
        if native and case.predicate != predicates.ALWAYS:
            for what, read, predicate in predicates.weaker(case.predicate):
                changed = _with_predicate(matcher, index, predicate)
                yield Omission(what, read, concerned, changed).within(step, changed)
        if later:
            for what, read, predicate in predicates.narrower(case.predicate):
                changed = _with_predicate(matcher, index, predicate)
                yield Omission(what, read, concerned, changed).within(step, changed)
            changed = _with_predicate(matcher, index, predicates.NEVER)
            what = f"case {index}: {predicates.shown(case.predicate)}"
            yield Omission(what, predicates.inputs(case.predicate), concerned, changed)
        if native:
            for each in _of_on_match(case.on_match, later):
                changed = copied(matcher)
                changed.matcher_list.matchers[index].on_match.CopyFrom(each.message)
                yield each.within(step, changed)


def _with_predicate(matcher: Matcher, index: int, predicate: predicates.Predicate) -> Matcher:
    changed = copied(matcher)
    changed.matcher_list.matchers[index].predicate.CopyFrom(predicate)
    return changed


def _of_tree(matcher: Matcher, following: Reachable) -> Iterator[Omission]:
    kind = str(matcher.matcher_tree.WhichOneof("tree_type"))
    found = list(cases(matcher.matcher_tree))
    for step, on_match in found:
        native, key, read = picks(on_match), step.key, frozenset((step.header,))
        shorter = (o for s, o in found if s.kind == "^" and s != step and key.startswith(s.key))
        after = on_path(following.union(*map(reachable, shorter)), step.path)
        if after:
            changed = copied(matcher)
            entries = getattr(changed.matcher_tree, kind).map
            entries[_UNUSED + key].CopyFrom(entries[key])
            del entries[key]
            # The callout names the model that it has chosen.
            own = {pick for pick, _ in after if pick[0].partition("/")[0] == key}
            concerned = native | (own or {pick for pick, _ in after})
            yield Omission(f"{step} left out", read, concerned, changed, path=step.path)
        if native:
            changed = copied(matcher)
            changed.on_no_match.CopyFrom(on_match)
            yield Omission(f"{step} not compared", read, picks(matcher), changed)
            for each in _of_on_match(on_match, after):
                changed = copied(matcher)
                getattr(changed.matcher_tree, kind).map[key].CopyFrom(each.message)
                yield each.within(str(step), changed, step.path)


def _of_on_match(on_match: Matcher.OnMatch, following: Reachable) -> Iterator[Omission]:
    if on_match.HasField("matcher"):
        for each in of_matcher(on_match.matcher, following):
            changed = copied(on_match)
            changed.matcher.CopyFrom(each.message)
            yield each.within("", changed)
        return
    routes = routes_of(on_match)
    assert routes is not None
    for each in of_routes(routes):
        yield each.within("", to_routes(each.message.routes))  # type: ignore[attr-defined]
