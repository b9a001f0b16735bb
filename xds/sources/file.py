"""A config source that reads a file, and watches it and the key set files that it names."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import Change, awatch

from sluice.config import ConfigError, policy_document
from sluice.config.load import load
from sluice.config.policy import jwks_files
from xds.sources.source import LoadedConfig

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
        self._digest = b""

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self._path)

    def read(self) -> LoadedConfig:
        """Read the config and the key set files. Raises ConfigError with every error."""
        self._files, self._digest = (self._path,), _digest((self._path,))
        config = load(self._path)
        self._files = (self._path, *jwks_files(config, self._directory))
        # Computed before the key sets are read, so that a change in between is detected.
        self._digest = _digest(self._files)
        return LoadedConfig(config, policy_document(config, self._directory), self._directory)

    async def changes(self) -> AsyncIterator[LoadedConfig | ConfigError]:
        """The config after every change of the file or of a key set file."""
        while True:
            watched = self._directories()
            async for _ in awatch(
                *watched,
                watch_filter=self._is_relevant,
                debounce=MAX_SETTLE_MS,
                step=SETTLE_MS,
                rust_timeout=POLL_MS,
                yield_on_timeout=True,
                recursive=False,
            ):
                if await asyncio.to_thread(_digest, self._files) == self._digest:
                    continue
                yield await asyncio.to_thread(self._read_or_error)
                if self._directories() != watched:
                    break

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
        parents = {file.parent.resolve() for file in self._files}
        return tuple(sorted(parent for parent in parents if parent.is_dir()))


def _digest(files: tuple[Path, ...]) -> bytes:
    digest = hashlib.sha256()
    for file in files:
        try:
            content = file.read_bytes()
        except OSError as error:
            content = str(error.errno).encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.digest()
