"""Tests of the names and values of claims."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.auth import Identity
from sluice.config.claim_values import claim_values, find_claim
from sluice.config.claims import claim_paths


@pytest.mark.parametrize(
    ("value", "values"),
    [
        ("gold", {"gold"}),
        ("", {""}),
        ("vip admin", {"vip admin"}),
        (42, {"42"}),
        (42.0, {"42"}),
        (-0.0, {"0"}),
        (0.5, {"0.5"}),
        (1e300, {"1e+300"}),
        (2**64, {str(2**64)}),
        (True, {"true"}),
        (False, {"false"}),
        (None, set()),
        (math.nan, set()),
        (math.inf, set()),
        ({"a": "b"}, set()),
        ([], set()),
        (["a", 42, 42.0, True, None], {"a", "42", "true"}),
        ([["a"], {"b": "c"}, "d"], {"d"}),
        ("\ud800", set()),
        (["a", "\ud800"], {"a"}),
    ],
    ids=str,
)
def test_a_value_is_text_in_one_way(value: object, values: set[str]) -> None:
    """A value in a list has the same text as the value alone."""
    assert claim_values({"c": value}, "c") == values
    assert claim_values({"c": {"d": value}}, "c.d") == values
    if not isinstance(value, list):
        assert claim_values({"c": [value, "z"]}, "c") == {*values, "z"}


@pytest.mark.parametrize(
    ("name", "claims", "values"),
    [
        ("scope", {"scope": "read infer"}, {"read", "infer"}),
        ("scope", {"scope": " read  infer "}, {"read", "infer"}),
        ("scope", {"scope": "read\u00a0infer\tadmin"}, {"read\u00a0infer\tadmin"}),
        ("scope", {"scope": ""}, set()),
        ("scope", {"scope": ["read infer", "x"]}, {"read infer", "x"}),
        ("scp", {"scp": "read infer"}, {"read", "infer"}),
        ("scp", {"scp": ["read", "infer"]}, {"read", "infer"}),
        ("a.scope", {"a": {"scope": "read infer"}}, {"read infer"}),
        ("a.scope", {"a.scope": "read infer"}, {"read infer"}),
        ("scopes", {"scopes": "read infer"}, {"read infer"}),
        ("Scope", {"Scope": "read infer"}, {"read infer"}),
    ],
)
def test_only_scopes_are_separated_by_spaces(
    name: str, claims: dict[str, Any], values: set[str]
) -> None:
    assert claim_values(claims, name) == values


@pytest.mark.parametrize(
    ("name", "claims", "value"),
    [
        ("realm_access.roles", {"realm_access": {"roles": 1}}, 1),
        ("realm_access.roles", {"realm_access.roles": 2, "realm_access": {"roles": 1}}, 2),
        ("realm_access.roles", {"realm_access.roles": None, "realm_access": {"roles": 1}}, None),
        ("realm_access.roles", {"realm_access": "roles"}, None),
        ("realm_access.roles", {"realm_access": [{"roles": 1}]}, None),
        ("realm_access.roles", {}, None),
        ("https://a.b/roles", {"https://a.b/roles": 1}, 1),
        ("/resource_access/my.app/roles", {"resource_access": {"my.app": {"roles": 1}}}, 1),
        ("/https:~1~1a.b/roles", {"https://a.b": {"roles": 1}}, 1),
        ("/a~0b", {"a~b": 1}, 1),
        ("/a", {"/a": 2, "a": 1}, 2),
        ("a..b", {"a": {"": {"b": 1}}}, None),
        ("a..b", {"a..b": 1}, 1),
        (".a", {"": {"a": 1}}, None),
        ("/", {"": 1}, None),
    ],
)
def test_a_name_stands_for_the_claim_of_this_name_and_else_for_a_nested_one(
    name: str, claims: dict[str, Any], value: object
) -> None:
    assert find_claim(claims, name) == value


def test_a_name_has_at_most_two_places_that_do_not_depend_on_the_token() -> None:
    assert claim_paths("group") == (("group",),)
    assert claim_paths("a.b.c") == (("a.b.c",), ("a", "b", "c"))
    assert claim_paths("/a/b.c") == (("/a/b.c",), ("a", "b.c"))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.text(), _JSON), st.text(min_size=1, max_size=256))
def test_every_claim_of_json_has_values_that_can_be_encoded(
    claims: dict[str, Any], name: str
) -> None:
    for each in (name, *claims):
        for value in claim_values(claims, each):
            value.encode()


class Counted(dict[str, object]):
    """Claims that count how often they are read."""

    reads = 0

    def __contains__(self, key: object) -> bool:
        self.reads += 1
        return super().__contains__(key)


def test_a_long_claim_is_read_once_for_all_requests_of_a_token() -> None:
    claims = Counted(group=[str(number) for number in range(3000)])
    identity = Identity("alice", "issuer", claims=claims)
    for _ in range(10):
        assert len(identity.claim_values("group")) == 3000
    assert claims.reads == 1
