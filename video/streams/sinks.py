"""The sinks of a configured stream, which outlive the changes that do not concern them."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from protos.video_pb2 import SinkStatus
from video.output import Sink


@dataclass(frozen=True, slots=True)
class ConfiguredSink:
    """A sink of the config. A running sink that is equal is kept, with the events that wait.

    `content`: what differs if the config of the sink, its place or its secrets do.
    """

    content: bytes = field(repr=False)
    open: Callable[[], Sink] = field(compare=False, repr=False)


class RunningSinks:
    """The sinks that deliver now."""

    def __init__(self) -> None:
        self._running = dict[ConfiguredSink, Sink]()

    def __iter__(self) -> Iterator[Sink]:
        return iter(tuple(self._running.values()))

    def __len__(self) -> int:
        return len(self._running)

    async def change(self, wanted: Sequence[ConfiguredSink], grace: float) -> None:
        """Stop the sinks that are not wanted, and then start those that do not run.

        `grace`: seconds for the events of the sinks that stop.
        """
        removed = [each for each in self._running if each not in wanted]
        # A new sink may use the file or the spool of one that stops.
        await asyncio.gather(*(self._running.pop(each).stop(grace) for each in removed))
        for each in wanted:
            if each not in self._running:
                sink = each.open()
                await sink.start()
                self._running[each] = sink
        self._running = {each: self._running[each] for each in wanted}

    def statuses(self) -> tuple[SinkStatus, ...]:
        """What each sink has delivered, and what waits."""
        return tuple(sink.status() for sink in self)
