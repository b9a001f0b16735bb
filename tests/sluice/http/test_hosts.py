"""A server on loopback answers no page that has led its own name there (DNS rebinding)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.http.hosts import is_meant

NAMES = {"gateway.internal"}


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8081", "LocalHost.:8081", "a.localhost:1", "127.0.0.1", "10.0.0.7:80",
     "0.0.0.0:8081", "[::1]", "[::1]:8081", "[FD00::7]:8081", "gateway.internal",
     "Gateway.Internal:8081", "gateway.internal."],
)  # fmt: skip
def test_localhost_addresses_and_own_names_are_meant(host: str) -> None:
    assert is_meant(host, NAMES)


@pytest.mark.parametrize(
    "host",
    ["", ":8081", "rebound.example", "rebound.example:8081", "localhost.rebound.example",
     "127.0.0.1.rebound.example", "127.0.0.1@rebound.example", "rebound.example#127.0.0.1",
     "a.gateway.internal", "gateway.internal.rebound.example", "notlocalhost", "[localhost]",
     "[::1", "::1", "[::1]rebound.example", "127.0.0.1:8081:x", "127.0.0.1 rebound.example",
     "127.1", "2130706433", "0x7f.0.0.1", "localhost\n", "localhost..", "."],
)  # fmt: skip
def test_other_hosts_are_not(host: str) -> None:
    assert not is_meant(host, NAMES)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z][a-z0-9-]{0,20}){0,3}", fullmatch=True))
def test_no_name_is_meant_that_someone_else_may_hold(name: str) -> None:
    own = name == "localhost" or name.endswith(".localhost") or name in NAMES
    assert is_meant(name, NAMES) == is_meant(f"{name}:8081", NAMES) == own
