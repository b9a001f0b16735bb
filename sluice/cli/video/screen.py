"""Where `sluice video` shows a stream: a live view at a terminal, or lines of JSON."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from sluice.cli.output import rendered, terminal
from sluice.cli.video.lines import EventLines
from sluice.cli.video.view import LatestEvents, view
from video.streams.status import StreamState, StreamStatus
from video.streams.stream import Stream

if TYPE_CHECKING:
    from rich.live import Live


class Screen(Protocol):
    """Shows one stream."""

    @property
    def closed(self) -> bool:
        """Whether nobody sees it any more."""

    def refresh(self) -> None:
        """Show the present state."""

    async def finish(self) -> None:
        """Return when all is shown. Raises BrokenPipeError if nobody sees it."""


class JsonScreen:
    """Prints each event."""

    def __init__(self, stream: Stream) -> None:
        self._lines = EventLines()
        stream.add_output(self._lines)

    @property
    def closed(self) -> bool:
        """Whether nobody reads the events any more."""
        return self._lines.closed.is_set()

    def refresh(self) -> None:
        """Nothing: events show themselves."""

    async def finish(self) -> None:
        """Return when all events are printed."""
        await self._lines.finish()


class LiveScreen:
    """A view at the terminal that is shown anew again and again. `source`: its text for people."""

    closed = False

    def __init__(self, source: str, stream: Stream, live: "Live") -> None:
        self._source, self._stream, self._live = source, stream, live
        self._latest = LatestEvents()
        self._running: StreamStatus | None = None
        """The last status of the stream while it ran."""
        stream.add_output(self._latest)

    def refresh(self) -> None:
        """Show the present state."""
        status = self._stream.status()
        if status.state is StreamState.RUNNING:
            self._running = status
        self._show(status)

    async def finish(self) -> None:
        """Show the last state, with the rates of before."""
        status, running = self._stream.status(), self._running
        if running is not None:
            status = replace(
                status, seconds=running.seconds, frames_per_second=running.frames_per_second
            )
        self._show(status)

    def _show(self, status: StreamStatus) -> None:
        self._live.update(rendered(view(self._source, status, self._latest)), refresh=True)


@contextmanager
def live_screen(source: str, stream: Stream) -> Iterator[LiveScreen]:
    """The view of a stream while the block runs."""
    from rich.live import Live

    with Live(console=terminal(), auto_refresh=False, vertical_overflow="crop") as live:
        yield LiveScreen(source, stream, live)
