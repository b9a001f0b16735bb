"""Who makes a request to an HTTP server of the gateway, and what the role of the caller allows.

Credentials are bearer tokens and client certificates. Without configured access, every caller of a
server that only this machine can reach is an operator, but not a web page in a local browser.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from sluice.config.access import Access, AccessToken
from sluice.config.identity import Identity
from sluice.http.hosts import HostGuard, HttpEndpoint
from sluice.http.problems import refusal
from sluice.http.request_limit import take_place
from sluice.token_files import TokenFiles


class Role(StrEnum):
    """What a caller may do. An operator may also do what a reader may."""

    READER = "reader"
    OPERATOR = "operator"

    def includes(self, required: "Role") -> bool:
        """Whether this role may do what needs the other role."""
        return self is Role.OPERATOR or self is required


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: the name in the history, and the role."""

    name: str
    role: Role


LOCAL: Final = Principal("local", Role.OPERATOR)
"""Every caller of a server on loopback for which no access is configured."""

ANONYMOUS: Final = Principal("anonymous", Role.READER)
"""Every caller of a server that other machines reach without credentials, as its config says."""

GATEWAY: Final = "sluice"
"""The name of the gateway's own commands, which read with a token."""

PEER_NAMES: Final = "sluice.peer_names"
"""Key of the scope with the names in the client's certificate. The server sets it."""

OWN_PAGES: Final = frozenset({"same-origin", "none"})
"""Values of `Sec-Fetch-Site` of requests of this server's own pages, and of a user who types the
URL. `same-site` is not among them: every port of localhost is the same site."""

_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="sluice"'}


class AccessGuard:
    """Authenticates requests, and refuses those that the role of the caller does not allow.

    `access` returns the settings in force, with file names relative to `directory`. `trusted`:
    whether only this machine can reach the server. `hosts` checks the Host header. `own_name`: name
    in a client certificate that may also read. `reader_token`: file with a token that may also
    read.
    """

    def __init__(
        self,
        access: Callable[[], Access],
        directory: Path,
        hosts: HostGuard,
        *,
        trusted: bool,
        own_name: str | None = None,
        reader_token: Path | None = None,
    ) -> None:
        self._access = access
        self._files = TokenFiles(directory)
        self._own_tokens: tuple[AccessToken, ...] = ()
        if reader_token is not None:
            file = str(reader_token.absolute())
            self._own_tokens = (AccessToken(name=GATEWAY, role="reader", secret_file=file),)
        self._hosts = hosts
        self._trusted = trusted
        self._own_name = own_name

    def authenticate(self, request: Request) -> Principal | None:
        """The caller; None for one without valid credentials."""
        access = self._access()
        if not access.configured:
            return LOCAL if self._trusted else ANONYMOUS
        return self._by_token(access, request) or self._by_certificate(access, request)

    def protect(self, endpoint: HttpEndpoint, role: Role) -> HttpEndpoint:
        """Wrap an endpoint that needs a role. `principal_of` returns the caller of its requests.

        Refuses requests for other hosts (421), of web pages of other origins (403), without
        credentials (401), and of callers without the role (403).
        """

        authorized = self.authorize(endpoint, role)

        async def guarded(request: Request) -> Response:
            if _is_foreign_page(request):
                return refusal(403, "foreign_page", "web pages of other origins may not call this")
            return await authorized(request)

        return self._hosts.protect(guarded)

    def authorize(self, endpoint: HttpEndpoint, role: Role) -> HttpEndpoint:
        """Wrap an endpoint that needs a role, and that clients may call by any name of the server.

        Refuses as `protect`, except for the name (421) and for web pages. Also refuses requests
        while the server handles too many (503).
        """

        async def authorized(request: Request) -> Response:
            principal = self.authenticate(request)
            if principal is None:
                detail = "send a token of control_plane.access as authorization: Bearer TOKEN"
                return refusal(401, "unauthenticated", detail, _CHALLENGE)
            if not principal.role.includes(role):
                return refusal(403, "role_required", f"this needs the role {role}")
            if not take_place(request.scope, reader=principal.role is Role.READER):
                return refusal(503, "too_many_requests", "try again later", {"retry-after": "1"})
            request.state.principal = principal
            return await endpoint(request)

        return authorized

    def _by_certificate(self, access: Access, request: Request) -> Principal | None:
        """The caller with a client certificate. One with several names has the highest role."""
        names: frozenset[str] = request.scope.get(PEER_NAMES, frozenset())
        found = [Principal(each.name, Role(each.role)) for each in access.certificates]
        if self._own_name is not None:
            found.append(Principal(self._own_name, Role.READER))
        known = [each for each in found if each.name in names]
        return max(known, key=lambda each: each.role is Role.OPERATOR, default=None)

    def _by_token(self, access: Access, request: Request) -> Principal | None:
        sent = request.headers.getlist("authorization")
        scheme, _, token = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
        if scheme.lower() != "bearer":
            return None
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        found = None
        # All are compared, so that the time does not depend on which token matches.
        for each, expected in _digests((*access.tokens, *self._own_tokens), self._files):
            if hmac.compare_digest(digest, expected):
                found = Principal(each.name, Role(each.role))
        return found


def own_name(identity: Identity | None) -> str | None:
    """The name in the certificate with which the gateway's own commands read its state."""
    return (
        None if identity is None or identity.control_plane is None else identity.control_plane.name
    )


def principal_of(request: Request) -> Principal:
    """The caller of a request that a guard has let through."""
    found: Principal = request.state.principal
    return found


def _digests(tokens: Iterable[AccessToken], files: TokenFiles) -> Iterator[tuple[AccessToken, str]]:
    """The SHA-256 of each token. A file that cannot be used has none."""
    for each in tokens:
        digest = each.sha256 if each.secret_file is None else files.digest(each.secret_file)
        if digest is not None:
            yield each, digest


def _is_foreign_page(request: Request) -> bool:
    """Whether a web page of another origin makes the request.

    Browsers send `Origin` with requests that may change something, and `Sec-Fetch-Site` with all.
    """
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin")
    if site not in OWN_PAGES:
        return True
    return origin is not None and not _is_same_host(origin, request.headers.get("host", ""))


def _is_same_host(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False
