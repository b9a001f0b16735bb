"""Cross-origin requests of browsers (CORS): which web pages may call models."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from sluice.config.invalid import invalid
from sluice.config.pattern import wrong_format
from sluice.config.values import Duration, HeaderName, Method, Strict, TypeLabel

ANY = "*"
"""Every origin, method or header (Fetch section 3.3)."""

OPAQUE = "null"
"""The origin of pages without one, such as local files and sandboxed frames."""

MAX_PATTERN = 85
"""Characters of an origin with `*`. Envoy matches it by a regular expression, and refuses one whose
program has more than 100 instructions: about one for each character."""

_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://"
    r"(?:(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def _check_origin(value: str) -> str:
    origin = value.lower()
    if origin in (ANY, OPAQUE):
        return origin
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        raise wrong_format(
            "write an origin, scheme and host without path, such as https://app.example.com; "
            "https://*.example.com for all names below; or * for every origin"
        )
    if ANY in origin and len(origin) > MAX_PATTERN:
        raise wrong_format(f"an origin with * has at most {MAX_PATTERN} characters")
    port = match["port"]
    if port is not None and port == _DEFAULT_PORTS.get(match["scheme"]):
        raise wrong_format(f"remove :{port}, which browsers do not send")
    return origin


Origin = Annotated[
    str,
    TypeLabel("origin"),
    AfterValidator(_check_origin),
    Field(max_length=300, examples=["https://app.example.com", "https://*.example.com", "*"]),
]
"""An origin as browsers send it (RFC 6454 section 6.2), in lower case."""


def origin_expression(origin: str) -> str | None:
    """The regular expression of an origin with `*` before its host; None for another origin."""
    scheme, separator, host = origin.partition("://*.")
    return rf"{re.escape(scheme)}://([a-z0-9_-]+\.)+{re.escape(host)}" if separator else None


class Cors(Strict):
    """Web pages of other origins that may call models (CORS).

    Envoy answers the preflights of these origins, without credentials, and adds the headers of CORS
    to all responses for them, also to refusals. It removes those of model servers. For all other
    origins, nothing changes: the browser does not show the response to the page. A WebSocket
    handshake with another `Origin` is refused (403, `origin_not_allowed`), because browsers do not
    apply CORS to WebSockets.
    """

    origins: tuple[Origin, ...] = Field(
        max_length=100,
        description="Origins such as `https://app.example.com`. `https://*.example.com`: all names "
        "below `example.com`, but not `example.com` itself. `*`: every origin, also `null`. "
        "`null`: pages without an origin. An empty list: none.",
    )
    methods: tuple[Method, ...] | None = Field(
        None, description="Allowed methods. Default: `GET`, `HEAD`, and the model's `methods`."
    )
    headers: tuple[HeaderName, ...] = Field(
        (
            "authorization", "content-type", "x-api-key", "x-model-version", "x-model-type",
            "traceparent", "tracestate",
        ),
        max_length=100,
        description="Request headers that a page may set. `*`: all except `authorization`.",
    )  # fmt: skip
    expose_headers: tuple[HeaderName, ...] = Field(
        (
            "retry-after", "ratelimit", "ratelimit-policy", "www-authenticate", "x-sluice-limit",
            "x-sluice-reason",
        ),
        max_length=100,
        description="Response headers that a page may read, in addition to those that it always "
        "may, such as `content-type`. `*`: all.",
    )  # fmt: skip
    credentials: bool = Field(
        False,
        description="Whether a page may let the browser add cookies or TLS client certificates. "
        "Headers that the page sets, such as `authorization`, do not need it.",
    )
    max_age: Duration = Field(
        600.0, description="Time for which browsers may cache the answer to a preflight."
    )

    def allows(self, origin: str) -> bool:
        """Whether a page of this origin may call the model. Envoy compares in the same way."""
        return any(_matches(each, origin) for each in self.origins)

    @model_validator(mode="after")
    def _no_wildcard_with_credentials(self) -> Self:
        named = {
            "origins": self.origins,
            "headers": self.headers,
            "expose_headers": self.expose_headers,
        }
        for key, values in named.items():
            if self.credentials and ANY in values:
                message = (
                    f"* is not allowed with credentials: true: list the {key.replace('_', ' ')}, "
                    "or set credentials: false"
                )
                raise invalid(message, (key,))
        return self


def _matches(allowed: str, origin: str) -> bool:
    expression = origin_expression(allowed)
    if expression is not None:
        return re.fullmatch(expression, origin) is not None
    return allowed in (ANY, origin)
