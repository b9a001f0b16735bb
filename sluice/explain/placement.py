"""Where the decision on a request is made: in Envoy alone (native), or by the callout."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sluice.config import Auth, Model, PolicyDocument
from sluice.config.placement import issuer_obstacle, plan, surroundings
from sluice.config.values import READ_METHODS
from sluice.contract.headers import CONTENT_LENGTH
from sluice.contract.names import Placement
from sluice.contract.paths import OIP_PREFIX
from sluice.explain.request import HttpRequest
from sluice.explain.token_content import content_obstacle

_BEARER = re.compile(rb"Bearer [!-<>-~]+")


@dataclass(frozen=True, slots=True)
class Decided:
    """Where a request is decided, and why there."""

    placement: Placement
    reason: str


def placed(
    document: PolicyDocument, model: str, version: str, reason: str, request: HttpRequest,
    headers: Mapping[str, bytes], issuer: str | None,
) -> Decided:  # fmt: skip
    """Where the gateway decides about a request that it admits to this version for this reason.

    `headers`: those that Envoy sends to the callout. `issuer`: the issuer of the token, if any.
    """
    found = document.models[model]
    why = plan(model, found, surroundings(document)).why_callout(version, reason)
    why = why or _obstacle(document.auth, found, model, request, headers, issuer)
    if why:
        return Decided("callout", why)
    return Decided("native", "Envoy admits it alone, while no breaker of its versions is open")


def _obstacle(
    auth: Auth, model: Model, name: str, request: HttpRequest,
    headers: Mapping[str, bytes], issuer: str | None,
) -> str:  # fmt: skip
    """What about the request itself leaves it to the callout; empty if nothing does."""
    if auth.api_key_header in headers:
        return f"{auth.api_key_header}: Envoy cannot compare API keys"
    if "upgrade" in headers:
        return "upgrade: the callout checks handshakes"
    if request.method in READ_METHODS:
        return f"{request.method}: the callout decides requests that only read"
    if CONTENT_LENGTH not in headers:
        return "content-length: the callout counts a body whose length is not declared"
    path = headers[":path"].decode("ascii", "replace").partition("?")[0]
    if not path.startswith(f"{OIP_PREFIX}{name}/") and not model.paths:
        return "path: it is that of a gRPC method"
    authorization = headers.get("authorization")
    if authorization is None:
        return ""
    if _BEARER.fullmatch(authorization) is None:
        return "authorization: it is not written as `Bearer TOKEN`"
    obstacles = {each.issuer: issuer_obstacle(each) for each in auth.issuers}
    native = [each for each, obstacle in obstacles.items() if not obstacle]
    return obstacles.get(issuer or "", "") or content_obstacle(authorization, issuer, native)
