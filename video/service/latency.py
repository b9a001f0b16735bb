"""Counts results by latency: from the arrival of the frame to the event."""

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import Final

from protos.video_pb2 import StreamTotals
from video.streams.parts import StreamParts
from video.streams.settings import StreamSettings

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets in seconds."""


@dataclass(slots=True)
class Histogram:
    """`counts` has one more number than there are buckets, for results that are slower."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0

    def add(self, latency: float) -> None:
        """Count a result. `latency` in seconds."""
        self.counts[bisect_left(BUCKETS, latency)] += 1
        self.seconds += latency

    def write(self, total: StreamTotals) -> None:
        """Write the counts into a message."""
        del total.latencies[:]
        total.latencies.extend(self.counts)
        total.seconds = self.seconds


class Latencies:
    """The latencies of each camera, and of the uploads of each model."""

    def __init__(self) -> None:
        self._cameras: dict[str, Histogram] = {}
        self._uploads: dict[str, Histogram] = {}

    def of_camera(self, stream: str) -> Histogram:
        """The latencies of a camera."""
        return self._cameras.setdefault(stream, Histogram())

    def of_uploads(self, model: str) -> Histogram:
        """The latencies of the uploads of a model."""
        return self._uploads.setdefault(model, Histogram())

    def forget_cameras(self, kept: set[str]) -> None:
        """Forget the cameras that are not among these."""
        for name in self._cameras.keys() - kept:
            del self._cameras[name]

    def observe_camera(self, settings: StreamSettings, seconds: float) -> None:
        """Count a result of a camera."""
        self.of_camera(settings.name).add(seconds)

    def observing_uploads(self, parts: StreamParts) -> StreamParts:
        """The parts of an upload."""
        return replace(parts, observe=self._observe_upload)

    def _observe_upload(self, settings: StreamSettings, seconds: float) -> None:
        self.of_uploads(settings.model_name).add(seconds)
