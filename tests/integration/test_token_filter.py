"""The filter that verifies tokens, with a real Envoy: changes and expiry on an open connection."""

import time
from collections.abc import Iterator

import httpx
import pytest

from tests import plain_http
from tests.integration.gateway import AUDIENCE, ISSUER, eventually, jwks, token
from tests.integration.token_envoy import TokenEnvoy, token_envoy, tokens_config

KEYS = tokens_config({ISSUER: jwks()}, AUDIENCE)


@pytest.fixture(scope="module")
def envoy() -> Iterator[TokenEnvoy]:
    with token_envoy() as running:
        yield running


@pytest.fixture
def connection(envoy: TokenEnvoy) -> Iterator[httpx.Client]:
    """A client whose requests all use one connection."""
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    with plain_http.client(base_url=envoy.url, limits=limits) as client:
        before = connections(envoy)
        yield client
        assert connections(envoy) == before + 1


def connections(envoy: TokenEnvoy) -> int:
    """Number of client connections that Envoy has accepted."""
    found = plain_http.get(f"{envoy.admin}/stats?filter=^http.test.downstream_cx_total$").text
    return int(found.split(":")[1])


def test_without_a_config_no_token_is_verified_and_no_request_waits(
    envoy: TokenEnvoy, connection: httpx.Client
) -> None:
    envoy.publish(tokens_config({}, AUDIENCE))
    assert envoy.answer(token("alice"), connection) == "callout"


def test_a_revoked_key_is_refused_on_an_open_connection(
    envoy: TokenEnvoy, connection: httpx.Client
) -> None:
    credentials = token("alice")
    envoy.publish(KEYS)
    assert envoy.answer(credentials, connection) == "native alice"
    envoy.publish(tokens_config({ISSUER: jwks(key_id="another")}, AUDIENCE))
    assert envoy.answer(credentials, connection) == "callout"


def test_a_config_with_a_ttl_stays_while_the_control_plane_runs_and_ends_after_it(
    envoy: TokenEnvoy, connection: httpx.Client
) -> None:
    credentials, ttl = token("alice"), 3.0
    envoy.publish(KEYS, ttl)
    start = time.monotonic()
    while time.monotonic() - start < 2 * ttl:
        assert envoy.answer(credentials, connection) == "native alice"
    envoy.stop_control_plane()
    assert envoy.answer(credentials, connection) == "native alice"
    eventually(lambda: envoy.answer(credentials, connection) == "callout")
    envoy.start_control_plane()
    eventually(lambda: envoy.answer(credentials, connection) == "native alice")


def test_a_client_that_has_dropped_the_config_gets_it_again_on_the_same_stream(
    envoy: TokenEnvoy, connection: httpx.Client
) -> None:
    """The control plane was stopped for longer than the TTL, and its stream did not end."""
    credentials = token("alice")
    envoy.publish(KEYS, ttl=1.5)
    stream = next(iter(envoy.nodes)).stream
    with envoy.stopped_loop():
        eventually(lambda: envoy.answer(credentials, connection) == "callout")
    eventually(lambda: envoy.answer(credentials, connection) == "native alice")
    assert [node.stream for node in envoy.nodes] == [stream]
