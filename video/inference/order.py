"""Puts the outcomes of frames into the order of the frames."""

from collections import deque
from collections.abc import Sequence

from video.inference.pending import PendingFrame


class FrameOrder:
    """The frames of a session that have a slot or wait for the outcome of an earlier frame."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._frames = deque[PendingFrame]()
        self.held = 0
        """Frames with an outcome that wait for an earlier frame."""

    def add(self, frame: PendingFrame) -> None:
        """Add a frame. It comes after those that were added before."""
        if self._ordered:
            self._frames.append(frame)

    def finish(self, frames: Sequence[PendingFrame]) -> Sequence[PendingFrame]:
        """The frames whose events are due, after `frames` got their outcomes."""
        if not self._ordered:
            return frames
        due = []
        while self._frames and self._frames[0].outcome is not None:
            due.append(self._frames.popleft())
        self.held += len(frames) - len(due)
        return due
