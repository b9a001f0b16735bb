"""Key sets that a gateway with a real Envoy fetches, and the claims of its issuer's tokens."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice.cli import main
from sluice.version import USER_AGENT
from tests.extproc.auth.key_server import KeyServer, keys_served
from tests.integration.gateway import Gateway, base_config, bearer, eventually, jwks, running
from tests.integration.test_telemetry import whole_lines

PATH = "/v2/models/echo/x"


@pytest.fixture(scope="module")
def issuer() -> Iterator[KeyServer]:
    """The key server of the issuer. At first, it refuses the gateway, as a firewall may."""
    with keys_served(jwks()) as server:
        server.status = 403
        yield server


@pytest.fixture(scope="module")
def gateway(issuer: KeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = base_config()
    (settings,) = config["auth"]["issuers"]
    settings.pop("jwks_file", None)
    settings.pop("jwks", None)
    settings["jwks_uri"] = issuer.uri
    rules = [{"claims": {"scope": "infer"}}, {"claims": {"realm_access.roles": "vip"}}]
    config["models"]["echo"]["access"] = {"allow": rules}
    log = tmp_path_factory.mktemp("log") / "access.log"
    config["telemetry"]["access_log"] = {"output": str(log)}
    with running(config) as gateway:
        yield gateway


def post(gateway: Gateway, **claims: object) -> httpx.Response:
    with gateway.client() as client:
        return client.post(PATH, json={}, headers=bearer(**claims))


def logged_causes(gateway: Gateway) -> list[str]:
    log = Path(gateway.config["telemetry"]["access_log"]["output"])
    lines = [line for file in log.parent.glob("*.log") for line in whole_lines(file)]
    return [json.loads(line)["cause"] for line in lines]


def status(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The state of the only key set."""
    url = f"http://{gateway.config['control_plane']['http']}"
    assert main(["status", "--control-plane", url, "--json"]) == 0
    (key_set,) = json.loads(capsys.readouterr().out)["callout"]["key_sets"]
    assert isinstance(key_set, dict)
    return key_set


def test_a_blocked_fetch_is_not_blamed_on_the_client_and_is_told(
    gateway: Gateway, issuer: KeyServer, capsys: pytest.CaptureFixture[str]
) -> None:
    issuer.status = 403
    response = post(gateway, scope="infer")
    assert (response.status_code, response.json()["reason"]) == (503, "key_set_unavailable")
    assert response.headers["retry-after"] == "5"
    assert "www-authenticate" not in response.headers
    eventually(lambda: status(gateway, capsys)["failures"] == ["status_403"])
    assert not status(gateway, capsys)["usable"]
    eventually(lambda: "key_set_unavailable" in logged_causes(gateway))
    issuer.status = 200
    assert issuer.headers["user-agent"] == USER_AGENT
    eventually(lambda: status(gateway, capsys)["usable"], timeout=30)
    assert status(gateway, capsys)["failures"] == []


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"scope": "read infer"}, 200),
        ({"scope": "read"}, 403),
        ({"realm_access": {"roles": ["vip"]}}, 200),
        ({"realm_access": {"roles": ["vip infer"]}}, 403),
    ],
    ids=str,
)
def test_scopes_and_nested_claims_admit_a_caller(
    gateway: Gateway, issuer: KeyServer, claims: dict[str, object], code: int
) -> None:
    issuer.status = 200
    eventually(lambda: post(gateway, **claims).status_code == code, timeout=30)
