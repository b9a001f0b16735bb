"""Counts of the frames of a stream, and the equations that hold for them at any time."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from protos import video_pb2
from sluice.contract.video import DropReason, VideoReason


@dataclass(frozen=True, slots=True)
class StreamCounts:
    """A snapshot of the counts of a stream, over all its connections.

    `received` = `skipped` + `undecodable` + `frames`, and `frames` = `results` + `drops` +
    `errors` + `in_flight`. A frame is in flight from its arrival until its event is delivered.
    `drops` and `errors` are by reason, without those that did not occur.
    """

    skipped: int = 0
    undecodable: int = 0
    frames: int = 0
    results: int = 0
    drops: Mapping[DropReason, int] = field(default_factory=dict)
    errors: Mapping[VideoReason, int] = field(default_factory=dict)
    bytes: int = 0
    reconnects: int = 0

    @property
    def received(self) -> int:
        """All frames of the source."""
        return self.skipped + self.undecodable + self.frames

    @property
    def in_flight(self) -> int:
        """Frames without an outcome."""
        ended = self.results + sum(self.drops.values()) + sum(self.errors.values())
        return self.frames - ended

    def message(self) -> video_pb2.Counts:
        """The counts as protobuf."""
        return video_pb2.Counts(
            received=self.received,
            skipped=self.skipped,
            undecodable=self.undecodable,
            frames=self.frames,
            results=self.results,
            drops={str(reason): count for reason, count in self.drops.items()},
            errors={str(reason): count for reason, count in self.errors.items()},
            bytes=self.bytes,
            reconnects=self.reconnects,
        )
