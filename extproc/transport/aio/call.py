"""One gRPC call on one HTTP/2 stream: hands messages to its handler in order, awaits what the
handler leaves to be awaited, and sends what it answers.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from extproc.framing import PREFIX, PREFIX_SIZE, frame
from extproc.rpc import Handler, RpcError, StatusCode
from extproc.transport.aio.deadlines import Deadlines
from extproc.transport.counters import Counters
from extproc.transport.grpc import responses
from extproc.transport.grpc.messages import Reassembly
from extproc.transport.grpc.requests import GrpcRequest
from extproc.transport.http2.connection import Connection
from extproc.transport.http2.errors import ErrorCode
from extproc.transport.http2.streams import Stream
from extproc.transport.limits import TransportLimits


@dataclass(slots=True)
class Shared:
    """What the calls of one server have in common."""

    limits: TransportLimits
    counters: Counters
    deadlines: Deadlines
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    buffered: int = 0
    """Request bytes held, against `TransportLimits.max_buffered`."""


class ServerCall(Stream):
    """`extproc.rpc.Call` for a handler, `Stream` for its connection."""

    __slots__ = (
        "_buffered",
        "_finished",
        "_half_closed",
        "_handler",
        "_inbox",
        "_reassembly",
        "_request",
        "_room",
        "_shared",
        "_task",
        "deadline",
    )

    def __init__(
        self,
        connection: Connection[GrpcRequest],
        stream_id: int,
        request: GrpcRequest,
        shared: Shared,
    ) -> None:
        super().__init__(connection, stream_id)
        self._request = request
        self._shared = shared
        self._handler: Handler | None = None
        self._finished = False
        self._half_closed = False
        self._reassembly: Reassembly | None = None
        self._inbox: deque[bytes] | None = None
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._buffered = 0
        self.deadline: float | None = None

    # What the handler sees.

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self._request.metadata

    def send(self, message: bytes) -> None:
        if self._finished:
            return
        if not self.responded:
            self.respond(responses.HEADERS)
        self._shared.counters.messages_sent += 1
        self.write(frame(message))
        if self.pending_size > self._shared.limits.max_send_queue:
            self._cancel(StatusCode.RESOURCE_EXHAUSTED, "the client does not read its responses")

    async def writable(self) -> None:
        if self._finished:
            await asyncio.sleep(0)  # a loop that waits on a dead call must not hold up the others
        while not self._finished and self.pending_size > self._shared.limits.send_high_water:
            if self._room is None or self._room.done():
                self._room = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._room)

    def finish(self, code: StatusCode = StatusCode.OK, details: str = "") -> None:
        if self._finished:
            return
        self._settle()
        if self.responded:
            self.end(responses.trailers(code, details))
        else:
            self.end(responses.trailers_only(code, details))

    # What the connection tells.

    def on_request(self) -> None:
        request = self._request
        if request.open is None:
            assert request.refusal is not None
            if request.refusal.body is None:
                self._settle()
                self.end(request.refusal.block)
            return
        if request.timeout is not None:
            self.deadline = self.connection.now + request.timeout
            self._shared.deadlines.add(self, self.deadline)
        try:
            self._handler = request.open(self)
        except Exception as error:
            self._fail(error)

    def on_data(self, data: bytes, start: int, stop: int) -> None:
        if self._handler is None:
            return  # refused: its content is read and dropped
        if self._reassembly is None and self._inbox is None and stop - start >= PREFIX_SIZE:
            # Nearly always a piece of content is one whole message: one slice, no buffer.
            compressed, length = PREFIX.unpack_from(data, start)
            if (
                not compressed
                and start + PREFIX_SIZE + length == stop
                and length <= self._shared.limits.max_message
                and not self._held_back()
            ):
                self._deliver(data[start + PREFIX_SIZE : stop])
                return
        self._buffer(data[start:stop])

    def on_end(self) -> None:
        refusal = self._request.refusal
        if refusal is not None and refusal.body is not None:
            self._answer_http(refusal.block, refusal.body)
            return
        self._half_closed = True
        if not self._inbox and not self._held_back():
            self._deliver_end()

    def on_reset(self) -> None:
        self._abandon()

    def on_drained(self) -> None:
        limits = self._shared.limits
        if self.pending_size <= limits.send_high_water // 2:
            if self._room is not None and not self._room.done():
                self._room.set_result(None)
            if self._inbox or self._half_closed:
                self._resume()

    def expire(self) -> None:
        """The deadline has passed."""
        self._shared.counters.deadlines_exceeded += 1
        self._cancel(StatusCode.DEADLINE_EXCEEDED, "deadline exceeded")

    # In between.

    def _answer_http(self, block: bytes, body: bytes) -> None:
        """Answer what is no gRPC request, once it is complete as HTTP clients expect."""
        self._settle()
        self.respond(block)
        self.write(body)
        self.end()

    def _held_back(self) -> bool:
        """Whether the handler must not get its next message yet."""
        return self._task is not None or self.pending_size > self._shared.limits.send_high_water

    def _deliver(self, message: bytes) -> None:
        if self._finished or self._handler is None:
            return
        self._shared.counters.messages_received += 1
        try:
            later = self._handler.on_message(message)
        except Exception as error:
            self._fail(error)
            return
        if later is not None:
            self._await(later)

    def _deliver_end(self) -> None:
        if self._finished or self._handler is None:
            return
        if self._reassembly is not None and len(self._reassembly):
            self._cancel(StatusCode.INTERNAL, "the request ends inside a message")
            return
        self._half_closed = False
        try:
            later = self._handler.on_half_close()
        except Exception as error:
            self._fail(error)
            return
        if later is not None:
            self._await(later)

    def _buffer(self, content: bytes) -> None:
        """Content that is not one whole message, or that comes while the handler is busy."""
        if self._finished:
            return
        limits = self._shared.limits
        if self._reassembly is None:
            self._reassembly = Reassembly(gzip=self._request.gzip, limit=limits.max_message)
        try:
            messages = self._reassembly.feed(content)
        except RpcError as error:
            self._cancel(error.code, error.details)
            return
        if messages:
            if self._inbox is None:
                self._inbox = deque()
            self._inbox.extend(messages)
            self.held += sum(map(len, messages))
        if not len(self._reassembly):
            self._reassembly = None
        self._resume()
        self._account()
        if self._shared.buffered > limits.max_buffered:
            self._cancel(StatusCode.RESOURCE_EXHAUSTED, "the server holds too many request bytes")

    def _resume(self) -> None:
        """Deliver what waits, until the handler is busy again."""
        while self._inbox and not self._finished and not self._held_back():
            message = self._inbox.popleft()
            self.release(len(message))
            self._deliver(message)
        if not self._inbox:
            self._inbox = None
            if self._half_closed and not self._held_back():
                self._deliver_end()
        self._account()

    def _account(self) -> None:
        partial = 0 if self._reassembly is None else len(self._reassembly)
        held = 0 if self._finished else self.held + partial
        self._shared.buffered += held - self._buffered
        self._buffered = held

    def _await(self, later: Awaitable[None]) -> None:
        task = self._task = asyncio.ensure_future(_completion(later))
        self._shared.tasks.add(task)
        task.add_done_callback(self._completed)

    def _completed(self, task: asyncio.Task[None]) -> None:
        self._shared.tasks.discard(task)
        self._task = None
        if task.cancelled():
            if not self._finished:
                self._cancel(StatusCode.CANCELLED, "the handler was cancelled")
            return
        error = task.exception()
        if error is not None:
            self._fail(error)
        else:
            self._resume()

    def _fail(self, error: BaseException) -> None:
        """The handler raised: its own status, or UNKNOWN with no more than the exception's type."""
        if self._finished:
            return
        if isinstance(error, RpcError):
            self.finish(error.code, error.details)
        else:
            self.finish(StatusCode.UNKNOWN, type(error).__name__)

    def _cancel(self, code: StatusCode, details: str) -> None:
        """End the call from our side. A status would come after what the peer has not read yet, so
        then the stream is reset, with the error code that gRPC clients map to the status."""
        if self._finished:
            return
        if self.pending_size:
            self._settle()
            calm = code == StatusCode.RESOURCE_EXHAUSTED
            self.reset(ErrorCode.ENHANCE_YOUR_CALM if calm else ErrorCode.CANCEL)
        else:
            self.finish(code, details)
        self._stop_handler()

    def _abandon(self) -> None:
        """The stream is gone."""
        if not self._finished:
            self._settle()
            self._stop_handler()
        elif self._task is not None:
            self._task.cancel()

    def _stop_handler(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._handler is not None:
            try:
                self._handler.on_cancel()
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "on_cancel failed", "exception": error}
                )

    def _settle(self) -> None:
        """Nothing of the request is wanted any more."""
        self._finished = True
        if self.deadline is not None:
            self._shared.deadlines.remove(self)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if self._inbox is not None or self._reassembly is not None:
            self._inbox = self._reassembly = None
            self._account()


async def _completion(later: Awaitable[None]) -> None:
    await later
