"""A config source over a store: the head of the history, and the files that it names."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Protocol

from sluice.config import ConfigError
from sluice.config.checked import LoadedConfig
from xds.events import Events
from xds.sources.reading import Reading
from xds.sources.store.store import Revision, Store
from xds.sources.watched_config import WatchedConfig


class Load(Protocol):
    """Reads the config of a revision; `again`: also if it was read already."""

    async def __call__(self, revision: Revision, *, again: bool = False) -> Reading:
        """Read the config. No exception is raised."""


class StoredConfig:
    """The config of the head. `name` is that of the source in the status.

    While `hold` returns True, a change of a named file waits, because the config changes too.
    `events` gets every revision.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        load: Load,
        hold: Callable[[], bool] | None = None,
        events: Events | None = None,
    ) -> None:
        self._events = events or Events()
        self._name = name
        self._store = store
        self._load = load
        self._head: Revision | None = None
        self._newest: Revision | None = None
        self._files_changed: Reading | None = None
        self._changed = asyncio.Event()
        unread = Reading(ConfigError([]), {}, {})
        self._watched = WatchedConfig(self._read_again, unread, hold or (lambda: False))

    def begin(self, head: Revision, reading: Reading) -> None:
        """Set the first head and its config. `changes` are those from this one."""
        self._head = head
        self._watched.report(reading)

    @property
    def name(self) -> str:
        """The name of the source in the status and the logs."""
        return self._name

    async def changes(self) -> AsyncIterator[LoadedConfig | ConfigError]:
        """The config after each change of the head or of a file that it names.

        Only the newest head counts: those that were replaced meanwhile are left out.
        """
        tasks = [asyncio.create_task(each) for each in (self._follow_head(), self._follow_files())]
        try:
            while True:
                changed = asyncio.create_task(self._changed.wait())
                done, _ = await asyncio.wait([changed, *tasks], return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                for task in done:
                    task.result()
                self._changed.clear()
                yield (await self._next()).result
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _next(self) -> Reading:
        if self._newest is None:
            assert self._files_changed is not None
            return self._files_changed
        self._head, self._newest = self._newest, None
        reading = await self._load(self._head)
        self._watched.report(reading)
        return reading

    async def _read_again(self) -> Reading:
        assert self._head is not None
        return await self._load(self._head, again=True)

    async def _follow_head(self) -> None:
        assert self._head is not None
        async for revision in self._store.changes(after=self._head.number):
            self._newest = revision
            info = {key: value for key, value in asdict(revision.info).items() if value is not None}
            self._events.emit("revision", revision=info.pop("number"), **info)
            self._changed.set()

    async def _follow_files(self) -> None:
        async for reading in self._watched.changes():
            self._files_changed = reading
            self._changed.set()
