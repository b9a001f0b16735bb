"""One gRPC call on one HTTP/2 stream: passes messages to the handler in order, runs the awaitables
that the handler returns, and sends the responses.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from extproc.framing import PREFIX, PREFIX_SIZE, length_prefixed
from extproc.rpc import Handler, RpcError, StatusCode
from extproc.transport.aio.deadlines import Deadlines
from extproc.transport.counters import Counters
from extproc.transport.grpc import responses
from extproc.transport.grpc.message_decoder import MessageDecoder
from extproc.transport.grpc.requests import GrpcRequest
from extproc.transport.http2.connection import Connection
from extproc.transport.http2.errors import ErrorCode
from extproc.transport.http2.streams import Stream
from extproc.transport.limits import TransportLimits


@dataclass(slots=True)
class ServerState:
    """State that all calls of one server share."""

    limits: TransportLimits
    counters: Counters
    deadlines: Deadlines
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    buffered: int = 0
    """Request bytes that all calls buffer; `TransportLimits.max_buffered` is their limit."""


class ServerCall(Stream):
    """One call. Implements `extproc.rpc.Call` for the handler and `Stream` for the connection."""

    __slots__ = (
        "_buffered",
        "_decoder",
        "_finished",
        "_half_close_pending",
        "_handler",
        "_inbox",
        "_request",
        "_server",
        "_task",
        "_writable",
        "deadline",
    )

    def __init__(
        self,
        connection: Connection[GrpcRequest],
        stream_id: int,
        request: GrpcRequest,
        server: ServerState,
    ) -> None:
        super().__init__(connection, stream_id)
        self._request = request
        self._server = server
        self._handler: Handler | None = None
        self._finished = False
        self._half_close_pending = False
        """Whether the client has half-closed, but `Handler.on_half_close` was not called yet."""
        self._decoder: MessageDecoder | None = None
        """Buffers an incomplete message; None if no message is incomplete."""
        self._inbox: deque[bytes] | None = None
        """Messages that wait for the handler; None if no message waits."""
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._buffered = 0
        """Bytes that this call has added to `ServerState.buffered`."""
        self.deadline: float | None = None

    # extproc.rpc.Call

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self._request.metadata

    def send(self, message: bytes) -> None:
        if self._finished:
            return
        if not self.responded:
            self.respond(responses.RESPONSE_HEADERS)
        self._server.counters.messages_sent += 1
        self.write(length_prefixed(message))
        if self.pending_size > self._server.limits.max_send_queue:
            self._abort(
                StatusCode.RESOURCE_EXHAUSTED, "too many response bytes wait for the client"
            )

    async def writable(self) -> None:
        if self._finished:
            await asyncio.sleep(0)  # a handler's send loop must not block the event loop
        while not self._finished and self.pending_size > self._server.limits.send_high_water:
            if self._writable is None or self._writable.done():
                self._writable = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._writable)

    def finish(self, code: StatusCode = StatusCode.OK, details: str = "") -> None:
        if self._finished:
            return
        self._mark_finished()
        if self.responded:
            self.end(responses.trailers(code, details))
        else:
            self.end(responses.trailers_only(code, details))

    # Stream

    def on_request(self) -> None:
        request = self._request
        if request.factory is None:
            assert request.refusal is not None
            if request.refusal.body is None:
                self._mark_finished()
                self.end(request.refusal.block)
            return
        if request.timeout is not None:
            self.deadline = self.connection.now + request.timeout
            self._server.deadlines.add(self, self.deadline)
        try:
            self._handler = request.factory(self)
        except Exception as error:
            self._fail(error)

    def on_data(self, data: bytes, start: int, stop: int) -> None:
        if self._handler is None:
            return  # the call is refused
        if self._decoder is None and self._inbox is None and stop - start >= PREFIX_SIZE:
            # The usual case, one frame with one whole message, needs one slice and no buffer.
            compressed, length = PREFIX.unpack_from(data, start)
            if (
                not compressed
                and start + PREFIX_SIZE + length == stop
                and length <= self._server.limits.max_message
                and not self._is_busy()
            ):
                self._deliver(data[start + PREFIX_SIZE : stop])
                return
        self._buffer(data[start:stop])

    def on_end(self) -> None:
        refusal = self._request.refusal
        if refusal is not None and refusal.body is not None:
            self._send_http_refusal(refusal.block, refusal.body)
            return
        self._half_close_pending = True
        if not self._inbox and not self._is_busy():
            self._deliver_half_close()

    def on_reset(self) -> None:
        if not self._finished:
            self._mark_finished()
            self._cancel_handler()
        elif self._task is not None:
            self._task.cancel()

    def on_drained(self) -> None:
        limits = self._server.limits
        if self.pending_size <= limits.send_high_water // 2:
            if self._writable is not None and not self._writable.done():
                self._writable.set_result(None)
            if self._inbox or self._half_close_pending:
                self._deliver_inbox()

    # Deadlines

    def expire(self) -> None:
        """End the call, because its deadline has passed."""
        self._server.counters.deadlines_exceeded += 1
        self._abort(StatusCode.DEADLINE_EXCEEDED, "deadline exceeded")

    # Requests

    def _send_http_refusal(self, block: bytes, body: bytes) -> None:
        """Respond to a request that is not gRPC, after its end, as HTTP clients expect."""
        self._mark_finished()
        self.respond(block)
        self.write(body)
        self.end()

    def _is_busy(self) -> bool:
        """Whether the handler must not get its next message yet."""
        return self._task is not None or self.pending_size > self._server.limits.send_high_water

    def _deliver(self, message: bytes) -> None:
        if self._finished or self._handler is None:
            return
        self._server.counters.messages_received += 1
        try:
            awaitable = self._handler.on_message(message)
        except Exception as error:
            self._fail(error)
            return
        if awaitable is not None:
            self._start_task(awaitable)

    def _deliver_half_close(self) -> None:
        if self._finished or self._handler is None:
            return
        if self._decoder is not None and len(self._decoder):
            self._abort(StatusCode.INTERNAL, "the request ends inside a message")
            return
        self._half_close_pending = False
        try:
            awaitable = self._handler.on_half_close()
        except Exception as error:
            self._fail(error)
            return
        if awaitable is not None:
            self._start_task(awaitable)

    def _buffer(self, content: bytes) -> None:
        """Buffer content that is not one whole message, or that the handler cannot take yet."""
        if self._finished:
            return
        limits = self._server.limits
        if self._decoder is None:
            self._decoder = MessageDecoder(gzip=self._request.gzip, max_message=limits.max_message)
        try:
            messages = self._decoder.feed(content)
        except RpcError as error:
            self._abort(error.code, error.details)
            return
        if messages:
            if self._inbox is None:
                self._inbox = deque()
            self._inbox.extend(messages)
            self.unread_size += sum(map(len, messages))
        if not len(self._decoder):
            self._decoder = None
        self._deliver_inbox()
        self._count_buffered()
        if self._server.buffered > limits.max_buffered:
            self._abort(StatusCode.RESOURCE_EXHAUSTED, "the server buffers too many request bytes")

    def _deliver_inbox(self) -> None:
        """Deliver waiting messages until the handler is busy again."""
        while self._inbox and not self._finished and not self._is_busy():
            message = self._inbox.popleft()
            self.mark_read(len(message))
            self._deliver(message)
        if not self._inbox:
            self._inbox = None
            if self._half_close_pending and not self._is_busy():
                self._deliver_half_close()
        self._count_buffered()

    def _count_buffered(self) -> None:
        incomplete = 0 if self._decoder is None else len(self._decoder)
        buffered = 0 if self._finished else self.unread_size + incomplete
        self._server.buffered += buffered - self._buffered
        self._buffered = buffered

    # Tasks of the handler

    def _start_task(self, awaitable: Awaitable[None]) -> None:
        task = self._task = asyncio.ensure_future(_completion(awaitable))
        self._server.tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._server.tasks.discard(task)
        self._task = None
        if task.cancelled():
            if not self._finished:
                self._abort(StatusCode.CANCELLED, "the handler was cancelled")
            return
        error = task.exception()
        if error is not None:
            self._fail(error)
        else:
            self._deliver_inbox()

    # The end of the call

    def _fail(self, error: BaseException) -> None:
        """End the call after an exception of the handler. Only an RpcError shows its details."""
        if self._finished:
            return
        if isinstance(error, RpcError):
            self.finish(error.code, error.details)
        else:
            self.finish(StatusCode.UNKNOWN, type(error).__name__)

    def _abort(self, code: StatusCode, details: str) -> None:
        """End the call with an error.

        The client would get a status only after the pending content. So if content is pending, the
        stream is reset instead: ENHANCE_YOUR_CALM is RESOURCE_EXHAUSTED for gRPC clients, CANCEL is
        CANCELLED.
        """
        if self._finished:
            return
        if self.pending_size:
            self._mark_finished()
            is_exhausted = code == StatusCode.RESOURCE_EXHAUSTED
            self.reset(ErrorCode.ENHANCE_YOUR_CALM if is_exhausted else ErrorCode.CANCEL)
        else:
            self.finish(code, details)
        self._cancel_handler()

    def _cancel_handler(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._handler is not None:
            try:
                self._handler.on_cancel()
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "on_cancel failed", "exception": error}
                )

    def _mark_finished(self) -> None:
        """Stop delivering and sending messages, and drop the buffered request bytes."""
        self._finished = True
        if self.deadline is not None:
            self._server.deadlines.remove(self)
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self._inbox is not None or self._decoder is not None:
            self._inbox = self._decoder = None
            self._count_buffered()


async def _completion(awaitable: Awaitable[None]) -> None:
    await awaitable
