"""A config source that reads a file, and watches it and the key set files that it names."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import Change, awatch

from sluice.config import ConfigError, policy_document
from sluice.config.files import read_file
from sluice.config.load import MAX_FILE, load
from sluice.config.policy import jwks_files
from xds.sources.source import LoadedConfig, unexpected_error

log = logging.getLogger(__name__)

SETTLE_MS = 20
"""Milliseconds without events before a change is read: editors write a file several times."""

MAX_SETTLE_MS = 200
"""Milliseconds after which a change is read even if there are further events."""

POLL_MS = 1000
"""Milliseconds after which the files are compared even without an event: NFS sends no events."""


class ConfigFile:
    """Reads a config file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._directory = path.parent
        self._files: tuple[Path, ...] = (path,)
        self._digests: tuple[bytes, ...] = ()
        self._watch_failed = False

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self._path)

    def read(self) -> LoadedConfig:
        """Read the config and the key set files. Raises ConfigError with every error."""
        try:
            return self._read()
        except ConfigError:
            raise
        except Exception as error:
            raise unexpected_error(self.name, error) from None

    def _read(self) -> LoadedConfig:
        # A digest is computed before its file is read, so that a change in between is detected.
        self._files, self._digests = (self._path,), _digests((self._path,))
        config = load(self._path)
        key_sets = tuple(jwks_files(config, self._directory))
        self._files = (self._path, *key_sets)
        self._digests += _digests(key_sets)
        return LoadedConfig(config, policy_document(config, self._directory), self._directory)

    async def changes(self) -> AsyncIterator[LoadedConfig | ConfigError]:
        """The config after every change of the file or of a key set file.

        A ConfigError is yielded. The iterator does not end, and raises no exception.
        """
        while True:
            watched = self._directories()
            async for _ in self._events(watched):
                if await asyncio.to_thread(_digests, self._files) == self._digests:
                    continue
                yield await asyncio.to_thread(self._read_or_error)
                if self._directories() != watched:
                    break

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
        return name.startswith("..") or any(file.name == name for file in self._files)

    def _read_or_error(self) -> LoadedConfig | ConfigError:
        try:
            return self.read()
        except ConfigError as error:
            return error

    def _directories(self) -> tuple[Path, ...]:
        # Directories, not files: the watch of a file ends when an editor or Kubernetes replaces it.
        parents = {_resolved(file.parent) for file in self._files}
        return tuple(sorted(parent for parent in parents if parent.is_dir()))


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # symbolic links in a cycle
        return path


def _digests(files: tuple[Path, ...]) -> tuple[bytes, ...]:
    return tuple(map(_digest, files))


def _digest(file: Path) -> bytes:
    try:
        content = read_file(file, MAX_FILE)
    except OSError as error:
        content = str(error.errno).encode()
    return hashlib.sha256(content).digest()
