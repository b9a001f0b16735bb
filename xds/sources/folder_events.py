"""Events of files in folders, and a look at least every second where there are no events."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from watchfiles import Change, DefaultFilter, awatch

log = logging.getLogger(__name__)

SETTLE_MS: Final = 20
"""Milliseconds without events before the files are read: editors write a file several times."""

MAX_SETTLE_MS: Final = 200
"""Milliseconds after which the files are read even if there are further events."""

POLL_MS: Final = 1000
"""Milliseconds after which the files are compared even without an event: NFS sends no events."""

IsRelevant: TypeAlias = Callable[[Change, str], bool]
"""Whether an event of a path matters."""


class FolderEvents:
    """Tells when to look at the files of folders. `what` names them in the log."""

    def __init__(self, what: str, is_relevant: IsRelevant | None = None) -> None:
        self._what = what
        self._is_relevant = is_relevant or DefaultFilter()
        self._watch_failed = False

    async def of(self, folders: Sequence[Path]) -> AsyncIterator[None]:
        """Yields after events in the folders, and every `POLL_MS`. The iterator may end."""
        if not folders:
            await asyncio.sleep(POLL_MS / 1000)
            yield None
            return
        try:
            async for _ in awatch(
                *folders,
                watch_filter=self._is_relevant,
                debounce=MAX_SETTLE_MS,
                step=SETTLE_MS,
                rust_timeout=POLL_MS,
                yield_on_timeout=True,
                recursive=False,
            ):
                yield None
        except (OSError, RuntimeError) as error:
            # Without inotify watches, or without the folders, the files are still compared.
            if not self._watch_failed:
                log.warning(
                    "cannot watch %s, and compare the files every second: %s", self._what, error
                )
            self._watch_failed = True
            await asyncio.sleep(POLL_MS / 1000)
            yield None
