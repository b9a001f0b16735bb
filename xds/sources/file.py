"""A config source that reads a file, and watches it and the files that it names."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic, sleep

from sluice.config import ConfigError
from sluice.config.checked import LoadedConfig
from sluice.config.load import read_text
from sluice.config.reader import ConfigReader
from xds.sources.reading import Reading, digests_of, read_config
from xds.sources.watched_config import WatchedConfig
from xds.sources.written import CHECK_INTERVAL, MAX_OPEN, is_being_written


class ConfigFile:
    """Reads a config file. Names of files in it are relative to `directory`; None: its folder."""

    def __init__(self, path: Path, directory: Path | None = None) -> None:
        self._path = path
        self._directory = path.parent if directory is None else directory
        self._reader = ConfigReader()
        unread = Reading(ConfigError([]), {}, {path: b""})
        self._watched = WatchedConfig(lambda: asyncio.to_thread(self._read), unread)

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self._path)

    @property
    def reading(self) -> Reading:
        """The latest reading that `read` or `changes` has reported, without the file itself."""
        return self._watched.reported.without(self._path)

    def has_changed(self) -> bool:
        """Whether the file differs from the latest reading."""
        return digests_of([self._path])[self._path] != self._watched.reported.digests[self._path]

    def leave_named_files(self) -> None:
        """Watch only the file itself, until it changes: somebody else watches those it names."""
        self._watched.report(self._watched.reported.only(self._path))

    def read(self) -> LoadedConfig:
        """Read the config and the files that it names. Raises ConfigError with every error.

        Blocks up to `MAX_OPEN` seconds while a process has the config open for writing.
        """
        start = monotonic()
        while is_being_written(self._path) and monotonic() - start < MAX_OPEN:
            sleep(CHECK_INTERVAL)
        reading = self._read()
        self._watched.report(reading)
        return reading.loaded

    async def changes(self) -> AsyncIterator[LoadedConfig | ConfigError]:
        """The config after every change of the file or of a file that it names.

        A ConfigError is yielded. The iterator does not end, and raises no exception.
        """
        async for reading in self._watched.changes():
            yield reading.result

    def _read(self) -> Reading:
        return read_config(
            self._reader, lambda: read_text(self._path), self.name, self._directory, [self._path]
        )
