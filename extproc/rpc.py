"""The one interface between gRPC transports and the services they carry.

A service is a mapping of method paths to `Open` functions; a transport (`extproc.transport`) calls
one for each incoming call and feeds the `Handler` that it returns. Nothing here knows HTTP/2,
sockets or protobuf: messages are bytes, without the gRPC length prefix.

A handler that can answer at once does so inside `on_message` and costs no task; one that cannot
returns an awaitable, and the transport runs it, holding back this call's later messages (and,
through flow control, its peer) until it is done, while other calls go on.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from sluice.contract.grpc import StatusCode as StatusCode


class RpcError(Exception):
    """Raised by a handler to end its call with a status other than OK."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


class Call(Protocol):
    """One call as its handler sees it; every method is safe after the call ended."""

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Request metadata in order; keys are lower-case, `-bin` values are decoded bytes."""

    @property
    def deadline(self) -> float | None:
        """When the call times out, on the event loop's clock, in seconds; None without one."""

    def send(self, message: bytes) -> None:
        """Queue one response message. A call that has ended ignores it."""

    async def writable(self) -> None:
        """Wait until the peer has taken enough of what was sent that sending more is fair.

        Long server streams await this between messages, so that a slow reader never grows memory.
        """

    def finish(self, code: StatusCode = StatusCode.OK, details: str = "") -> None:
        """End the call with a status, after what was sent; a second finish is ignored."""


class Handler(Protocol):
    """What a service does with one call.

    An exception that escapes ends the call with UNKNOWN, or with its own status where it is an
    `RpcError`; `on_cancel` is not called then.
    """

    def on_message(self, message: bytes) -> Awaitable[None] | None:
        """One request message arrived."""

    def on_half_close(self) -> Awaitable[None] | None:
        """The client has sent its last message."""

    def on_cancel(self) -> None:
        """The call ended before `finish`: reset, deadline, lost connection. Called at most once.

        This is how Envoy ends an ext_proc call that needs no more answers, so it is no error.
        """


Open = Callable[[Call], Handler]
"""Starts the handler of one call."""

Services = Mapping[str, Open]
"""Full method path, such as `/grpc.health.v1.Health/Check`, to its handler."""


class _Unary:
    """Handler of a unary method: exactly one request message, one answer."""

    __slots__ = ("_answer", "_call", "_seen")

    def __init__(self, call: Call, answer: Callable[[bytes], bytes | Awaitable[bytes]]) -> None:
        self._call = call
        self._answer = answer
        self._seen = False

    def on_message(self, message: bytes) -> Awaitable[None] | None:
        if self._seen:
            raise RpcError(StatusCode.INTERNAL, "a unary call carries one message")
        self._seen = True
        answer = self._answer(message)
        if isinstance(answer, bytes):
            self._call.send(answer)
            self._call.finish()
            return None
        return self._later(answer)

    async def _later(self, answer: Awaitable[bytes]) -> None:
        self._call.send(await answer)
        self._call.finish()

    def on_half_close(self) -> None:
        if not self._seen:
            raise RpcError(StatusCode.INTERNAL, "a unary call carries one message")

    def on_cancel(self) -> None:
        """Nothing to undo: an awaited answer is cancelled by the transport."""


def unary(answer: Callable[[bytes], bytes | Awaitable[bytes]]) -> Open:
    """Make a method of a function from request bytes to response bytes (at once, or awaited)."""
    return lambda call: _Unary(call, answer)
