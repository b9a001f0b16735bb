"""The interface of outputs: where the events of a stream go."""

from typing import Protocol

from protos.video_pb2 import AnalysisResult, SinkStatus
from video.frame import Frame


class Output(Protocol):
    """Takes the events of one stream. All methods are called on the event loop.

    While an output is not ready, no frame of the stream gets a slot. The frames that have a slot
    still deliver their events, so an output needs room for so many more: at most two for each
    request that the stream may have in flight, and the last event. An output that must never hold
    up the stream, such as that of a watcher, is always ready and drops events itself.

    If a method raises an exception, the stream logs it and stops using the output.
    """

    wants_frames: bool
    """Whether `put` needs the frame. The stream then keeps each frame until its event."""

    def ready(self) -> bool:
        """Whether there is room for events of frames that have no slot yet."""

    async def wait_ready(self) -> None:
        """Return when `ready` is true."""

    def put(self, event: AnalysisResult, frame: Frame | None) -> None:
        """Take the event, also while the output is not ready. Must not block.

        `frame` is None without `wants_frames`, and for the last event of a session.
        """


class Sink(Output, Protocol):
    """An output of a configured stream, which delivers events to another system."""

    async def start(self) -> None:
        """Begin to deliver. Raises no error for a system that cannot be reached yet."""

    async def stop(self, timeout: float) -> None:  # noqa: ASYNC109  # the sink shares it out itself
        """Deliver the events that wait, for `timeout` seconds at most, and end."""

    def status(self) -> SinkStatus:
        """What has been delivered, what waits, and why the last delivery failed."""
