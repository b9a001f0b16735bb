"""The streams of a worker: starts, changes and stops the configured ones while others run."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from video.output import Output
from video.streams.camera import Camera, ConfiguredStream
from video.streams.parts import StreamParts
from video.streams.status import StreamStatus
from video.streams.stream import Stream


class StreamRegistry:
    """All streams of a worker. Use it on the event loop.

    `grace`: seconds for requests in flight and then for sinks, together, when a camera is removed.
    """

    def __init__(self, parts: StreamParts, grace: float) -> None:
        self.parts = parts
        self._grace = grace
        self._cameras = dict[str, Camera]()
        self._uploads = dict[int, Stream]()

    def apply(self, wanted: Mapping[str, ConfiguredStream]) -> None:
        """Run these cameras: start the new ones, and stop or restart those that differ.

        Returns at once. Raises ValueError for a model without video; then nothing changes.
        """
        for configured in wanted.values():
            Stream(configured.settings, self.parts, upload=False)
        for name, configured in wanted.items():
            if (camera := self._cameras.get(name)) is None or camera.ended.is_set():
                self._cameras[name] = Camera(configured, self.parts, self._grace)
            else:
                camera.want(configured)
        for name, camera in tuple(self._cameras.items()):
            if name not in wanted:
                camera.want(None)
                if camera.ended.is_set():
                    del self._cameras[name]

    @contextmanager
    def watch(self, name: str, output: Output) -> Iterator[asyncio.Event]:
        """Give the output the events of a camera. Yields an event that is set at its removal.

        Raises KeyError if this worker does not run the camera.
        """
        camera = self._cameras[name]
        if not camera.is_wanted:
            raise KeyError(name)
        camera.watch(output)
        try:
            yield camera.ended
        finally:
            camera.unwatch(output)

    @contextmanager
    def listed(self, upload: Stream) -> Iterator[None]:
        """Have an upload in the snapshots while it runs."""
        self._uploads[id(upload)] = upload
        try:
            yield
        finally:
            del self._uploads[id(upload)]

    def snapshot(self) -> list[StreamStatus]:
        """The status of all streams: the cameras, then the uploads."""
        cameras = (camera for camera in self._cameras.values() if not camera.ended.is_set())
        uploads = self._uploads.values()
        return [*(camera.status() for camera in cameras), *(each.status() for each in uploads)]

    async def stop(self) -> None:
        """Stop all cameras, and return when their sinks have ended."""
        self.apply({})
        await asyncio.gather(*(camera.stopped() for camera in self._cameras.values()))
        self._cameras.clear()
