"""The state of canaries in the store, beside the history. All control planes read and write it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from xds.canary.analysis import State
from xds.canary.figures import Copies
from xds.envoys.criteria import Figures
from xds.sources.store.store import Record, RecordConflictError, Store

PREFIX: Final = "canaries/state/"

_ATTEMPTS: Final = 5
"""Attempts of an operator's change while the analysis writes too."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What was seen of the present step. `text` says what it waits for, with the figures.

    `copies` is None if no criterion is about them.
    """

    seconds: float
    canary: Figures
    stable: Figures
    text: str
    copies: Copies | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A canary in the store. `progress` is None before the step is in force."""

    state: State
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Numbered:
    """What the store has, and the number of its record; 0 if there is none."""

    stored: Stored | None
    number: int


_STORED: Final = TypeAdapter(Stored)


class CanaryRecords:
    """Reads and writes the states. All methods may raise StoreUnavailableError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, model: str, version: str) -> Numbered:
        """The state of a version that is or was a canary with steps."""
        return _read(await self._store.record(_key(model, version)))

    async def all(self) -> dict[tuple[str, str], Numbered]:
        """All states, by model and version."""
        found = {}
        for record in await self._store.records(PREFIX):
            model, _, version = record.key.removeprefix(PREFIX).partition("/")
            found[model, version] = _read(record)
        return found

    async def put(self, model: str, version: str, stored: Stored, expected: int) -> Numbered:
        """Write a state over the record with this number. Raises RecordConflictError."""
        value = _STORED.dump_json(stored)
        record = await self._store.put_record(_key(model, version), value, expected=expected)
        return Numbered(stored, record.number)

    async def change(self, model: str, version: str, change: Callable[[State], State]) -> State:
        """Change a state, also while others do. Raises LookupError if there is none."""
        for attempt in range(_ATTEMPTS):
            found = await self.get(model, version)
            if found.stored is None:
                raise LookupError(version)
            changed = change(found.stored.state)
            try:
                await self.put(model, version, Stored(changed), found.number)
            except RecordConflictError:
                if attempt + 1 == _ATTEMPTS:
                    raise
            else:
                break
        return changed


def _key(model: str, version: str) -> str:
    return f"{PREFIX}{model}/{version}"


def _read(record: Record | None) -> Numbered:
    if record is None:
        return Numbered(None, 0)
    try:
        return Numbered(_STORED.validate_json(record.value), record.number)
    except ValidationError:
        # Another release has written it: the canary begins again.
        return Numbered(None, record.number)
