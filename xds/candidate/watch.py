"""Edits of the watched config file become revisions."""

import asyncio
import logging
from collections.abc import Callable

from sluice.config import ConfigError
from sluice.config.checked import LoadedConfig
from xds.candidate.apply import Applier
from xds.sources.file import ConfigFile
from xds.sources.reading import Reading
from xds.sources.store.store import RETRY_INTERVAL, StoreError

log = logging.getLogger(__name__)


class FileWatch:
    """Applies the edits of a file. `origin` is that of their revisions."""

    def __init__(self, file: ConfigFile, origin: str, applier: Applier) -> None:
        self._file = file
        self._origin = origin
        self._applier = applier
        self._on_invalid: Callable[[str], None] = lambda _: None
        self._on_valid: Callable[[], None] = lambda: None
        self._refused = ""
        """Why the store has refused the latest edit."""

    async def run(
        self, on_invalid: Callable[[str], None], on_valid: Callable[[], None] = lambda: None
    ) -> None:
        """Apply each edit until the task is cancelled.

        `on_invalid` gets errors of edits. `on_valid` is called for a valid edit that the history
        has already.
        """
        self._on_invalid, self._on_valid = on_invalid, on_valid
        changes = self._file.changes()
        edit = asyncio.ensure_future(anext(changes))
        waiting: Reading | None = None
        try:
            while True:
                interval = None if waiting is None else RETRY_INTERVAL
                done, _ = await asyncio.wait([edit], timeout=interval)
                if done:
                    waiting = self._edited(edit.result())
                    edit = asyncio.ensure_future(anext(changes))
                if waiting is not None and await self._apply(waiting):
                    waiting = None
        finally:
            edit.cancel()

    def _edited(self, edit: LoadedConfig | ConfigError) -> Reading | None:
        """The edit that must be applied; None if it is not valid."""
        if isinstance(edit, ConfigError):
            self._invalid(edit)
            return None
        return self._file.reading

    async def _apply(self, reading: Reading) -> bool:
        """Apply an edit. Returns False if the store cannot be written now."""
        try:
            candidate = await self._applier.check_reading(reading)
            candidate.check_certificates()
            if await self._applier.apply_file(candidate, self._origin) is None:
                log.info("the history has the edit of %s already", self._file.name)
                self._on_valid()
        except ConfigError as error:
            self._invalid(error)
        except StoreError as error:
            if str(error) != self._refused:
                log.error("the edit of %s waits: %s", self._file.name, error)
            self._refused = str(error)
            return False
        else:
            self._file.leave_named_files()
        self._refused = ""
        return True

    def _invalid(self, error: ConfigError) -> None:
        log.error("config %s is not valid and changes nothing:\n%s", self._file.name, error)
        self._on_invalid(str(error))
