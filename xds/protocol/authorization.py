"""Authorizes the calls of the xDS port: who a client is, and which resources its role may get.

Without a role, a client gets no response, and none of its requests is read: it can reject no
version and report nothing. Health checks are open.
"""

import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from sluice.contract.names import POLICY_TYPE_URL, VIDEO_TYPE_URL
from sluice.contract.paths import ADS_SERVICE, CSDS_SERVICE, VIDEO_REPORT_SERVICE
from sluice.grpc_credentials import AuthContext, grpc_peer_names
from sluice.printable import printable
from xds.protocol.receiving import received

log = logging.getLogger(__name__)

OPEN: Final = frozenset({"grpc.health.v1.Health"})
"""Services that everyone may use."""

OWN_PACKAGE: Final = "sluice."
"""Services of this package are for the callout or the video service. Others are for Envoy."""

LOG_INTERVAL: Final = 10.0
"""Seconds between two lines about refused clients: a stranger must not fill the log."""

MAX_TEXT: Final = 100
"""Characters of a method or a type that the log quotes."""


class NodeRole(Enum):
    """What a client of the xDS port is."""

    ENVOY = "envoy"
    """Gets all resources that no other role gets, and reports what it saw."""
    CALLOUT = "callout"
    """Gets only the policy. Operators have this role too."""
    VIDEO = "video"
    """Gets only the config of the video service, and reports its streams."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The credentials of a client: the names in its verified certificate, and its token."""

    names: frozenset[str]
    token: str | None = field(repr=False)


Authenticate = Callable[[Caller], NodeRole | None]
"""The role of a client; None for a stranger."""


class _Context(AuthContext, Protocol):
    """The part of grpc.aio.ServicerContext that is used."""

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None: ...
    async def abort(self, code: grpc.StatusCode, details: str) -> None: ...
    async def read(self) -> object: ...


class Authorization(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio has no type hints
    """Lets a call through if the role of the client allows it.

    Every request of a stream is checked: its type is known only from the request.
    """

    def __init__(
        self, authenticate: Authenticate, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._authenticate = authenticate
        self._clock = clock
        self._logged = -LOG_INTERVAL

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        method: str = handler_call_details.method
        service = method.removeprefix("/").partition("/")[0]
        if handler is None or service in OPEN:
            return handler
        return _wrapped(handler, _Check(self, service))

    async def role(self, context: _Context, service: str) -> NodeRole:
        """The role of the client of a call. Ends the call of a stranger."""
        found = self._authenticate(_caller(context))
        if found is None:
            await self.refuse(
                context,
                grpc.StatusCode.UNAUTHENTICATED,
                f"a client without credentials ({service})",
            )
        if service != ADS_SERVICE and found is not _role_of(service):
            await self.refuse(
                context, grpc.StatusCode.PERMISSION_DENIED, f"a client of another role ({service})"
            )
        assert found is not None
        return found

    async def refuse(self, context: _Context, code: grpc.StatusCode, what: str) -> None:
        """End a call. Raises the exception of grpcio that does so."""
        if self._clock() - self._logged >= LOG_INTERVAL:
            self._logged = self._clock()
            log.warning("refused %s", printable(what, 2 * MAX_TEXT))
        await context.abort(code, "identity required: see docs/security.md")


@dataclass(frozen=True, slots=True)
class _Check:
    """The check of one service's calls."""

    authorization: Authorization
    service: str

    async def role(self, context: _Context) -> NodeRole:
        return await self.authorization.role(context, self.service)

    async def requests(self, role: NodeRole, context: _Context) -> AsyncIterator[object]:
        """The requests of a stream. Ends the call at a request for a type of another role."""
        async for request in received(context):
            if not self.allows(request, role):
                what = f"{role.value}: {getattr(request, 'type_url', '')[:MAX_TEXT]}"
                code = grpc.StatusCode.PERMISSION_DENIED
                await self.authorization.refuse(context, code, what)
            # A suspended generator keeps its variables.
            yielded = [request]
            del request
            yield yielded.pop()

    def allows(self, request: object, role: NodeRole) -> bool:
        owner = _OWNERS.get(getattr(request, "type_url", ""))
        if self.service != ADS_SERVICE:
            return owner in (None, role)
        return (owner or NodeRole.ENVOY) is role


_OWNERS: Final[Mapping[str, NodeRole]] = {
    POLICY_TYPE_URL: NodeRole.CALLOUT,
    VIDEO_TYPE_URL: NodeRole.VIDEO,
}
"""Types that only one role gets. All other types are for Envoy."""


def _role_of(service: str) -> NodeRole:
    if service == VIDEO_REPORT_SERVICE:
        return NodeRole.VIDEO
    # Operators have the role of the callout. What each client has is for operators (CSDS).
    is_own = service.startswith(OWN_PACKAGE) or service == CSDS_SERVICE
    return NodeRole.CALLOUT if is_own else NodeRole.ENVOY


def _caller(context: _Context) -> Caller:
    sent = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    scheme, _, token = str(sent[0]).partition(" ") if len(sent) == 1 else ("", "", "")
    return Caller(grpc_peer_names(context), token if scheme.lower() == "bearer" else None)


def _wrapped(handler: grpc.RpcMethodHandler, check: _Check) -> grpc.RpcMethodHandler:
    """A handler of the same kind, which calls the other one after the check."""
    arity = f"{_kind(handler.request_streaming)}_{_kind(handler.response_streaming)}"
    inner: Callable[..., Any] = getattr(handler, arity)  # Any: a coroutine or a generator

    async def arguments(request: object, context: _Context) -> object:
        role = await check.role(context)
        if handler.request_streaming:
            return check.requests(role, context)
        return request

    async def call(request: object, context: _Context) -> object:
        return await inner(await arguments(request, context), context)

    async def generate(request: object, context: _Context) -> AsyncIterator[object]:
        async for response in inner(await arguments(request, context), context):
            yield response

    make = getattr(grpc, f"{arity}_rpc_method_handler")
    behavior = generate if inspect.isasyncgenfunction(inner) else call
    wrapped: grpc.RpcMethodHandler = make(
        behavior, handler.request_deserializer, handler.response_serializer
    )
    return wrapped


def _kind(streaming: bool) -> str:
    return "stream" if streaming else "unary"
