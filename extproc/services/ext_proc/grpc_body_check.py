"""Checks the messages of a gRPC call that passes unchanged.

The decision reads only headers. The server may have models that this caller may not use, so each
message must name the admitted model. A message must also be complete and readable. For an
incomplete message, a server waits until the call times out. For an unreadable message, a server
responds with an error. Both would count as failures of the server.
"""

import asyncio
from collections.abc import Awaitable, Mapping

from extproc.convert import ConversionError, ConversionPool
from extproc.decision import Reason, Refusal
from extproc.decision.oip_grpc import SERVER_METHODS, method_name
from extproc.decision.refusals import MEMORY_EXHAUSTED, MISSING_MESSAGE
from extproc.memory_budget import MemoryBudget
from extproc.policy.compiled import Target
from extproc.services.ext_proc import messages
from extproc.services.ext_proc.body_handler import PassBody, Result
from extproc.services.ext_proc.grpc_messages import GrpcMessages, Progress
from extproc.services.ext_proc.model_request import ModelRequestCheck
from protos.ext_proc_pb2 import HttpBody, HttpTrailers

_STREAMING_METHOD = b"ModelStreamInfer"
"""The method that takes more than one message."""

_TRAILERS = Refusal(Reason.MALFORMED_REQUEST, "a gRPC request has no trailers")
"""In gRPC over HTTP/2, a request has no trailers. If trailers follow an incomplete message, the
check would not see the end of the body, and the server would wait for the rest of the message."""

_INCOMPLETE = Refusal(Reason.MALFORMED_REQUEST, "the body ends inside a gRPC message")


class BodyChecks:
    """What all checks of a worker share."""

    def __init__(self, pool: ConversionPool, memory: MemoryBudget) -> None:
        """`pool` inflates compressed messages."""
        self.pool = pool
        self.memory = MemoryBudget(memory.limit // 2, memory)
        """A client decides how long a message stays incomplete. So incomplete messages may not take
        the memory of all other requests."""
        self.turn = asyncio.Lock()
        """Held for one step of a piece with many messages: of all such pieces, only one takes a
        step in an iteration of the event loop."""


class GrpcBodyCheck(PassBody):
    """Checks the body of a call. The server never gets the end of a refused message."""

    __slots__ = ("_caller", "_charged", "_checks", "_messages")

    mode = messages.CHECK_BODY

    def __init__(
        self,
        target: Target,
        limit: int,
        headers: Mapping[str, bytes],
        checks: BodyChecks,
        caller: str = "",
    ) -> None:
        """`limit` is the size of one message in bytes: a stream has no total size.

        Threads inflate compressed messages on behalf of `caller`.
        """
        method = method_name(headers[":path"])
        self._messages = GrpcMessages(
            ModelRequestCheck(None if method in SERVER_METHODS else target),
            headers.get("grpc-encoding", b""),
            limit,
            single=method != _STREAMING_METHOD,
        )
        self._checks = checks
        self._caller = caller
        self._charged = 0
        """Bytes that are reserved for this call."""

    def request_body(self, body: HttpBody) -> Result | Awaitable[Result]:
        """Check the messages that a chunk completes."""
        refusal = self.check(body.body, last=body.end_of_stream)
        if refusal is None or isinstance(refusal, Refusal):
            return refusal or messages.PASS["request_body"]
        return _pass_later(refusal)

    def request_trailers(self, trailers: HttpTrailers) -> Result:
        """Refuse a request with trailers."""
        return _TRAILERS

    def close(self) -> None:
        """Release the memory of an incomplete message."""
        self._checks.memory.release(self._charged)
        self._charged = 0

    def check(self, chunk: bytes, *, last: bool) -> Refusal | Awaitable[Refusal | None] | None:
        """Check the messages that a chunk completes. Returns a refusal; None if they may pass.

        The result must be awaited if messages are compressed, or if there are many.
        """
        self._messages.add(chunk)
        progress = self._settled(self._messages.step())
        if progress is Progress.MORE or progress is Progress.COMPRESSED:
            return self._check_later(progress, last=last)
        return self._judged(progress, last=last)

    async def _check_later(self, progress: Refusal | Progress, *, last: bool) -> Refusal | None:
        while progress is Progress.MORE or progress is Progress.COMPRESSED:
            if progress is Progress.COMPRESSED:
                progress = await self._inflate()
            else:
                async with self._checks.turn:
                    await asyncio.sleep(0)
                    progress = self._messages.step()
            progress = self._settled(progress)
        return self._judged(progress, last=last)

    async def _inflate(self) -> Refusal | Progress:
        """Run steps on a thread, because they may inflate large messages."""
        results: list[Refusal | Progress] = []

        def inflate() -> bytes:
            results.append(self._messages.step(inflate=True))
            return b""

        try:
            await self._checks.pool.for_caller(self._caller).run(
                "grpc-inflate", inflate, self._messages.unread
            )
        except ConversionError as error:
            error.__traceback__ = None  # as in ConvertBody: frees the frames that refer to it
            return _refusal(error)
        return results.pop()

    def _settled(self, progress: Refusal | Progress) -> Refusal | Progress:
        """Reserve the memory of what the call holds now; refuses the call if there is none."""
        more = len(self._messages) - self._charged
        if more > 0 and not self._checks.memory.reserve(more):
            return MEMORY_EXHAUSTED
        if more < 0:
            self._checks.memory.release(-more)
        self._charged += more
        return progress

    def _judged(self, progress: Refusal | Progress, *, last: bool) -> Refusal | None:
        if isinstance(progress, Refusal):
            return progress
        if last and not self._messages.count and not self._messages.incomplete:
            return MISSING_MESSAGE
        return _INCOMPLETE if last and self._messages.incomplete else None


async def _pass_later(refusal: Awaitable[Refusal | None]) -> Result:
    return await refusal or messages.PASS["request_body"]


def _refusal(error: ConversionError) -> Refusal:
    """The refusal of a call whose messages no thread can inflate now."""
    retry = () if error.retry_after is None else (("retry-after", str(error.retry_after)),)
    return Refusal(error.reason, f"{error.field}: {error.detail}", retry, field=error.field)
