"""Reads a config and the files that it names, and remembers the state of each file."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from sluice.config import ConfigError, GatewayConfig
from sluice.config.checked import LoadedConfig, check_files
from sluice.config.errors import Place
from sluice.config.files import read_file
from sluice.config.load import MAX_FILE
from sluice.config.named_files import MAY_RUN_ELSEWHERE, watched_files
from sluice.config.reader import ConfigReader
from xds.sources.source import unexpected_error
from xds.sources.written import FileState, file_state


@dataclass(frozen=True, slots=True)
class Reading:
    """One read of a config. `states` and `digests` are from before each file was read."""

    result: LoadedConfig | ConfigError
    states: Mapping[Path, FileState]
    digests: Mapping[Path, bytes]

    @property
    def loaded(self) -> LoadedConfig:
        """The config. Raises ConfigError if it is not valid."""
        if isinstance(self.result, ConfigError):
            raise self.result
        return self.result

    def of_revision(self, number: int) -> Self:
        """This reading, as that of a revision of the history."""
        if isinstance(self.result, ConfigError):
            return self
        return replace(self, result=replace(self.result, revision=number))

    def without(self, file: Path) -> Self:
        """This reading without the state of one file."""
        return self._of({*self.states} - {file})

    def only(self, file: Path) -> Self:
        """This reading with the state of one file only."""
        return self._of({file})

    def _of(self, files: Collection[Path]) -> Self:
        states = {file: self.states[file] for file in files if file in self.states}
        return replace(self, states=states, digests={file: self.digests[file] for file in files})


def read_config(
    reader: ConfigReader,
    text: Callable[[], str],
    name: str,
    directory: Path,
    files: Sequence[Path] = (),
    admit: Callable[[GatewayConfig, Place], None] | None = None,
    *,
    keep: bool = True,
) -> Reading:
    """Read a config. `name` is that of the config in errors; names in it are below `directory`.

    `files` are those that `text` reads. `admit` raises ConfigError for a config whose files must
    not be read. `keep`: whether the reader keeps the models. No exception is raised.
    """
    states, digests = states_of(files), digests_of(files)
    result: LoadedConfig | ConfigError
    try:
        content = text()
        config, place = reader.read(content, name, keep=keep)
        if admit is not None:
            admit(config, place)
        named = watched_files(config, directory)
        states |= states_of(named)
        digests |= digests_of(named)
        checked = check_files(config, directory, MAY_RUN_ELSEWHERE, place)
        result = replace(checked, text=content)
    except ConfigError as error:
        result = error
    except Exception as error:
        result = unexpected_error(name, error)
    return Reading(result, states, digests)


def states_of(files: Iterable[Path]) -> dict[Path, FileState]:
    """What `stat` says about each file."""
    return {file: file_state(file) for file in files}


def digests_of(files: Iterable[Path]) -> dict[Path, bytes]:
    """A hash of the content of each file, or of the error if it cannot be read."""
    return {file: _digest(file) for file in files}


def _digest(file: Path) -> bytes:
    try:
        content = read_file(file, MAX_FILE)
    except OSError as error:
        content = str(error.errno).encode()
    return hashlib.sha256(content).digest()
