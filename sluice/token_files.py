"""Follows the tokens in files, for servers that compare them with those of their clients.

A server compares a token with all that it knows, so it must not read their files for each request.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from sluice.config.access import read_token
from sluice.config.files import UnusableFileError
from sluice.tls import FileState, file_states

LOOK_INTERVAL: Final = 1.0
"""Seconds for which a file is not looked at again: new content takes effect after this time."""

SETTLED: Final = 2.0
"""Seconds after its last change from which a file without another state has the same content. Two
changes in a short time may have the same time: file systems round it."""

MAX_KNOWN: Final = 4096
"""Files whose tokens are kept: more than one config names."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What was found at the latest look. Without `state`, the next look reads the file again."""

    looked_at: float
    state: FileState
    digest: str | None


class TokenFiles:
    """The tokens in files below `directory`. `clock` returns seconds."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def digest(self, file: str) -> str | None:
        """The SHA-256 of the token in a file; None if the file cannot be used now."""
        known, now = self._known.get(file), self._clock()
        if known is None or now - known.looked_at >= LOOK_INTERVAL:
            if known is None and len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[file] = self._look(file, known, now)
        return known.digest

    def _look(self, file: str, known: _Known | None, now: float) -> _Known:
        path = self._directory / file
        # Before the file is read: a change in between has another state.
        [state] = file_states((path,))
        if known is not None and state is not None and state == known.state:
            return replace(known, looked_at=now)
        return _Known(now, state if _is_settled(state) else None, _digest(path))


def _is_settled(state: FileState) -> bool:
    return state is not None and time.time() - state[0] / 1e9 > SETTLED


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(read_token(path)).hexdigest()
    except UnusableFileError:
        return None
