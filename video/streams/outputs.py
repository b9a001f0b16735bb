"""The outputs of a stream: gives them its events, and says when they are not ready."""

import asyncio
import logging
from collections.abc import Callable

from protos.video_pb2 import AnalysisResult
from video.frame import Frame
from video.output import Output

log = logging.getLogger(__name__)


class Outputs:
    """The outputs of one stream. They come and go while it runs.

    `changed` is called when `held_up` changes. An output that raises an exception is removed.
    """

    def __init__(self, stream: str, changed: Callable[[], None]) -> None:
        self._stream = stream
        self._changed = changed
        self._outputs: list[Output] = []
        self._waiting: asyncio.Task[None] | None = None
        self.wants_frames = False

    @property
    def held_up(self) -> bool:
        """Whether an output is not ready."""
        return self._waiting is not None

    def add(self, output: Output) -> None:
        """Give the output all events from now on."""
        self._outputs.append(output)
        self._update()

    def remove(self, output: Output) -> None:
        """Give the output no more events."""
        if output in self._outputs:
            self._outputs.remove(output)
            if self._waiting is not None:
                # The task may wait for this output.
                self._waiting.cancel()
                self._waiting = asyncio.create_task(self._wait_ready())
            self._update()

    def put(self, event: AnalysisResult, frame: Frame | None) -> None:
        """Give an event to all outputs."""
        for output in tuple(self._outputs):
            wants_frame = output.wants_frames
            if wants_frame and frame is None and not event.HasField("end"):
                continue  # the frame got its slot before this output came
            try:
                output.put(event, frame if wants_frame else None)
            except Exception:
                self._give_up(output)
        self.check()

    def check(self) -> None:
        """Look whether all outputs are ready."""
        if self._waiting is None and self._slow() is not None:
            self._waiting = asyncio.create_task(self._wait_ready())
            self._changed()

    def close(self) -> None:
        """Forget the outputs."""
        self._outputs.clear()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self.wants_frames = False

    def _update(self) -> None:
        self.wants_frames = any(output.wants_frames for output in self._outputs)
        self._changed()
        self.check()

    def _slow(self) -> Output | None:
        """An output that is not ready."""
        for output in tuple(self._outputs):
            try:
                if not output.ready():
                    return output
            except Exception:
                self._give_up(output)
        return None

    async def _wait_ready(self) -> None:
        while (output := self._slow()) is not None:
            try:
                await output.wait_ready()
            except Exception:
                self._give_up(output)
        self._waiting = None
        self._changed()

    def _give_up(self, output: Output) -> None:
        kind = type(output).__name__
        log.exception(
            "stream %s: an output has failed and gets no more events: %s", self._stream, kind
        )
        self._outputs.remove(output)
        self.wants_frames = any(output.wants_frames for output in self._outputs)
