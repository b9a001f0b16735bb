"""Watches the files of a config, and reads the config again after a change.

A change is reported only when its files are complete (`xds.sources.written`): half of a config may
be a valid config.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic

from watchfiles import Change, awatch

from sluice.config import ConfigError, GatewayConfig
from sluice.config.checked import LoadedConfig
from xds.sources.reading import Reading, digests_of, states_of
from xds.sources.written import LONG_QUIET, is_being_written, needed_quiet

log = logging.getLogger(__name__)

SETTLE_MS = 20
"""Milliseconds without events before the files are read: editors write a file several times."""

MAX_SETTLE_MS = 200
"""Milliseconds after which the files are read even if there are further events."""

POLL_MS = 1000
"""Milliseconds after which the files are compared even without an event: NFS sends no events."""

CHECK_INTERVAL = 0.02
"""Seconds between two looks at files that may be incomplete."""


class WatchedConfig:
    """Watches the files of the config that `read` reads. `reported` names the first of them.

    While `hold` returns True, in a thread, a change is not reported: another change will follow.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Reading]],
        reported: Reading,
        hold: Callable[[], bool] = lambda: False,
    ) -> None:
        self._read = read
        self._reported = reported
        self._hold = hold
        self._config: GatewayConfig | None = None
        """The latest valid config that was reported."""
        self._watch_failed = False

    @property
    def reported(self) -> Reading:
        """The reading that was reported last."""
        return self._reported

    def report(self, reading: Reading) -> None:
        """Record what the reader of `changes` knows: a change is one from this reading."""
        self._reported = reading
        if isinstance(reading.result, LoadedConfig):
            self._config = reading.result.config

    async def changes(self) -> AsyncIterator[Reading]:
        """The config after every change of its files. It is reported already.

        The iterator does not end, and raises no exception.
        """
        while True:
            watched = self._directories()
            async for _ in self._events(watched):
                reading = await self._change()
                if reading is not None:
                    self.report(reading)
                    yield reading
                if self._directories() != watched:
                    break

    async def _change(self) -> Reading | None:
        """The reading after a change; None if nothing has changed since the last report."""
        known = self._reported
        if await asyncio.to_thread(digests_of, known.digests) == known.digests:
            return None
        reading = await self._read_complete()
        if reading.digests == known.digests or await asyncio.to_thread(self._hold):
            return None
        # Another reading may have been reported meanwhile.
        return reading if self._reported is known else None

    async def _read_complete(self) -> Reading:
        """Read the files, and read them again until they were complete."""
        while True:
            start = monotonic()
            reading = await self._read()
            while await asyncio.to_thread(states_of, reading.states) == reading.states:
                if monotonic() - start >= await asyncio.to_thread(self._needed_quiet, reading):
                    return reading
                await asyncio.sleep(CHECK_INTERVAL)

    def _needed_quiet(self, reading: Reading) -> float:
        """Seconds without a further change after which the files of a read are complete."""
        known = self._reported.states
        quiets = [
            needed_quiet(state, known.get(file), written=is_being_written(file))
            for file, state in reading.states.items()
            if state != known.get(file)
        ]
        quiet = max(quiets, default=0.0)
        if quiet > 0 and _may_lack_a_part(self._config, reading.result):
            return max(quiet, LONG_QUIET)
        return quiet

    async def _events(self, directories: tuple[Path, ...]) -> AsyncIterator[object]:
        """Yields after events in the directories, and every `POLL_MS`."""
        if not directories:
            await asyncio.sleep(POLL_MS / 1000)
            yield None
            return
        try:
            async for event in awatch(
                *directories,
                watch_filter=self._is_relevant,
                debounce=MAX_SETTLE_MS,
                step=SETTLE_MS,
                rust_timeout=POLL_MS,
                yield_on_timeout=True,
                recursive=False,
            ):
                yield event
        except (OSError, RuntimeError) as error:
            # Without inotify watches, or without the directories, the files are still compared.
            if not self._watch_failed:
                log.warning("cannot watch the config, and compare it every second: %s", error)
            self._watch_failed = True
            await asyncio.sleep(POLL_MS / 1000)
            yield None

    def _is_relevant(self, _: Change, path: str) -> bool:
        # Kubernetes changes all files of a mounted volume by replacing the symbolic link `..data`.
        name = Path(path).name
        return name.startswith("..") or any(file.name == name for file in self._reported.digests)

    def _directories(self) -> tuple[Path, ...]:
        # Directories, not files: the watch of a file ends when an editor or Kubernetes replaces it.
        parents = {_resolved(file.parent) for file in self._reported.digests}
        return tuple(sorted(parent for parent in parents if parent.is_dir()))


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # symbolic links in a cycle
        return path


def _may_lack_a_part(before: GatewayConfig | None, result: LoadedConfig | ConfigError) -> bool:
    """Whether a read may have found only a part of the config that is being written."""
    if isinstance(result, ConfigError):
        return True
    if before is None:
        return False
    sections = before.model_fields_set - result.config.model_fields_set
    return bool(sections) or not before.models.keys() <= result.config.models.keys()
