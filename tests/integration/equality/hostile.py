"""Hostile requests, each with the place where it must be decided if placement is on.

They are answered with placement on and off. Both answers must be the same, except for the route.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from tests.integration.equality import hostile_requests, hostile_tokens
from tests.integration.equality.hostile_config import API_KEY, Case, call, credential, post
from tests.integration.equality.tokens import signing_key


def _plain_cases() -> Iterator[Case]:
    """What must be native, so that the rest of the table shows something."""
    yield Case("a token", call("m"), native=True)
    yield Case("a token over HTTP/2", replace(call("m"), http2=True), native=True)
    yield Case("no token for a public model", post("public"), native=True)
    yield Case("a token for a public model", call("public"), native=True)
    yield Case("no token", post("m"))
    yield Case("a query", call("m", path=b"/v2/models/m/infer?a=b"), native=True)
    yield Case("a model whose placement is callout", call("off"))
    rsa = replace(credential(iss="https://rsa.test"), key=signing_key("RS256", 0))
    yield Case("a token signed by RSA", post("m").with_credential(rsa), native=True)
    ecdsa = replace(credential(iss="https://ecdsa.test"), key=signing_key("ES256", 0))
    yield Case("a token signed by ECDSA", post("m").with_credential(ecdsa))
    key = (b"x-api-key", API_KEY.encode())
    yield Case("an API key", post("m", key))
    yield Case("an API key and a token", call("m", key))
    yield Case("an API key for a public model", post("public", key))
    yield Case("a wrong API key for a public model", post("public", (b"x-api-key", b"no")))
    yield Case("an empty API key for a public model", post("public", (b"x-api-key", b"")))


_GROUPS: Final[tuple[Callable[[], Iterator[Case]], ...]] = (
    _plain_cases,
    hostile_tokens.tokens_cases,
    hostile_tokens.issuers_cases,
    hostile_tokens.times_cases,
    hostile_tokens.audiences_cases,
    hostile_tokens.claims_cases,
    hostile_tokens.subjects_cases,
    hostile_requests.headers_cases,
    hostile_requests.versions_cases,
    hostile_requests.buckets_cases,
    hostile_requests.paths_cases,
    hostile_requests.bodies_cases,
    hostile_requests.upgrades_cases,
    hostile_requests.responses_cases,
)


def cases() -> list[Case]:
    """All cases. Tokens expire some minutes later."""
    return list(chain.from_iterable(group() for group in _GROUPS))
