"""The files of the config that the other Envoys have while a config is staged.

The source of the config watches only those of the staged one, which is the newest.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from sluice.config import ConfigError
from sluice.config.checked import LoadedConfig
from xds.sources.reading import Reading
from xds.sources.watched_config import WatchedConfig

log = logging.getLogger(__name__)

Read: TypeAlias = Callable[[LoadedConfig], Awaitable[Reading]]
"""Reads a config again, with its files. Raises no exception."""


async def without_files(loaded: LoadedConfig) -> Reading:
    """A config that names no files."""
    return Reading(loaded, {}, {})


class BaseFiles:
    """Watches the files of one config, which is the base of a stage, and reads them again."""

    def __init__(self, read: Read = without_files) -> None:
        self.changed = asyncio.Event()
        """Is set when files may have changed. The reader clears it."""
        self._read = read
        self._base: LoadedConfig | None = None
        self._latest: LoadedConfig | None = None
        self._replaced = asyncio.Event()

    def follow(self, base: LoadedConfig | None) -> None:
        """Watch the files of this config, and of no other. None: of none."""
        if (base and base.revision) != (self._base and self._base.revision):
            self._base, self._latest = base, None
            self._replaced.set()

    def latest(self, loaded: LoadedConfig) -> LoadedConfig:
        """The config with the latest content of its files."""
        latest = self._latest
        return loaded if latest is None or latest.revision != loaded.revision else latest

    async def run(self) -> None:
        """Watch until the task is cancelled."""
        while True:
            self._replaced.clear()
            watch = asyncio.create_task(self._watch(self._base))
            replaced = asyncio.create_task(self._replaced.wait())
            try:
                done, _ = await asyncio.wait([watch, replaced], return_when=asyncio.FIRST_COMPLETED)
                if watch in done:
                    watch.result()
                    await replaced
            finally:
                watch.cancel()
                replaced.cancel()
                await asyncio.gather(watch, replaced, return_exceptions=True)

    async def _watch(self, base: LoadedConfig | None) -> None:
        reading = None if base is None else await self._read(base)
        if base is None or reading is None or not reading.digests:
            return
        watched = WatchedConfig(partial(self._read, base), reading)
        # The files may have changed since the config was read for its rollout.
        self._on_reading(reading)
        async for each in watched.changes():
            self._on_reading(each)

    def _on_reading(self, reading: Reading) -> None:
        if isinstance(reading.result, ConfigError):
            log.error("a file that is not valid changes nothing:\n%s", reading.result)
            return
        self._latest = reading.result
        self.changed.set()
