"""The interface between gRPC transports and services.

A service maps method paths to handler factories. For each incoming call, a transport
(`extproc.transport`) calls the factory and passes the call's messages to the `Handler` that it
returns. Messages are bytes without the gRPC length prefix; HTTP/2, sockets and protobuf do not
appear here.

A handler that can respond immediately does so inside `on_message`, which needs no task. Otherwise
it returns an awaitable. The transport runs it as a task and holds back the later messages of this
call (and, through flow control, the client) until the task is done. Other calls go on.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from extproc.segments import Content
from sluice.contract.grpc import StatusCode as StatusCode


class RpcError(Exception):
    """A status other than OK. A handler raises this error to end its call."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


class Call(Protocol):
    """The handler's interface to its call. Every method may be called after the call ended."""

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Request metadata in order; keys are lower-case, `-bin` values are decoded bytes."""

    @property
    def deadline(self) -> float | None:
        """The deadline on the event loop's clock, in seconds; None without a deadline."""

    def send(self, message: Content) -> None:
        """Queue a response message. Ignored after the call ended."""

    async def writable(self) -> None:
        """Wait until few enough response bytes are queued.

        Long server streams await this between messages, so that a slow reader does not grow memory.
        """

    def finish(self, code: StatusCode = StatusCode.OK, details: str = "") -> None:
        """End the call with a status, after the queued messages. Ignored after the first time."""


class Handler(Protocol):
    """Processes one call.

    An exception ends the call: `RpcError` with its own status, any other with UNKNOWN. After an
    exception, `on_cancel` is not called.
    """

    def on_message(self, message: bytes) -> Awaitable[None] | None:
        """A request message arrived."""

    def on_half_close(self) -> Awaitable[None] | None:
        """The client has sent its last message."""

    def on_cancel(self) -> None:
        """The call ended before `finish`: reset, deadline or lost connection. Called at most once.

        This is not an error: Envoy resets an ext_proc call when it needs no more responses.
        """


@runtime_checkable
class ExhaustionHandler(Protocol):
    """A handler that responds itself if there is no memory for a message, or it is too large.

    The call of another handler ends with RESOURCE_EXHAUSTED.
    """

    def on_exhausted(self, *, too_large: bool) -> None:
        """The transport discards the request messages of the call from here on.

        `too_large`: the message would have no room either if there were no other calls.
        A task of the handler is cancelled. Later, `on_half_close` or `on_cancel` is called.
        """


HandlerFactory = Callable[[Call], Handler]
"""Creates the handler of one call."""

Services = Mapping[str, HandlerFactory]
"""Handler factories by method path, such as `/grpc.health.v1.Health/Check`."""

UnaryMethod = Callable[[bytes], bytes | Awaitable[bytes]]
"""A function from request bytes to response bytes, or to an awaitable of them."""


class _UnaryHandler:
    """Handler of a unary method: one request message, one response message."""

    __slots__ = ("_call", "_has_message", "_method")

    def __init__(self, call: Call, method: UnaryMethod) -> None:
        self._call = call
        self._method = method
        self._has_message = False

    def on_message(self, message: bytes) -> Awaitable[None] | None:
        if self._has_message:
            raise RpcError(StatusCode.INTERNAL, "more than one message in a unary call")
        self._has_message = True
        response = self._method(message)
        if isinstance(response, bytes):
            self._call.send(response)
            self._call.finish()
            return None
        return self._respond(response)

    async def _respond(self, response: Awaitable[bytes]) -> None:
        self._call.send(await response)
        self._call.finish()

    def on_half_close(self) -> None:
        if not self._has_message:
            raise RpcError(StatusCode.INTERNAL, "no message in a unary call")

    def on_cancel(self) -> None:
        """Nothing to undo: the transport cancels the task of an awaited response."""


def unary(method: UnaryMethod) -> HandlerFactory:
    """The handler factory of a unary method."""
    return lambda call: _UnaryHandler(call, method)
