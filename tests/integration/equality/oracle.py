"""The answer that `decide()` gives to a request, as the client and the model server should see it.

The headers are those that Envoy passes on: Envoy joins some repeated headers, and removes internal
headers and `connection` before anything reads them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from extproc.decision import Admission, Refusal, decide
from extproc.decision import Request as DecisionRequest
from extproc.decision.request import JoinedHeaders
from extproc.policy.compiled import Policy
from extproc.services.responses import removed_headers, upstream_headers
from sluice.contract import headers as names
from tests.integration.equality.request import AUTHORITY, Header, Request

_SINGLE = frozenset((
    "accept", "accept-encoding", "authorization", "content-encoding", "content-type",
    "content-length", "expect", "grpc-timeout", "user-agent", "x-forwarded-for", "x-forwarded-host",
))  # fmt: skip
"""Headers of which Envoy has only one: it joins the values that are not empty by a comma
(HeaderMapImpl::appendToHeader)."""

_HOP_BY_HOP = frozenset(("connection", "upgrade", "keep-alive", "proxy-connection", "te"))


@dataclass(frozen=True, slots=True)
class Expected:
    """What `decide()` says. `forwarded` are the headers for the model server, if it admits."""

    decision: Admission | Refusal
    forwarded: tuple[Header, ...] = ()


def expected(policy: Policy, request: Request, now: float) -> Expected:
    """The decision on a request, whose path Envoy does not change."""
    pairs = list(_as_envoy_passes(request))
    fields: Mapping[str, bytes] = JoinedHeaders(
        [
            (":method", request.method), (":path", request.path),
            (":authority", AUTHORITY), (":scheme", b"http"), *pairs,
        ]
    )  # fmt: skip
    decision = decide(policy, DecisionRequest(fields, _has_body(request), now))
    if isinstance(decision, Refusal):
        return Expected(decision)
    added = upstream_headers(decision)
    dropped = {*removed_headers(policy, fields), *(name for name, _ in added)}
    kept = [(name.encode(), value) for name, value in pairs if name not in dropped]
    kept += [(name.encode(), value.encode()) for name, value in added]
    return Expected(decision, tuple(sorted(kept)))


def _has_body(request: Request) -> bool:
    if request.body is None:
        return False
    return request.http2 or bool(request.body) or not request.values(b"content-length")


def _as_envoy_passes(request: Request) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    single: dict[str, int] = {}
    options = _connection_options(request)
    upgrade = b"upgrade" in options and bool(request.values(b"upgrade"))
    for raw_name, raw_value in request.headers:
        raw_name = raw_name.lower()
        name, value = raw_name.decode("latin-1"), raw_value
        if not request.http2:
            value = raw_value.strip(b" \t")
            if raw_name in options and raw_name != b"upgrade":
                continue
        if name.startswith(names.INTERNAL_PREFIX) or name == names.MODEL_SERVICE:
            continue
        if name in _HOP_BY_HOP and not (upgrade and name in ("connection", "upgrade")):
            continue
        if name in single:
            at = single[name]
            parts = [part for part in (found[at][1], value) if part]
            found[at] = name, b",".join(parts)
            continue
        if name in _SINGLE:
            single[name] = len(found)
        found.append((name, value))
    return found


def _connection_options(request: Request) -> set[bytes]:
    """The options in `connection`. Envoy's HTTP/1.1 codec removes the headers that they name."""
    values = request.values(b"connection")
    return set(map(bytes.strip, b",".join(values).lower().split(b","))) if values else set()
