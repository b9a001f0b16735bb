"""Opens the store that an operator has named."""

from pathlib import Path
from typing import Final

from xds.sources.store.redis import REDIS_FORM, RedisStore, check_url
from xds.sources.store.sqlite import SqliteStore
from xds.sources.store.store import Store

MEMORY: Final = "memory"
SQLITE: Final = "sqlite:"
REDIS: Final = ("redis:", "rediss:")

FORMS: Final = f"sqlite:PATH, {REDIS_FORM}, or memory"
"""What an operator may write."""


def check_store(name: str) -> None:
    """Raises ValueError if an operator may not write this name of a store."""
    if name.startswith(REDIS):
        check_url(name)
    elif name != MEMORY and not _path(name):
        raise ValueError(f"write {FORMS}")


def open_store(name: str) -> Store:
    """The store with a name such as `sqlite:/var/lib/sluice/history.db`.

    Raises ValueError as `check_store`, and StoreError if the store cannot be used.
    """
    check_store(name)
    if name.startswith(REDIS):
        return RedisStore(name)
    return SqliteStore(None if name == MEMORY else Path(_path(name)))


def _path(name: str) -> str:
    return name.removeprefix(SQLITE) if name.startswith(SQLITE) else ""
