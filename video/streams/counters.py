"""Counts the frames of a stream over all its sessions."""

from collections import Counter

from sluice.contract.video import DropReason, VideoReason
from video.streams.counts import StreamCounts
from video.streams.session import Session


class FrameCounters:
    """The counts of a stream. All methods must be called on the event loop.

    The source and the hand-over of the present session count by themselves, on the source thread.
    """

    def __init__(self) -> None:
        self.results = 0
        self.errors = Counter[VideoReason]()
        self.reconnects = 0
        self._session: Session | None = None
        self._skipped = 0
        self._undecodable = 0
        self._bytes = 0
        self._frames = 0
        self._drops = Counter[DropReason]()

    def begin(self, session: Session) -> None:
        """Count the frames of a session."""
        self._session = session

    def finish(self) -> None:
        """Keep the counts of the session, which has ended."""
        counts = self.snapshot()
        self._session = None
        self._skipped, self._undecodable = counts.skipped, counts.undecodable
        self._bytes, self._frames = counts.bytes, counts.frames
        self._drops = Counter(counts.drops)

    def snapshot(self) -> StreamCounts:
        """The counts now."""
        drops = self._drops.copy()
        skipped, undecodable, size = self._skipped, self._undecodable, self._bytes
        frames = self._frames
        if self._session is not None:
            hand_over = self._session.slots.hand_over
            # Drops are read before frames: the source thread counts them in the other order.
            drops.update(hand_over.drops)
            drops[DropReason.END] += self._session.slots.dropped_at_end
            frames += hand_over.frames
            source = self._session.source.counts
            skipped += source.skipped
            undecodable += source.undecodable
            size += source.bytes
        return StreamCounts(
            skipped=skipped,
            undecodable=undecodable,
            frames=frames,
            results=self.results,
            drops={reason: count for reason, count in drops.items() if count},
            errors=dict(self.errors),
            bytes=size,
            reconnects=self.reconnects,
        )
