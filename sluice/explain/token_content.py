"""What in the content of a valid token leaves its request to the callout (docs/placement.md)."""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Sequence

from sluice.config.placement.comparable import SECOND_OF_LIST

_ESCAPE = rb"\u00"
_LIST = re.compile(rb'"W[%s]' % SECOND_OF_LIST.encode())
"""A text that begins as the base64 of a list in JSON."""


def content_obstacle(authorization: bytes, issuer: str | None, issuers: Sequence[str]) -> str:
    """Why Envoy leaves a valid token to the callout; empty if nothing in the token says so.

    `issuers` are those of the native routes, in the order of the config.
    """
    try:
        header, payload = map(_decoded, authorization.split(b" ")[1].split(b".")[:2])
    except (ValueError, IndexError):
        return "authorization: it has no token"
    for part in (header, payload):
        if b'"b64"' in part or b'"crit"' in part:
            return "authorization: the token contains crit or b64"
        if _ESCAPE in part:
            return "authorization: the token contains an escape such as \\u00e9"
        if _LIST.search(part):
            return "authorization: the token contains text that looks like a list in base64"
    if issuer in issuers:
        for earlier in issuers[: issuers.index(issuer)]:
            if json.dumps(earlier).encode() in payload:
                return "authorization: the token contains the name of an earlier issuer"
    return ""


def _decoded(part: bytes) -> bytes:
    return urlsafe_b64decode(part + b"==")
