"""Comparisons of claims with many values."""

import json
from base64 import b64encode

import pytest

from sluice.config.placement import AnyOf, GroupTest
from tests.xds.resources.matching import meets
from xds.resources import token_headers
from xds.resources.native.comparisons import (
    MAX_LIST_VALUES,
    comparable_lists,
    predicate,
    undecidable,
)

GROUPS = ("groups",)


@pytest.mark.parametrize("more", [0, 1])
def test_a_list_is_left_to_the_callout_if_it_is_compared_with_many_values(more: int) -> None:
    """Every comparison reads the whole list, which may have the length of all headers."""
    count = MAX_LIST_VALUES + more
    access = AnyOf(tuple(GroupTest(f"group-{number}") for number in range(count)))
    lists = comparable_lists([access], GROUPS)
    header = token_headers.groups("groups")
    items = json.dumps(["a", f"group-{count - 1}"], separators=(",", ":")).encode()
    in_list = {header: b64encode(items).decode(), "authorization": "Bearer a.b.c"}
    left = any(meets(each, in_list) for each in undecidable([access], GROUPS))
    assert left == bool(more)
    assert meets(predicate(access, GROUPS, lists), in_list) != left
    text = {header: f"group-{count - 1}", "authorization": "Bearer a.b.c"}
    assert not any(meets(each, text) for each in undecidable([access], GROUPS))
    assert meets(predicate(access, GROUPS, lists), text)
