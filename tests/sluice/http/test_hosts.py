"""HostGuard allows only host names that no attacker can point at the server (DNS rebinding)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.http.hosts import HostGuard

GUARD = HostGuard("Control.internal:8081", ["gateway.internal"], "control_plane.allowed_hosts")


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8081", "LocalHost.:8081", "a.localhost:1", "127.0.0.1", "10.0.0.7:80",
     "0.0.0.0:8081", "[::1]", "[::1]:8081", "[FD00::7]:8081", "gateway.internal",
     "Gateway.Internal:8081", "gateway.internal.", "control.internal:8081"],
)  # fmt: skip
def test_localhost_ip_addresses_and_configured_names_are_allowed(host: str) -> None:
    assert GUARD.allows(host)


@pytest.mark.parametrize(
    "host",
    ["", ":8081", "rebound.example", "rebound.example:8081", "localhost.rebound.example",
     "127.0.0.1.rebound.example", "127.0.0.1@rebound.example", "rebound.example#127.0.0.1",
     "a.gateway.internal", "gateway.internal.rebound.example", "notlocalhost", "[localhost]",
     "[::1", "::1", "[::1]rebound.example", "127.0.0.1:8081:x", "127.0.0.1 rebound.example",
     "127.1", "2130706433", "0x7f.0.0.1", "localhost\n", "localhost..", "."],
)  # fmt: skip
def test_other_hosts_are_refused(host: str) -> None:
    assert not GUARD.allows(host)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z][a-z0-9-]{0,20}){0,3}", fullmatch=True))
def test_no_other_host_name_is_allowed(name: str) -> None:
    own = name in {"localhost", "gateway.internal", "control.internal"}
    expected = own or name.endswith(".localhost")
    assert GUARD.allows(name) == GUARD.allows(f"{name}:8081") == expected
