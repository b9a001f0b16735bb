"""The digest of a model's native routes changes with everything that these were compiled from."""

import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from protos.policy_pb2 import Policy
from sluice.config import GatewayConfig, policy_document
from sluice.contract.names import native_model_key, native_version_key
from tests.extproc.auth.tokens import key_set, rsa_jwk
from xds.protocol import resource_types
from xds.protocol.snapshot import Snapshot
from xds.resources import build

OTHER_KEY = rsa.generate_private_key(65537, 2048)
HERE = Path()


def base() -> dict[str, Any]:
    versions = {
        version: {"endpoints": [{"address": "127.0.0.1:9"}]} for version in ("v1", "v2", "v3")
    }
    issuer = {"issuer": "i", "audiences": ["a"], "algorithms": ["RS256"]}
    return {
        "auth": {"issuers": [{**issuer, "jwks": key_set(rsa_jwk())}]},
        "callout": {"copies": "unix:/run/copies"},
        "requests": {},
        "limits": {},
        "telemetry": {"access_log": {}},
        "models": {
            "m": {
                "type": "text",
                "versions": versions,
                "stable": "v1",
                "paths": ["/m"],
                "access": {},
                "canaries": [{"version": "v2", "percent": 10}],
            },
            "n": {"versions": versions, "stable": "v1"},
            "callout": {"versions": versions, "stable": "v1", "placement": "callout"},
        },
    }


def compiled(config: dict[str, Any]) -> Snapshot:
    validated = GatewayConfig.model_validate(config)
    return build(validated, policy_document(validated, HERE), HERE)


def digests(snapshot: Snapshot) -> dict[str, str]:
    """The digests in the policy, by model."""
    resources = snapshot.types[resource_types.POLICY].resources.values()
    whole = Policy.FromString(b"".join(each.body for each in resources))
    return {model.name: model.native for model in whole.models}


def changed(path: str, value: object) -> set[str]:
    """The models with another digest after a change of one key of the config."""
    config = base()
    *parents, key = path.split(".")
    section: Any = config
    for each in parents:
        section = section[int(each)] if isinstance(section, list) else section.setdefault(each, {})
    section[key] = value
    old, new = digests(compiled(base())), digests(compiled(config))
    return {name for name in old if old[name] != new[name]}


def runtime_keys(snapshot: Snapshot) -> set[str]:
    """The runtime keys in the route table."""
    body = snapshot.types[resource_types.ROUTE].resources["gateway"].body
    return {each.decode() for each in re.findall(rb"sluice\.native\.[\w./-]+", body)}


def test_the_keys_of_native_routes_have_the_digest() -> None:
    snapshot = compiled(base())
    found = digests(snapshot)
    assert found["callout"] == ""
    assert len({found["m"], found["n"]}) == 2
    expected = {native_model_key(found["m"], "m")} | {
        native_version_key(found[model], f"{model}/{version}")
        for model in ("m", "n")
        for version in ("v1", "v2", "v3")
    }
    assert runtime_keys(snapshot) == expected


ALL = {"m", "n"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("auth.api_key_header", "x-key"),
        ("auth.forward_credentials", True),
        ("auth.issuers.0.issuer", "other"),
        ("auth.issuers.0.audiences", ["b"]),
        ("auth.issuers.0.algorithms", ["RS256", "RS384"]),
        ("auth.issuers.0.group_claim", "groups"),
        ("auth.issuers.0.leeway", 5),
        ("requests.max_body", 5),
        ("requests.expose_reason", True),
        ("requests.cors", {"origins": ["https://a.test"]}),
    ],
)
def test_shared_settings_change_the_digests_of_all_models(path: str, value: object) -> None:
    assert changed(path, value) == ALL


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stable", "v3"),
        ("access", {"public": True}),
        ("access", {"allow": [{"groups": ["g"]}]}),
        ("canaries", [{"version": "v2", "percent": 11}]),
        ("claim_rules", [{"value": "g", "version": "v2"}]),
        ("bucket", {"header": "x-user"}),
        ("methods", ["POST", "PUT"]),
        ("content_types", ["text/plain"]),
        ("max_body", 5),
        ("paths", ["/other"]),
        ("extra_paths", ["rank"]),
        ("timeout", 5),
        ("retries", {"attempts": 2}),
        ("cors", {"origins": ["https://a.test"]}),
        ("placement", "callout"),
        ("type", "image"),
    ],
)
def test_a_setting_of_a_model_changes_its_digest_only(key: str, value: object) -> None:
    assert changed(f"models.m.{key}", value) == {"m"}


def test_limits_change_the_digests_of_the_models_that_they_concern() -> None:
    limit = {"rate": 1, "burst": 1}
    assert changed("limits.models", {"n": limit}) == {"n"}
    assert changed("limits.model_types", {"text": limit}) == {"m"}


def test_a_model_on_a_path_below_that_of_another_changes_the_digest_of_the_other() -> None:
    """Its native routes would admit the requests for the new model."""
    assert changed("models.n.paths", ["/m/n"]) == {"m", "n"}
    assert changed("models.n.paths", ["/n"]) == {"n"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("auth.issuers.0.jwks", key_set(rsa_jwk(OTHER_KEY))),
        ("auth.api_keys", [{"name": "k", "sha256": "0" * 64}]),
        ("auth.token_cache_entries", 5),
        ("telemetry.access_log.output", "none"),
        ("models.m.versions.v1.endpoints", [{"address": "127.0.0.1:10"}]),
        ("models.m.versions.v1.health_check", {}),
        ("models.m.pool", {"connect_timeout": 1}),
        ("models.m.mirror", {"version": "v3"}),
        ("limits.listener", None),
    ],
)
def test_what_concerns_no_native_route_changes_no_digest(path: str, value: object) -> None:
    assert changed(path, value) == set()
