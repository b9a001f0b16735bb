"""Hands frames from the source thread over to the event loop, without a lock.

The waiting frames are in a deque, whose operations are atomic. Only the source thread appends. Both
sides remove from the left, so each frame is taken once. The event loop alone writes the number of
free slots. The source thread first appends a frame and then reads this number; the event loop first
writes the number and then looks for frames. So one of them sees what the other has done.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from sluice.contract.video import DropReason
from video.inference.pending import PendingFrame

Overload = Literal["drop", "wait"]

_LONGEST_WAIT: Final = 60.0
"""Seconds. A thread that waits looks again after this time, as a safeguard."""


class HandOver:
    """The frames of one session of a stream that wait for a slot.

    For each free slot, and for the next one, `max_batch` frames may wait. If there are more, `drop`
    removes the oldest frame, and `wait` holds up the source thread. `wake` is called on the source
    thread when the event loop must take frames. It must be cheap.
    """

    def __init__(self, wake: Callable[[], None], max_batch: int, overload: Overload) -> None:
        self._wake = wake
        self._max_batch = max_batch
        self._overload = overload
        self._waiting = deque[PendingFrame]()
        self._free = 0
        self._held_up = False
        self._closed = False
        self._has_room = threading.Event()
        self._source_waits = False
        self.frames = 0
        """Frames offered. Like `drops`, only the source thread writes it."""
        self.drops = dict.fromkeys(DropReason, 0)

    # Source thread.

    def converts_now(self) -> bool:
        """Whether the source thread converts the next frame: it will not be dropped."""
        if self._closed:
            return False
        return self._overload == "wait" or self._free * self._max_batch > len(self._waiting)

    def offer(self, frame: PendingFrame) -> None:
        """Let a frame wait for a slot. It is dropped if the session ends."""
        self.frames += 1
        if self._overload == "wait":
            self._wait_for_room()
        else:
            self._drop_oldest()
        self._waiting.append(frame)
        if self._closed:
            self._drop_all()
        elif self._free > 0:
            self._wake()

    def _room(self) -> int:
        return (self._free + 1) * self._max_batch

    def _wait_for_room(self) -> None:
        while len(self._waiting) >= self._room() and not self._closed:
            self._has_room.clear()
            self._source_waits = True
            if len(self._waiting) >= self._room() and not self._closed:
                self._has_room.wait(_LONGEST_WAIT)
            self._source_waits = False

    def _drop_oldest(self) -> None:
        while len(self._waiting) >= self._room():
            if not self.take(1):  # the event loop has taken it
                return
            self.drops[DropReason.SINK if self._held_up else DropReason.OVERLOAD] += 1

    def _drop_all(self) -> None:
        while self.take(1):
            self.drops[DropReason.END] += 1

    # Event loop.

    def set_free(self, slots: int, *, held_up: bool) -> None:
        """Say how many slots are free. `held_up`: none is, because an output is not ready."""
        self._held_up = held_up
        self._free = slots
        if self._source_waits:
            self._has_room.set()

    def waiting(self) -> int:
        """The number of frames that wait."""
        return len(self._waiting)

    def holds_up_source(self) -> bool:
        """Whether the source thread waits for room, or will with its next frame."""
        return self._overload == "wait" and len(self._waiting) >= self._room()

    def oldest(self) -> PendingFrame | None:
        """The frame that has waited longest."""
        try:
            return self._waiting[0]
        except IndexError:
            return None

    def take(self, maximum: int) -> list[PendingFrame]:
        """Take up to so many frames, the oldest first. Both sides may call it."""
        taken: list[PendingFrame] = []
        try:
            while len(taken) < maximum:
                taken.append(self._waiting.popleft())
        except IndexError:
            pass
        if self._source_waits:
            self._has_room.set()
        return taken

    def close(self) -> int:
        """End the session: drop all frames, also those to come. Returns the number of the waiting.

        They are not in `drops`.
        """
        self._closed = True
        self._has_room.set()
        return len(self.take(len(self._waiting) + 1))
