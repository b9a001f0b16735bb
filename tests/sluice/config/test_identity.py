"""A gateway that other machines can reach needs identity and access, or says that it has none."""

import json
from typing import Any

import pytest

from sluice.config import ConfigError, GatewayConfig
from sluice.config.load import loads

CERTIFICATES: dict[str, Any] = {
    "ca": "ca",
    **{
        each: {"certificate": each, "private_key": f"{each}.key"}
        for each in ("control_plane", "callout", "envoy")
    },
}
TOKENS: dict[str, Any] = {"callout": {"token_file": "a"}, "envoy": {"token_file": "b"}}
ENCRYPTED_TOKENS = {**TOKENS, "ca": "ca", "control_plane": CERTIFICATES["control_plane"]}
ACCESS = {"certificates": [{"name": "o", "role": "operator"}]}


def read(data: object) -> GatewayConfig:
    return loads(json.dumps(data), "gateway.yaml")


def error(data: object) -> str:
    with pytest.raises(ConfigError) as caught:
        read(data)
    return str(caught.value)


SERVERS = {
    "control_plane.http": ("control_plane", {"http": "0.0.0.0:1"}),
    "control_plane.xds": ("control_plane", {"xds": "[::]:1"}),
    "callout.address": ("callout", {"address": "callout.test:1"}),
    "telemetry.metrics.address": ("telemetry", {"metrics": {"address": "10.0.0.1:1"}}),
}


@pytest.mark.parametrize("key", SERVERS)
def test_a_server_without_credentials_needs_a_loopback_address(key: str) -> None:
    section, values = SERVERS[key]
    found = error({section: values})
    assert found.startswith(f"gateway.yaml:1: {key}: other machines can reach ")
    name = key.rpartition(".")[0]
    assert f"or set {name}.allow_insecure: true" in found
    allowed: Any = {"allow_insecure": True}
    if section == "telemetry":
        read({section: {"metrics": {**values["metrics"], **allowed}}})
    else:
        read({section: {**values, **allowed}})


def with_mcp(**mcp: object) -> dict[str, Any]:
    return {"istio": {"hosts": ["a.example"], "gateways": ["g"], "mcp": mcp}}


def test_the_config_source_of_istiod_has_no_credentials_so_it_needs_a_loopback_address() -> None:
    identified = {"identity": CERTIFICATES, "control_plane": {"access": ACCESS}}
    for others in ({}, identified):
        found = error({**others, **with_mcp(address="0.0.0.0:1")})
        assert found.startswith("gateway.yaml:1: istio.mcp.address: other machines can reach ")
        assert "set istio.mcp.allow_insecure: true" in found
    read(with_mcp(address="0.0.0.0:1", allow_insecure=True))
    read(with_mcp(address="127.0.0.1:1"))


def test_tls_of_the_config_source_of_istiod_needs_a_certificate() -> None:
    tls = with_mcp(address="127.0.0.1:1", tls=True)
    assert "istio.mcp.tls: TLS needs a certificate" in error(tls)
    read({"identity": CERTIFICATES, "control_plane": {"access": ACCESS}, **tls})


@pytest.mark.parametrize("key", SERVERS)
def test_a_server_with_certificates_and_access_may_have_any_address(key: str) -> None:
    section, values = SERVERS[key]
    config: dict[str, Any] = {"identity": CERTIFICATES, "control_plane": {"access": ACCESS}}
    config[section] = {**config.get(section, {}), **values}
    read(config)


@pytest.mark.parametrize(
    ("identity", "section", "values", "missing"),
    [
        (CERTIFICATES, "control_plane", {"http": "h:1"}, "set control_plane.access ("),
        (TOKENS, "control_plane", {"xds": "h:1"}, "set identity ("),
        (ENCRYPTED_TOKENS, "callout", {"address": "h:1"}, "set identity ("),
        (CERTIFICATES, "telemetry", {"metrics": {"address": "h:1"}}, "set control_plane.access ("),
    ],
)
def test_the_error_names_what_is_missing(
    identity: object, section: str, values: object, missing: str
) -> None:
    assert missing in error({"identity": identity, section: values})


def test_tokens_with_tls_are_enough_for_xds() -> None:
    read({"identity": ENCRYPTED_TOKENS, "control_plane": {"xds": "h:1"}})


def test_unix_sockets_and_loopback_addresses_need_nothing() -> None:
    read({"callout": {"address": "unix:/run/callout"}})
    read({"control_plane": {"http": "localhost:1", "xds": "[::1]:2"}})


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ({"callout": TOKENS["callout"]}, "identity.envoy: the key is required"),
        ({**TOKENS, "envoy": {}}, "set either certificate and private_key, or token_file"),
        ({**TOKENS, "envoy": {"certificate": "c"}}, "identity.envoy.private_key: a certificate ne"),
        ({**TOKENS, "envoy": {"token_file": "a"}}, "each part needs a token of its own"),
        ({**CERTIFICATES, "envoy": TOKENS["envoy"]}, "must have certificates, or all must have"),
        ({**CERTIFICATES, "ca": None}, "identity.ca: a certificate of control_plane needs a ca"),
        ({**CERTIFICATES, "control_plane": None}, "certificates of clients need one of the server"),
        (
            {**CERTIFICATES, "envoy": {**CERTIFICATES["envoy"], "name": "sluice-callout"}},
            "two parts have the same name",
        ),
    ],
)
def test_an_identity_that_is_not_complete_is_refused(identity: object, expected: str) -> None:
    assert expected in error({"identity": identity})
