"""The config that operators see contains no text of a confidential section."""

import json

import pytest

from sluice.config import GatewayConfig
from sluice.config.redaction import REDACTED, redacted
from sluice.config.schema import fields, sections
from sluice.config.values import Confidential


def test_texts_of_confidential_sections_are_not_shown() -> None:
    config = GatewayConfig.model_validate(
        {
            "auth": {
                "issuers": [
                    {"issuer": "i", "audiences": ["a"], "algorithms": ["HS256"], "jwks": "secret"},
                    {
                        "issuer": "j",
                        "audiences": ["a"],
                        "algorithms": ["RS256"],
                        "jwks_uri": "https://secret/secret?secret",
                    },
                ],
                "api_keys": [{"name": "n", "sha256": "5" * 64, "claims": {"secret": "secret"}}],
            },
            "limits": {
                "backend": {
                    "kind": "redis",
                    "urls": ["redis://secret:6379"],
                    "username": "secret",
                    "password_env": "secret",
                }
            },
            "telemetry": {"profile": {"secret_file": "/secret"}},
        }
    )
    shown = redacted(config)
    text = json.dumps(shown)
    assert "secret" not in text.replace("secret_file", "")
    assert "5" * 64 not in text
    auth = shown["auth"]
    assert isinstance(auth, dict)
    assert auth["issuers"][0]["issuer"] == "i"
    assert auth["issuers"][0]["algorithms"] == ["HS256"]
    assert auth["issuers"][0]["jwks"] == REDACTED
    assert auth["issuers"][0]["jwks_uri"] is None
    assert auth["api_keys"] == [{"name": "n", "sha256": REDACTED, "groups": [], "claims": REDACTED}]


def test_other_sections_are_shown_as_they_are() -> None:
    config = GatewayConfig.model_validate(
        {"models": {"a": {"type": "t", "versions": {"v1": {"endpoints": [{"address": "h:1"}]}}}}}
    )
    shown, whole = redacted(config), json.loads(config.model_dump_json())
    for section in ("listener", "requests", "models", "callout"):
        assert json.loads(json.dumps(shown[section])) == whole[section]


def test_a_key_of_the_schema_is_never_left_out() -> None:
    shown = redacted(GatewayConfig())
    assert set(shown) == set(fields(GatewayConfig))


@pytest.mark.parametrize("path", [("auth",), ("limits", "backend"), ("telemetry", "profile")])
def test_sections_with_secrets_are_confidential(path: tuple[str, ...]) -> None:
    inside = [section for found, section in sections() if found[: len(path)] == path]
    assert inside
    assert all(issubclass(section, Confidential) for section in inside)
