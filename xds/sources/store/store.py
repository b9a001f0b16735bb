"""The interface of a store: the append-only config history, and small records beside it.

The history consists of revisions, numbered 1, 2, 3 ... The last one is the head: the config that
the control planes serve. Every backend passes the same tests (`tests/xds/sources/store`).
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Final, Protocol

MAX_HISTORY: Final = 1000
"""Revisions that one call of `history` returns."""

MAX_RECORD: Final = 1 << 20
"""Bytes of the value of a record. A record is the state of one canary or rollout."""

RETRY_INTERVAL: Final = 1.0
"""Seconds until something is written or read again, while a store does not respond."""


@dataclass(frozen=True, slots=True)
class RevisionInfo:
    """A revision without its text.

    `version` is the config version at the time of the append. `at` is that time, in Unix seconds.
    `origin` says where the text came from, such as `api`, `file PATH` or `rollback`. `nodes` is the
    share of the Envoys that get the revision first; None: as its config says.
    """

    number: int
    version: str
    author: str
    at: float
    reason: str
    origin: str
    nodes: float | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Revision(RevisionInfo):
    """A revision with its text, which may hold secrets."""

    text: str = field(repr=False)

    @property
    def info(self) -> RevisionInfo:
        """The revision without its text."""
        return RevisionInfo(
            self.number,
            self.version,
            self.author,
            self.at,
            self.reason,
            self.origin,
            nodes=self.nodes,
        )


@dataclass(frozen=True, slots=True)
class Draft:
    """A revision that is not in the history yet. Its fields are as in `Revision`."""

    text: str = field(repr=False)
    version: str
    author: str
    reason: str
    origin: str
    nodes: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A durable value beside the history. `number` counts the writes of the key, from 1."""

    key: str
    number: int
    value: bytes = field(repr=False)


class StoreError(Exception):
    """The store cannot do this. The message is for operators."""


class StoreUnavailableError(StoreError):
    """The store does not respond, or cannot write now. Whether it has written may be unknown."""


class ConflictError(StoreError):
    """Another writer was first. `head` is the head of the history; None if it is empty."""

    def __init__(self, head: RevisionInfo | None) -> None:
        number = 0 if head is None else head.number
        super().__init__(f"the config has changed: the head of the history is revision {number}")
        self.head = head


class RecordConflictError(StoreError):
    """Another writer was first. `record` is the present record; None if there is none."""

    def __init__(self, key: str, record: Record | None) -> None:
        super().__init__(f"the record {key} has changed")
        self.record = record


class Store(Protocol):
    """The history and the records of one gateway. All methods may raise StoreUnavailableError."""

    @property
    def name(self) -> str:
        """The name of the store for operators. It holds no secret."""

    async def head(self) -> Revision | None:
        """The last revision; None if the history is empty."""

    async def append(self, draft: Draft, *, expected: int | None) -> Revision:
        """Append a revision and return it. It is durable when this method returns.

        `expected`: the number of the head (0: the history is empty); None: any. Raises
        ConflictError if the head has another number.
        """

    async def revision(self, number: int) -> Revision | None:
        """The revision with this number; None if there is none."""

    async def history(self, before: int | None, limit: int) -> list[RevisionInfo]:
        """At most `limit` revisions below the number `before` (None: all), the newest first."""

    def changes(self, after: int | None = None) -> AsyncGenerator[Revision]:
        """Every revision above the number `after`, in order, also of other processes.

        None: above the head. The iterator does not end. While the store does not respond, it waits;
        nothing is missed.
        """

    async def record(self, key: str) -> Record | None:
        """The record with this key; None if there is none."""

    async def put_record(self, key: str, value: bytes, *, expected: int | None) -> Record:
        """Write a record of at most `MAX_RECORD` bytes and return it.

        `expected`: the number of the present record (0: there is none); None: any. Raises
        RecordConflictError if the record has another number.
        """

    async def records(self, prefix: str) -> list[Record]:
        """The records whose keys begin with a prefix, in the order of their keys."""

    async def close(self) -> None:
        """End the connection. No other method may be called afterwards."""


def check_record(key: str, value: bytes) -> None:
    """Raises ValueError if a record is too large."""
    if len(value) > MAX_RECORD:
        raise ValueError(f"the record {key} has more than {MAX_RECORD} bytes")
