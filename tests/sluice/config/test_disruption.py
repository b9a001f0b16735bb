"""A change that would cut off the clients of a running gateway needs `allow_disruption`."""

import pytest
import yaml

from sluice.config import ConfigError, GatewayConfig
from sluice.config.disruption import MIN_MOST_MODELS, check_change, disruptions
from sluice.config.load import ConfigText, loads

VERSION = {"endpoints": [{"address": "127.0.0.1:9"}]}
MODEL = {"versions": {"v1": VERSION}}
PUBLIC = {**MODEL, "access": {"public": True}}
TLS = {"certificate": "c.pem", "private_key": "k.pem"}
ISSUER = {"issuer": "i", "audiences": ["a"], "algorithms": ["RS256"], "jwks": '{"keys": []}'}
EXPORTED = {"hosts": ["a.example"], "gateways": ["g"]}
MESH = {**EXPORTED, "mcp": {"address": "127.0.0.1:1"}}
KEY = {"name": "n", "sha256": "0" * 64}


def config(**sections: object) -> GatewayConfig:
    return loads(yaml.safe_dump({"models": {"a": MODEL, "b": MODEL}, **sections}))


def models(count: int, first: int = 0) -> dict[str, object]:
    return {f"m{number}": MODEL for number in range(first, first + count)}


def effects(running: GatewayConfig, changed: GatewayConfig) -> list[tuple[str, str]]:
    return [(".".join(map(str, d.path)), d.effect) for d in disruptions(running, changed)]


DISRUPTIVE = {
    "no models": ({}, {"models": {}}, "models", "remove every model (a and b)"),
    "other models": ({}, {"models": {"c": MODEL}}, "models", "remove every model (a and b)"),
    "half a file": (
        {"models": models(21)},
        {"models": models(10)},
        "models",
        "remove 11 of 21 models (m10, m11, m12 and 8 more)",
    ),
    "port": (
        {},
        {"listener": {"address": "127.0.0.1:8443"}},
        "listener.address",
        "move the listener from 127.0.0.1:8080 to 127.0.0.1:8443",
    ),
    "host": (
        {"listener": {"address": "0.0.0.0:8080"}},
        {},
        "listener.address",
        "move the listener from 0.0.0.0:8080 to 127.0.0.1:8080",
    ),
    "TLS on": ({}, {"listener": {"tls": TLS}}, "listener.tls", "switch TLS on"),
    "TLS off": ({"listener": {"tls": TLS}}, {}, "listener.tls", "switch TLS off"),
    "certificates required": (
        {"listener": {"tls": TLS}},
        {"listener": {"tls": {**TLS, "client_ca": "ca.pem"}}},
        "listener.tls.client_ca",
        "refuse clients without a certificate",
    ),
    "certificates optional": (
        {"listener": {"tls": {**TLS, "client_ca": "ca.pem"}}},
        {"listener": {"tls": TLS}},
        "listener.tls.client_ca",
        "admit clients without a certificate",
    ),
    "no issuers": (
        {"auth": {"issuers": [ISSUER], "api_keys": [KEY]}},
        {"auth": {"api_keys": [KEY]}},
        "auth.issuers",
        "remove every issuer",
    ),
    "no API keys": (
        {"auth": {"issuers": [ISSUER], "api_keys": [KEY]}},
        {"auth": {"issuers": [ISSUER]}},
        "auth.api_keys",
        "remove every API key",
    ),
    "other header": (
        {"auth": {"api_keys": [KEY], "api_key_header": "x-token"}},
        {"auth": {"api_keys": [KEY]}},
        "auth.api_key_header",
        "move API keys from the header x-token to x-api-key",
    ),
    "no mesh": ({"istio": MESH}, {}, "istio", "remove all routes from the mesh"),
    "other hosts of the mesh": (
        {"istio": MESH},
        {"istio": {**MESH, "hosts": ["b.example"]}},
        "istio.hosts",
        "remove every host from the mesh (a.example)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("running", "changed", "key", "effect"), DISRUPTIVE.values(), ids=DISRUPTIVE
)
def test_a_change_that_cuts_off_clients_is_a_disruption(
    running: dict[str, object], changed: dict[str, object], key: str, effect: str
) -> None:
    (found,) = effects(config(**running), config(**changed))
    assert found[0] == key
    assert effect in found[1]


HARMLESS = {
    "same": ({}, {}),
    "one model of two": ({}, {"models": {"a": MODEL}}),
    "a model is renamed and keeps its path": (
        {"models": {"a": {**MODEL, "paths": ["/predict"]}}},
        {"models": {"b": {**MODEL, "paths": ["/predict"]}}},
    ),
    "half of the models": ({"models": models(20)}, {"models": models(10)}),
    "most of a few models": (
        {"models": models(MIN_MOST_MODELS)},
        {"models": models(1)},
    ),
    "the first model": ({"models": {}}, {"models": {"a": MODEL}}),
    "another certificate": (
        {"listener": {"tls": TLS}},
        {"listener": {"tls": {**TLS, "certificate": "new.pem"}}},
    ),
    "another issuer": (
        {"auth": {"issuers": [ISSUER]}},
        {"auth": {"issuers": [{**ISSUER, "issuer": "j"}]}},
    ),
    "credentials that no model needs": (
        {"auth": {"issuers": [ISSUER], "api_keys": [KEY]}, "models": {"a": PUBLIC}},
        {"models": {"a": PUBLIC}},
    ),
    "a mesh that kubectl serves": ({"istio": EXPORTED}, {}),
    "one more host of the mesh": (
        {"istio": MESH},
        {"istio": {**MESH, "hosts": ["b.example", "a.example"]}},
    ),
    "keys that need a restart": ({}, {"envoy": {"admin": "127.0.0.1:1"}}),
}  # fmt: skip


@pytest.mark.parametrize(("running", "changed"), HARMLESS.values(), ids=HARMLESS)
def test_other_changes_are_no_disruption(
    running: dict[str, object], changed: dict[str, object]
) -> None:
    assert effects(config(**running), config(**changed)) == []


def test_an_empty_config_disrupts_everything_that_it_removes() -> None:
    running = config(listener={"address": "0.0.0.0:8443", "tls": TLS}, auth={"issuers": [ISSUER]})
    keys = [key for key, _ in effects(running, loads("{}"))]
    assert keys == ["models", "listener.address", "listener.tls"]


def test_a_refused_change_names_line_key_effect_and_the_key_that_permits_it() -> None:
    text = ConfigText("models: {}\nlistener:\n  address: 127.0.0.1:1\n", "gateway.yaml")
    changed = loads(text.text)
    with pytest.raises(ConfigError) as caught:
        check_change(config(), changed, text.problem)
    models_line, listener_line = str(caught.value).splitlines()
    assert models_line.startswith("gateway.yaml:1: models: this change would remove every model")
    assert listener_line.startswith("gateway.yaml:3: listener.address: this change would move")
    assert listener_line.endswith("if this is intended, set allow_disruption: true")


def test_a_change_with_allow_disruption_is_permitted() -> None:
    check_change(config(), config(models={}, allow_disruption=True))


def test_the_permission_of_the_running_config_does_not_count() -> None:
    with pytest.raises(ConfigError):
        check_change(config(allow_disruption=True), config(models={}))
