"""Removes secrets from a config before it is shown."""

import json
from typing import Final

from sluice.config import GatewayConfig

REDACTED: Final = "(redacted)"

_PUBLIC: Final = frozenset(
    {"kty", "kid", "use", "alg", "key_ops", "crv", "x", "y", "n", "e", "x5c", "x5t", "x5t#S256"}
)
"""Public members of a JWK (RFC 7517 section 4, RFC 7518 section 6). Other members may be secret."""


def redacted(config: GatewayConfig) -> dict[str, object]:
    """The config as plain data, without secret and private keys and without hashes of API keys."""
    data: dict[str, object] = json.loads(config.model_dump_json())
    auth = data["auth"]
    assert isinstance(auth, dict)
    for key in auth["api_keys"]:
        key["sha256"] = REDACTED
    for issuer in auth["issuers"]:
        if issuer["jwks"] is not None:
            issuer["jwks"] = _public_key_set(issuer["jwks"])
    return data


def _public_key_set(text: str) -> str:
    """A key set without private members. Text that is not a key set is redacted completely."""
    try:
        keys = [
            {name: value if name in _PUBLIC else REDACTED for name, value in key.items()}
            for key in json.loads(text)["keys"]
        ]
    except (ValueError, LookupError, TypeError, AttributeError):
        return REDACTED
    return json.dumps({"keys": keys})
