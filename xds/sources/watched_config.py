"""Watches the files of a config, and reads the config again after a change.

A change is reported only when its files are complete (`xds.sources.written`): half of a config may
be a valid config.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic

from watchfiles import Change

from sluice.config import ConfigError, GatewayConfig
from sluice.config.checked import LoadedConfig
from xds.sources.folder_events import FolderEvents
from xds.sources.reading import Reading, digests_of, states_of
from xds.sources.written import CHECK_INTERVAL, LONG_QUIET, is_being_written, needed_quiet


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
        self._events = FolderEvents("the config", self._is_relevant)

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
            async for _ in self._events.of(watched):
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
