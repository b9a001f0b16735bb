"""The state of a stream, as operators and metrics see it."""

from dataclasses import dataclass
from enum import StrEnum

from protos import video_pb2
from video.streams.counts import StreamCounts


class StreamState(StrEnum):
    """What a stream does."""

    CONNECTING = "connecting"
    RUNNING = "running"
    WAITING = "waiting"
    """Waits before it connects again."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A snapshot of a stream.

    `seconds`: since the stream entered its state. Rates are per second, and latencies (from the
    arrival of a frame to its event) in milliseconds, over the last 10 seconds; latencies are 0
    without results. `error`: why the stream does not run, or why its last frame failed.
    """

    name: str
    model: str
    state: StreamState
    seconds: float
    counts: StreamCounts
    frames_per_second: float
    results_per_second: float
    p50: float
    p99: float
    error: str
    upload: bool
    sinks: tuple[video_pb2.SinkStatus, ...] = ()

    def message(self) -> video_pb2.StreamStatus:
        """The status as protobuf."""
        return video_pb2.StreamStatus(
            name=self.name,
            model=self.model,
            state=self.state,
            seconds=self.seconds,
            counts=self.counts.message(),
            frames_per_second=self.frames_per_second,
            results_per_second=self.results_per_second,
            p50=self.p50,
            p99=self.p99,
            error=self.error,
            upload=self.upload,
            sinks=self.sinks,
        )
