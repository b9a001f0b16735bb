"""A config source that reads a file, and watches it and the files that it names.

A change is reported only when its files are complete (`xds.sources.written`): half of a config may
be a valid config.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from watchfiles import Change, awatch

from sluice.config import ConfigError, GatewayConfig
from sluice.config.checked import LoadedConfig, check_files
from sluice.config.files import read_file
from sluice.config.load import MAX_FILE, read_text
from sluice.config.named_files import MAY_RUN_ELSEWHERE, watched_files
from sluice.config.reader import ConfigReader
from xds.sources.source import unexpected_error
from xds.sources.written import (
    LONG_QUIET,
    MAX_OPEN,
    FileState,
    file_state,
    is_being_written,
    needed_quiet,
)

log = logging.getLogger(__name__)

SETTLE_MS = 20
"""Milliseconds without events before the files are read: editors write a file several times."""

MAX_SETTLE_MS = 200
"""Milliseconds after which the files are read even if there are further events."""

POLL_MS = 1000
"""Milliseconds after which the files are compared even without an event: NFS sends no events."""

CHECK_INTERVAL = 0.02
"""Seconds between two looks at files that may be incomplete."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One read of the config. `states` and `digests` are from before each file was read."""

    result: LoadedConfig | ConfigError
    states: Mapping[Path, FileState]
    digests: Mapping[Path, bytes]


class ConfigFile:
    """Reads a config file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._directory = path.parent
        self._reader = ConfigReader()
        self._reported = _Reading(ConfigError([]), {}, {path: b""})
        """The read that was reported last."""
        self._config: GatewayConfig | None = None
        """The latest valid config that was reported."""
        self._watch_failed = False

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self._path)

    def read(self) -> LoadedConfig:
        """Read the config and the files that it names. Raises ConfigError with every error.

        Blocks up to `MAX_OPEN` seconds while a process has the config open for writing.
        """
        start = monotonic()
        while is_being_written(self._path) and monotonic() - start < MAX_OPEN:
            sleep(CHECK_INTERVAL)
        result = self._report(self._read())
        if isinstance(result, ConfigError):
            raise result
        return result

    def _report(self, reading: _Reading) -> LoadedConfig | ConfigError:
        self._reported = reading
        if isinstance(reading.result, LoadedConfig):
            self._config = reading.result.config
        return reading.result

    def _read(self) -> _Reading:
        states, digests = _states([self._path]), _digests([self._path])
        result: LoadedConfig | ConfigError
        try:
            config, place = self._reader.read(read_text(self._path), self.name)
            named = watched_files(config, self._directory)
            states |= _states(named)
            digests |= _digests(named)
            result = check_files(config, self._directory, MAY_RUN_ELSEWHERE, place)
        except ConfigError as error:
            result = error
        except Exception as error:
            result = unexpected_error(self.name, error)
        return _Reading(result, states, digests)

    async def changes(self) -> AsyncIterator[LoadedConfig | ConfigError]:
        """The config after every change of the file or of a key set file.

        A ConfigError is yielded. The iterator does not end, and raises no exception.
        """
        while True:
            watched = self._directories()
            async for _ in self._events(watched):
                known = self._reported
                if await asyncio.to_thread(_digests, known.digests) == known.digests:
                    continue
                reading = await self._read_complete()
                if reading.digests == known.digests:
                    continue
                yield self._report(reading)
                if self._directories() != watched:
                    break

    async def _read_complete(self) -> _Reading:
        """Read the files, and read them again until they were complete."""
        while True:
            start = monotonic()
            reading = await asyncio.to_thread(self._read)
            while await asyncio.to_thread(_states, reading.states) == reading.states:
                if monotonic() - start >= await asyncio.to_thread(self._needed_quiet, reading):
                    return reading
                await asyncio.sleep(CHECK_INTERVAL)

    def _needed_quiet(self, reading: _Reading) -> float:
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


def _states(files: Iterable[Path]) -> dict[Path, FileState]:
    return {file: file_state(file) for file in files}


def _digests(files: Iterable[Path]) -> dict[Path, bytes]:
    return {file: _digest(file) for file in files}


def _digest(file: Path) -> bytes:
    try:
        content = read_file(file, MAX_FILE)
    except OSError as error:
        content = str(error.errno).encode()
    return hashlib.sha256(content).digest()
