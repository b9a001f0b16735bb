"""`sluice explain` says which content of a token leaves its request to the callout."""

import json

import pytest

from sluice.explain.token_content import content_obstacle
from tests.tokens import encoded

ISSUERS = ("https://first.test", "https://second.test")


def obstacle(claims: dict[str, object], header: str = "{}", *, ascii_only: bool = False) -> str:
    payload = json.dumps(claims, ensure_ascii=ascii_only)
    token = f"{encoded(header.encode())}.{encoded(payload.encode())}.x"
    return content_obstacle(f"Bearer {token}".encode(), "https://second.test", ISSUERS)


@pytest.mark.parametrize(
    ("claims", "header", "reason"),
    [
        ({"sub": "alice", "group": ["a", "b"]}, "{}", ""),
        ({"sub": "alice"}, '{"b64": true}', "contains crit or b64"),
        ({"sub": "alice"}, '{"kid": "\\u0061"}', "contains an escape"),
        ({"idp": "https://first.test"}, "{}", "the name of an earlier issuer"),
        ({"idp": "https://second.test"}, "{}", ""),
        ({"group": "WyJhIl0="}, "{}", "looks like a list in base64"),
        ({"sub": "William"}, "{}", ""),
    ],
)
def test_the_content_of_a_token_decides(
    claims: dict[str, object], header: str, reason: str
) -> None:
    found = obstacle(claims, header)
    assert reason in found
    assert bool(found) == bool(reason)


def test_a_letter_that_is_not_escaped_is_no_obstacle() -> None:
    assert obstacle({"sub": "é"}) == ""
    assert "contains an escape" in obstacle({"sub": "é"}, ascii_only=True)
