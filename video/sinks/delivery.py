"""Delivers the events of a stream to one sink: in order, in batches, each at least once."""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress

from protos.video_pb2 import AnalysisResult, SinkStatus
from sluice.printable import printable
from video.frame import Frame
from video.sinks.backoff import Backoff
from video.sinks.event_queue import EventQueue
from video.sinks.transport import DeliveryError, StoredEvent, Transport

log = logging.getLogger(__name__)

_MAX_ERROR = 300
"""Characters of an error. A part may come from the receiver."""
_LAST_DELAY = 0.2
"""Seconds between two attempts while the sink stops."""
_CLOSE_TIMEOUT = 5.0


class Sink:
    """An output that gives events to a receiver (`video.output.Output`).

    `name` names the sink in its stream.
    """

    wants_frames = False

    def __init__(self, name: str, stream: str, transport: Transport, queue: EventQueue) -> None:
        self._name, self._stream = name, stream
        self._transport, self._queue = transport, queue
        self._delivered = 0
        self._error = ""
        self._backoff = Backoff()
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._drained, self._stopping = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to deliver. Does not wait for the receiver."""
        self._task = asyncio.create_task(self._run(), name=f"sink {self._stream}/{self._name}")

    def status(self) -> SinkStatus:
        """What a sink has delivered. `error` is empty if the last attempt was successful."""
        error = self._error or self._queue.error
        return SinkStatus(
            name=self._name,
            delivered=self._delivered,
            waiting=self._queue.waiting,
            error=error,
        )

    def ready(self) -> bool:
        """Whether there is room for more events."""
        return not self._queue.full

    async def wait_ready(self) -> None:
        """Return when `ready` is true."""
        while self._queue.full:
            self._room.clear()
            await self._room.wait()

    def put(self, event: AnalysisResult, frame: Frame | None) -> None:
        """Take an event. The frame is not used."""
        self._queue.append(StoredEvent(event.id, self._transport.encode(event)))
        self._drained.clear()
        self._arrived.set()

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109  # not only for one wait
        """Deliver what waits, for at most `timeout` seconds, and end."""
        if self._task is None:
            return
        self._stopping.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._drained.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._transport.close()
        self._queue.close()
        if waiting := self._queue.waiting:
            log.warning("%s: stopped while %d events wait", self._label, waiting)

    @property
    def _label(self) -> str:
        return f"stream {self._stream}, sink {self._name}"

    async def _run(self) -> None:
        while not await self._opened():
            await self._pause()
        while True:
            try:
                batch = self._queue.oldest(self._transport.max_events, self._transport.max_bytes)
            except OSError as error:
                self._failed(f"spool: {error.strerror or type(error).__name__}")
                await self._pause()
                continue
            if batch:
                await self._deliver(batch)
                continue
            self._drained.set()
            self._arrived.clear()
            await self._arrived.wait()

    async def _opened(self) -> bool:
        try:
            await asyncio.to_thread(self._queue.open)
        except OSError as error:
            self._failed(f"spool: {error.strerror or type(error).__name__}")
            return False
        self._backoff.reset()
        return True

    async def _deliver(self, batch: Sequence[StoredEvent]) -> None:
        """Send a batch until the receiver has it."""
        while (retry_after := await self._attempt(batch)) is not None:
            await self._pause(retry_after)
        self._queue.confirm(len(batch))
        self._delivered += len(batch)
        self._backoff.reset()
        if self._error:
            log.info("%s: events are delivered again", self._label)
            self._error = ""
        if not self._queue.full:
            self._room.set()

    async def _attempt(self, batch: Sequence[StoredEvent]) -> float | None:
        """None if the receiver has the batch, else the seconds for which it asks to wait."""
        try:
            await self._transport.send(batch)
        except DeliveryError as error:
            self._failed(str(error))
            return error.retry_after
        except Exception as error:
            log.exception("%s: an attempt failed", self._label)
            self._failed(f"internal error ({type(error).__name__})")
            return 0.0
        return None

    def _failed(self, error: str) -> None:
        shown = printable(error, _MAX_ERROR)
        if not self._error:
            log.warning("%s: events are not delivered, and wait: %s", self._label, shown)
        self._error = shown

    async def _pause(self, retry_after: float = 0.0) -> None:
        if self._stopping.is_set():
            await asyncio.sleep(_LAST_DELAY)
            return
        delay = self._backoff.delay(random.random(), retry_after)  # noqa: S311
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stopping.wait()
