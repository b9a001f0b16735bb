"""The slots of a session: takes frames, sends them, and delivers their outcomes in order."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from video.inference.hand_over import HandOver, Overload
from video.inference.order import FrameOrder
from video.inference.pending import PendingFrame
from video.inference.sender import FrameSender


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """Bounds of a session. `batch_delay` in seconds."""

    concurrency: int
    max_batch: int
    batch_delay: float
    ordered: bool
    overload: Overload


class Slots:
    """At most `concurrency` requests in flight, each with at most `max_batch` frames.

    `deliver` gets each frame with its outcome. Outcomes that wait for an earlier frame are bounded,
    too: while there is one for each frame that may be in flight, no frame gets a slot. All methods
    must be called on the event loop, except those of `hand_over` for the source thread.
    """

    def __init__(
        self,
        settings: SlotSettings,
        sender: FrameSender,
        deliver: Callable[[PendingFrame], None],
    ) -> None:
        self._settings = settings
        self._sender = sender
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self.hand_over = HandOver(self._wake, settings.max_batch, settings.overload)
        self._order = FrameOrder(ordered=settings.ordered)
        self._tasks = set[asyncio.Task[None]]()
        self._delay: asyncio.TimerHandle | None = None
        self._is_woken = False
        self._is_held_up = False
        self._has_ended = False
        self._is_closed = False
        self._is_idle = asyncio.Event()
        self.dropped_at_end = 0
        """Frames that waited when the session was closed."""
        self._set_free()

    @property
    def is_idle(self) -> bool:
        """Whether the source has ended and all frames are delivered or dropped."""
        return self._is_idle.is_set()

    def hold_up(self, *, held_up: bool) -> None:
        """Give no frame a slot, or do so again."""
        self._is_held_up = held_up
        if held_up and self._has_ended:
            self._drop_last()
        self._take()

    def end(self) -> None:
        """The source has ended: the frames that wait are the last ones.

        With `drop` they are dropped if an output holds up the session, so that the stream can
        connect again.
        """
        self._has_ended = True
        if self._is_held_up:
            self._drop_last()
        self._take()

    def close(self) -> None:
        """Give no frame a slot any more, and drop those that wait."""
        self._is_closed = True
        self.dropped_at_end += self.hand_over.close()
        self._take()

    async def idle(self) -> None:
        """Return when `is_idle` is true."""
        await self._is_idle.wait()

    async def cancel(self) -> None:
        """Cancel all requests. Their frames are delivered as failed."""
        await asyncio.sleep(0)  # a task that is cancelled before its first step does nothing at all
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _drop_last(self) -> None:
        if self._settings.overload == "drop":
            self.dropped_at_end += self.hand_over.close()

    # Called from the source thread.

    def _wake(self) -> None:
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._take_woken)

    # Event loop.

    def _take_woken(self) -> None:
        self._is_woken = False
        self._take()

    def _take(self) -> None:
        """Give waiting frames the free slots."""
        self._set_free()
        while self._free > 0 and not self._waits_for_batch():
            batch = self.hand_over.take(self._settings.max_batch)
            if not batch:
                break
            self._start(batch)
        if self._has_ended and not self._tasks and not self.hand_over.waiting():
            self._is_idle.set()

    def _waits_for_batch(self) -> bool:
        """Whether the frames that wait still wait for others of their batch."""
        settings = self._settings
        if not settings.batch_delay or self._has_ended:
            return False
        if self.hand_over.waiting() >= settings.max_batch:
            return False
        if (oldest := self.hand_over.oldest()) is None:
            return False
        offered = oldest.decoded + oldest.convert_seconds
        delay = offered + settings.batch_delay - time.monotonic()
        if delay > 0 and self._delay is None:
            self._delay = self._loop.call_later(delay, self._after_delay)
        return delay > 0

    def _after_delay(self) -> None:
        self._delay = None
        self._take()

    def _start(self, batch: Sequence[PendingFrame]) -> None:
        for frame in batch:
            self._order.add(frame)
        task = self._loop.create_task(self._send(batch))
        self._tasks.add(task)
        self._set_free()

    async def _send(self, batch: Sequence[PendingFrame]) -> None:
        try:
            await self._sender.send(batch)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.discard(task)
            try:
                for frame in self._order.finish(batch):
                    self._deliver(frame)
            finally:
                self._take()

    def _set_free(self) -> None:
        settings = self._settings
        held = self._order.held >= settings.concurrency * settings.max_batch
        if self._is_held_up or self._is_closed or held:
            self._free = 0
        else:
            self._free = settings.concurrency - len(self._tasks)
        self.hand_over.set_free(self._free, held_up=self._is_held_up)
