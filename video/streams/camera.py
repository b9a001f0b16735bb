"""A configured stream: runs it with its sinks, and again with other settings after each change."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from video.inference.caller_headers import Metadata
from video.output import Output
from video.source import FrameSource
from video.streams.counters import FrameCounters
from video.streams.parts import StreamParts
from video.streams.pulled import PulledStream
from video.streams.settings import StreamSettings
from video.streams.sinks import ConfiguredSink, RunningSinks
from video.streams.status import StreamStatus
from video.streams.stream import Stream

log = logging.getLogger(__name__)

_PAUSE_AFTER_ERROR: Final = 5.0
"""Seconds after which a stream that ended with an unexpected error is started again."""


@dataclass(frozen=True, slots=True)
class ConfiguredStream:
    """A camera of the config. A running stream that is equal is not touched.

    `caller`: the headers with credentials for the gateway. `content`: what differs if the camera,
    its credentials or its sinks do, such as the resource of the stream.
    """

    settings: StreamSettings
    caller: Metadata = field(repr=False)
    content: bytes = field(repr=False)
    open_source: Callable[[], FrameSource] = field(compare=False, repr=False)
    sinks: tuple[ConfiguredSink, ...] = ()


class Camera:
    """Runs a configured stream until it has no settings any more.

    `grace`: seconds for requests in flight and then for sinks, together, when the stream stops or
    changes. Watchers, counts and the sinks that do not change stay over changes. The counts of
    another model begin anew. `ended` is set when the stream is removed.
    """

    def __init__(self, wanted: ConfiguredStream, parts: StreamParts, grace: float) -> None:
        self.ended = asyncio.Event()
        self._parts, self._grace = parts, grace
        self._wanted: ConfiguredStream | None = wanted
        self._changed = asyncio.Event()
        self._changed_at = time.monotonic()
        self._watchers: list[Output] = []
        self._name = wanted.settings.name
        self._sinks = RunningSinks()
        self._stream = Stream(wanted.settings, parts, upload=False)
        self._task = asyncio.create_task(self._run())

    @property
    def is_wanted(self) -> bool:
        """Whether the stream is in the config."""
        return self._wanted is not None

    def want(self, wanted: ConfiguredStream | None) -> None:
        """Change the settings. None: the stream is removed."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed_at = time.monotonic()
            self._changed.set()

    async def stopped(self) -> None:
        """Return when the stream has stopped after its removal."""
        await asyncio.wait((self._task,))

    def watch(self, output: Output) -> None:
        """Give the output all events from now on."""
        self._watchers.append(output)
        self._stream.add_output(output)

    def unwatch(self, output: Output) -> None:
        """Give the output no more events."""
        self._watchers.remove(output)
        self._stream.remove_output(output)

    def status(self) -> StreamStatus:
        """The status now."""
        return replace(self._stream.status(), sinks=self._sinks.statuses())

    async def _run(self) -> None:
        try:
            while (wanted := self._wanted) is not None or self._sinks:
                self._changed.clear()
                try:
                    if wanted is None:
                        await self._sinks.change((), self._grace_left())
                    else:
                        await self._run_with(wanted)
                except Exception:
                    log.exception("stream %s has failed", self._name)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_PAUSE_AFTER_ERROR):
                            await self._changed.wait()
        finally:
            self.ended.set()

    def _grace_left(self) -> float:
        # The supervisor kills a worker that takes longer to stop.
        return max(0.0, self._changed_at + self._grace - time.monotonic())

    async def _run_with(self, wanted: ConfiguredStream) -> None:
        """Run the stream until its settings change."""
        self._stream = stream = self._new_stream(wanted.settings)
        for watcher in self._watchers:
            stream.add_output(watcher)
        try:
            await self._sinks.change(wanted.sinks, self._grace_left())
            for sink in self._sinks:
                stream.add_output(sink)
            await self._pull(stream, wanted)
        finally:
            stream.close()

    def _new_stream(self, settings: StreamSettings) -> Stream:
        same_model = settings.model_name == self._stream.settings.model_name
        counters = self._stream.counters if same_model else FrameCounters()
        return Stream(settings, self._parts, upload=False, counters=counters)

    async def _pull(self, stream: Stream, wanted: ConfiguredStream) -> None:
        pulled = PulledStream(stream, wanted.open_source, wanted.caller)
        running = asyncio.create_task(pulled.run())
        changed = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait((running, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            pulled.stop(self._grace_left())
            await running
