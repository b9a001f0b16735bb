"""One gRPC call on one HTTP/2 stream: passes messages to the handler in order, runs the awaitables
that the handler returns, and sends the responses.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from extproc.framing import PREFIX, PREFIX_SIZE, length_prefixed
from extproc.memory_budget import MemoryBudget
from extproc.rpc import ExhaustionHandler, Handler, RpcError, StatusCode
from extproc.segments import Content
from extproc.transport.aio.deadlines import Deadlines
from extproc.transport.aio.turns import Turns
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
    memory: MemoryBudget
    turns: Turns
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class ServerCall(Stream):
    """One call. Implements `extproc.rpc.Call` for the handler and `Stream` for the connection."""

    __slots__ = (
        "_charged",
        "_decoder",
        "_delivers",
        "_discards",
        "_finished",
        "_half_close_pending",
        "_handler",
        "_held",
        "_request",
        "_server",
        "_task",
        "_waits_for_turn",
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
        """Buffers messages that are incomplete or wait for the handler; None if there are none."""
        self._delivers = False
        """Whether `_deliver_buffered` is running."""
        self._waits_for_turn = False
        """Whether the buffered messages wait for the next turn of the event loop."""
        self._discards = False
        """Whether content is discarded, because there was no memory for it."""
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._held = 0
        """Bytes of the message that the handler's task works on."""
        self._charged = 0
        """Bytes that this call has reserved in `ServerState.memory`."""
        self.deadline: float | None = None

    # extproc.rpc.Call

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        return self._request.metadata

    def send(self, message: Content) -> None:
        if self._finished:
            return
        if not self.responded:
            self.respond(responses.RESPONSE_HEADERS)
        self._server.counters.messages_sent += 1
        if isinstance(message, bytes):
            self.write(length_prefixed(message))
        else:
            self.write_buffers(message.prefixed(PREFIX.pack(0, len(message))).buffers)
        if self.retained_size:
            self._settle()
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
        if self._finished:
            self._handler = None

    def on_data(self, data: bytes, start: int, stop: int) -> None:
        if self._handler is None:
            return  # the call is refused
        if self._decoder is None and stop - start >= PREFIX_SIZE:
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
        self._deliver_buffered()

    def on_reset(self) -> None:
        if not self._finished:
            handler = self._mark_finished()
            self._cancel(handler)
        else:
            self._settle()
            if self._task is not None:
                self._task.cancel()

    def on_drained(self) -> None:
        limits = self._server.limits
        if self.pending_size <= limits.send_high_water // 2:
            if self._writable is not None and not self._writable.done():
                self._writable.set_result(None)
            if self._decoder is not None or self._half_close_pending:
                self._deliver_buffered()

    def on_written(self) -> None:
        if self._charged:
            self._settle()

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
        return (
            self._task is not None
            or self._waits_for_turn
            or self._discards
            or self.pending_size > self._server.limits.send_high_water
        )

    def _is_idle_and_discards(self) -> bool:
        """Whether the handler waits for the end of a request whose content is discarded."""
        return self._discards and self._task is None

    def _deliver(self, message: bytes) -> None:
        if self._handler is None:
            return
        self._server.counters.messages_received += 1
        try:
            awaitable = self._handler.on_message(message)
        except Exception as error:
            self._fail(error)
            return
        if awaitable is not None:
            self._start_task(awaitable, len(message))

    def _deliver_half_close(self) -> None:
        if self._handler is None:
            return
        if self._decoder is not None:
            self._abort(StatusCode.INTERNAL, "the request ends inside a message")
            return
        self._half_close_pending = False
        try:
            awaitable = self._handler.on_half_close()
        except Exception as error:
            self._fail(error)
            return
        if awaitable is not None:
            self._start_task(awaitable, 0)

    def _buffer(self, content: bytes) -> None:
        """Buffer content that is not one whole message, or that the handler cannot take yet."""
        if self._discards:
            return
        if not self._server.memory.reserve(len(content)):
            self._discard_request("the server has no memory for the message", too_large=False)
            return
        self._charged += len(content)
        if self._decoder is None:
            self._decoder = MessageDecoder(
                gzip=self._request.gzip, max_message=self._server.limits.max_message
            )
        self._decoder.feed(content)
        self._deliver_buffered()

    def _deliver_buffered(self) -> None:
        """Deliver buffered messages until the handler is busy again, or the turn is over."""
        if self._delivers:
            return  # the handler has sent a response, which drained
        self._delivers = True
        while self._decoder is not None and not self._is_busy():
            try:
                message = self._decoder.next_message()
            except RpcError as error:
                if error.code == StatusCode.RESOURCE_EXHAUSTED:
                    self._discard_request(error.details, too_large=True)
                else:
                    self._abort(error.code, error.details)
                break
            if message is None:
                break
            if not len(self._decoder):
                self._decoder = None
            self._deliver(message)
            if self._decoder is not None and self._server.turns.is_over():
                self._waits_for_turn = True
                self._server.turns.wait(self._take_turn)
        self._delivers = False
        if self._half_close_pending and (not self._is_busy() or self._is_idle_and_discards()):
            self._deliver_half_close()
        # While the handler is busy, the window stays closed for what is buffered.
        decoder = self._decoder
        self.set_unread(len(decoder) if decoder is not None and self._is_busy() else 0)
        self._settle()

    def _take_turn(self) -> None:
        self._waits_for_turn = False
        self._deliver_buffered()

    # Memory

    def _settle(self) -> None:
        """Reserve or release memory, so that as much is reserved as the call takes now.

        A response that waits for the client, or one frame that a task works on, is reserved only if
        there is room: it exists already, and is dropped soonest if the call goes on.
        """
        buffered = 0 if self._decoder is None else len(self._decoder)
        more = self._held + buffered + self.retained_size - self._charged
        if more < 0:
            self._server.memory.release(-more)
            self._charged += more
        elif 0 < more <= self._server.memory.free:
            self._server.memory.reserve(more)
            self._charged += more

    def _discard_request(self, details: str, *, too_large: bool) -> None:
        """There is no memory for a message, or it is too large: discard the rest of the request."""
        self._discards = True
        self._decoder = None
        self.set_unread(0)
        if self._task is not None:
            self._task.cancel()
        self._settle()
        if not isinstance(self._handler, ExhaustionHandler):
            self._abort(StatusCode.RESOURCE_EXHAUSTED, details)
            return
        try:
            self._handler.on_exhausted(too_large=too_large)
        except Exception as error:
            self._fail(error)

    # Tasks of the handler

    def _start_task(self, awaitable: Awaitable[None], held: int) -> None:
        task = self._task = asyncio.ensure_future(_completion(awaitable))
        self._server.tasks.add(task)
        task.add_done_callback(self._on_task_done)
        self._held = held
        self._settle()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._server.tasks.discard(task)
        self._task = None
        self._held = 0
        if task.cancelled():
            if not self._finished and not self._discards:
                self._abort(StatusCode.CANCELLED, "the handler was cancelled")
        else:
            error = task.exception()
            if error is not None:
                self._fail(error)
        self._deliver_buffered()

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
        handler = self._handler
        if self.pending_size:
            is_exhausted = code == StatusCode.RESOURCE_EXHAUSTED
            self.reset(ErrorCode.ENHANCE_YOUR_CALM if is_exhausted else ErrorCode.CANCEL)
            self._mark_finished()
        else:
            self.finish(code, details)
        self._cancel(handler)

    def _cancel(self, handler: Handler | None) -> None:
        if self._task is not None:
            self._task.cancel()
        if handler is not None:
            try:
                handler.on_cancel()
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "on_cancel failed", "exception": error}
                )

    def _mark_finished(self) -> Handler | None:
        """Stop delivering and sending messages, and drop what the call holds. Returns the handler.

        The handler refers to the call. Without this end of the cycle, what the handler holds would
        stay in memory until the garbage collector runs.
        """
        handler, self._handler = self._handler, None
        self._finished = True
        if self.deadline is not None:
            self._server.deadlines.remove(self)
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._decoder = None
        if self._charged:
            self._settle()
        return handler


async def _completion(awaitable: Awaitable[None]) -> None:
    await awaitable
