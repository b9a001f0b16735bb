"""Items of a list claim in its header: the base64 of its JSON, as the token filter writes it."""

import json
import re
from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.xds.resources.matching import meets
from xds.resources.native.lists import (
    TEXT_LIKE_A_LIST,
    contains_prefix,
    contains_text,
    is_list,
    is_unreadable,
)

HEADER = "x-list"
TEXT = st.text(st.sampled_from('abvip ,:[]{}"\\'), max_size=6)
ITEM = st.recursive(
    TEXT | st.integers(0, 9), lambda inner: st.lists(inner, max_size=2), max_leaves=3
)


def headers(claim: object) -> dict[str, str]:
    """What a matcher sees of a claim."""
    text = json.dumps(claim, separators=(",", ":"), ensure_ascii=False)
    value = claim if isinstance(claim, str) else b64encode(text.encode()).decode()
    return {HEADER: value}


def readable(claim: object) -> bool:
    return not meets(is_unreadable([HEADER]), headers(claim))


def has_text_like_a_list(payload: str) -> bool:
    """Whether a token with this payload may have text like a list."""
    return re.search(TEXT_LIKE_A_LIST, urlsafe_b64encode(payload.encode()).decode()) is not None


@given(st.lists(ITEM, max_size=4))
def test_an_item_is_found_if_and_only_if_the_list_has_it(claim: list[object]) -> None:
    for value in ("vip", "a", "v", "p i"):
        if readable(claim):
            assert meets(contains_text(HEADER, value), headers(claim)) == (value in claim)
            starts = any(isinstance(each, str) and each.startswith(value) for each in claim)
            assert meets(contains_prefix(HEADER, value), headers(claim)) == starts


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], min_codepoint=32), max_size=5), max_size=4
    )
)
def test_any_list_looks_like_one(claim: list[str]) -> None:
    assert meets(is_list(HEADER), headers(claim))


@pytest.mark.parametrize(
    "claim",
    [[["vip"]], ["a", ["vip"]], [{"a": "vip"}], ["a", {"vip": 1}], ['a"vip'], ["a", '"', "vip"]],
    ids=str,
)
def test_a_list_whose_items_cannot_be_told_apart_is_unreadable(claim: list[object]) -> None:
    assert not readable(claim)


@pytest.mark.parametrize("first", [*'"[]{-0179tfn'])
@pytest.mark.parametrize("place", range(3))
def test_text_that_is_the_base64_of_a_list_is_found_in_the_token(place: int, first: str) -> None:
    text = b64encode(f"[{first}vip".encode()).decode()
    payload = json.dumps({"x" * (place + 1): 1, "group": text}, separators=(",", ":"))
    assert has_text_like_a_list(payload)


@pytest.mark.parametrize("content", [b'[\xf0"vip"]', b'[\xff,"vip"]', b'["vip"]'])
@pytest.mark.parametrize("place", range(3))
def test_text_with_an_escaped_slash_is_no_list(place: int, content: bytes) -> None:
    """Some issuers write a slash as `\\/`, so text in a token differs from its header."""
    text = b64encode(content).decode()
    payload = json.dumps({"x" * (place + 1): 1, "group": text}, separators=(",", ":"))
    found = has_text_like_a_list(payload.replace("/", "\\/"))
    assert found or not meets(is_list(HEADER), headers(text))


@pytest.mark.parametrize("value", ["vip", "West", "", "e", "W", "eyJ", "vipers"])
def test_other_text_is_no_list(value: str) -> None:
    assert not meets(is_list(HEADER), headers(value))
