"""Key sets of native routes in a whole gateway: rotation, revocation, and a control plane that is
gone.

Whether a request was decided natively is seen in the calls to the callout: the workers count them.
"""

from collections.abc import Iterator

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests import plain_http
from tests.extproc.auth.key_server import KeyServer, keys_served
from tests.integration.gateway import (
    Gateway,
    base_config,
    callout_calls,
    eventually,
    jwks,
    running,
    stopped,
    token,
)

PATH = "/v2/models/echo/infer"
NEW_KEY = rsa.generate_private_key(65537, 2048)


@pytest.fixture(scope="module")
def issuer() -> Iterator[KeyServer]:
    with keys_served(jwks()) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(issuer: KeyServer) -> Iterator[Gateway]:
    config = base_config()
    (settings,) = config["auth"]["issuers"]
    settings.pop("jwks_file")
    settings |= {"jwks_uri": issuer.uri, "jwks_refresh": "1s", "leeway": "30s"}
    echo = config["models"]["echo"]
    config["models"]["echo"] = {"stable": "v1", "versions": echo["versions"]}
    with running(config) as gateway:
        yield gateway


@pytest.fixture
def connection(gateway: Gateway, issuer: KeyServer) -> Iterator[httpx.Client]:
    """A client whose requests all use one connection."""
    issuer.document = jwks()
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    with plain_http.client(base_url=gateway.url, limits=limits, timeout=30) as client:
        eventually(lambda: is_native(gateway, client, token()))
        yield client


def post(client: httpx.Client, credentials: str) -> int:
    return client.post(
        PATH, json={}, headers={"authorization": f"Bearer {credentials}"}
    ).status_code


def is_native(gateway: Gateway, client: httpx.Client, credentials: str) -> bool:
    """Whether Envoy admits the request without the callout."""
    before = callout_calls(gateway)
    status = post(client, credentials)
    return status == 200 and callout_calls(gateway) == before


def is_refused(gateway: Gateway, client: httpx.Client, credentials: str) -> bool:
    """Whether the callout refuses the request."""
    before = callout_calls(gateway)
    return post(client, credentials) == 401 and callout_calls(gateway) > before


def test_a_key_that_the_issuer_revokes_is_refused_on_an_open_connection(
    gateway: Gateway, issuer: KeyServer, connection: httpx.Client
) -> None:
    old = token()
    issuer.document = jwks(NEW_KEY, "new")
    eventually(lambda: is_refused(gateway, connection, old))


def test_a_new_key_is_used_at_once_by_the_callout_and_soon_by_envoy(
    gateway: Gateway, issuer: KeyServer, connection: httpx.Client
) -> None:
    issuer.document = jwks(NEW_KEY, "new")
    new = token(key=NEW_KEY, key_id="new")
    eventually(lambda: is_native(gateway, connection, new))


def test_an_empty_key_set_revokes_all_keys(
    gateway: Gateway, issuer: KeyServer, connection: httpx.Client
) -> None:
    issuer.document = '{"keys": []}'
    eventually(lambda: is_refused(gateway, connection, token()))


def test_without_the_control_plane_the_callout_decides_after_the_ttl(
    gateway: Gateway, connection: httpx.Client
) -> None:
    (control_plane,) = gateway.processes("control-plane")
    with stopped(control_plane):
        assert is_native(gateway, connection, token())
        eventually(
            lambda: (
                post(connection, token()) == 200 and not is_native(gateway, connection, token())
            ),
            timeout=60,
        )
    eventually(lambda: is_native(gateway, connection, token()), timeout=30)
