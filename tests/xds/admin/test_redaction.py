"""The config that operators see contains no secret."""

import json

from sluice.config import GatewayConfig
from xds.admin.redaction import REDACTED, redacted


def shown(jwks: str) -> str:
    config = GatewayConfig.model_validate(
        {
            "auth": {
                "issuers": [
                    {"issuer": "i", "audiences": ["a"], "algorithms": ["RS256"], "jwks": jwks}
                ],
                "api_keys": [{"name": "n", "sha256": "5" * 64}],
            }
        }
    )
    return json.dumps(redacted(config))


def test_public_keys_are_shown_and_private_and_secret_keys_are_not() -> None:
    text = shown('{"keys": [{"kty": "RSA", "n": "modulus", "d": "private"}, {"k": "secret"}]}')
    assert "modulus" in text
    assert "private" not in text
    assert "secret" not in text


def test_text_that_is_not_a_key_set_is_not_shown() -> None:
    for text in ("secret", '["secret"]', '{"keys": "secret"}', '{"keys": ["secret"]}'):
        assert "secret" not in shown(text)


def test_hashes_of_api_keys_are_not_shown() -> None:
    assert "5" * 64 not in shown('{"keys": []}')
    assert REDACTED in shown('{"keys": []}')
