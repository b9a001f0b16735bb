"""Makes signed tokens and the key sets that verify them. Tests choose issuers, keys and claims."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import jwt


def encoded(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def key_set(*jwks: Mapping[str, object]) -> str:
    """A JSON Web Key Set."""
    return json.dumps({"keys": jwks})


def signed(
    claims: Mapping[str, object], key: Any, algorithm: str = "RS256", **header: object
) -> str:
    """A token with these claims. Members of the header with the value None are left out."""
    present = {name: value for name, value in header.items() if value is not None}
    return jwt.encode(dict(claims), key, algorithm=algorithm, headers=present)
