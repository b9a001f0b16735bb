"""Origins of CORS in the config."""

from typing import Any

import pytest
from pydantic import ValidationError

from sluice.config.cors import MAX_PATTERN, Cors


def cors(*origins: str, **more: Any) -> Cors:
    return Cors.model_validate({"origins": origins, **more})


@pytest.mark.parametrize(
    "origin",
    ["https://app.example.com", "http://localhost:3000", "http://[::1]:8000", "https://*.a.test",
     "https://*.a.test:8443", "null", "*", "chrome-extension://abcdefgh", "https://xn--bcher-kva.de"],
)  # fmt: skip
def test_origins_are_written_as_browsers_send_them(origin: str) -> None:
    assert cors(origin).origins == (origin,)
    assert cors(origin.upper()).origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    ["", "app.example.com", "https://app.example.com/", "https://app.example.com/path", "//a",
     "https://*", "https://*example.com", "https://a.*.com", "https://**.a.com", "https://a.com:",
     "https://a.com:*", "https://user@a.com", "https://a.com?x", "https://bücher.de", "https://a..b",
     "https://a.com\n", " https://a.com", "https://.*", "https://a.com|b.com"],
)  # fmt: skip
def test_other_text_is_refused_with_an_example(origin: str) -> None:
    with pytest.raises(ValidationError, match=r"write an origin, scheme and host without path"):
        cors(origin)


@pytest.mark.parametrize("origin", ["https://a.com:443", "http://*.a.com:80"])
def test_a_default_port_would_never_match(origin: str) -> None:
    with pytest.raises(ValidationError, match=r"remove :\d+, which browsers do not send"):
        cors(origin)


@pytest.mark.parametrize(
    "more", [{"origins": ["*"]}, {"headers": ["*"]}, {"expose_headers": ["x-a", "*"]}]
)
def test_every_value_is_not_allowed_with_credentials(more: dict[str, Any]) -> None:
    config = {"origins": ["https://a.com"], **more}
    assert Cors.model_validate(config)
    with pytest.raises(ValidationError, match=r"\* is not allowed with credentials: true: list"):
        Cors.model_validate(config | {"credentials": True})


def test_an_origin_with_a_wildcard_is_short_enough_for_envoy() -> None:
    longest = f"https://*.{'a' * 40}.{'b' * (MAX_PATTERN - 55)}.com"
    assert len(longest) == MAX_PATTERN
    assert cors(longest)
    with pytest.raises(ValidationError, match="has at most 85 characters"):
        cors(longest.replace("https://*.", "https://*.c"))


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        ("https://a.example.com", "https://a.example.com", True),
        ("https://a.example.com", "https://a.example.com:444", False),
        ("https://*.example.com", "https://a.b.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://a.example.com.test", False),
        ("https://*.example.com", "https://a.examplexcom", False),
        ("*", "null", True),
        ("null", "null", True),
        ("null", "https://a.example.com", False),
    ],
)
def test_an_origin_is_compared_as_envoy_does(allowed: str, origin: str, expected: bool) -> None:
    assert cors(allowed).allows(origin) == expected
