"""The control planes of a gateway: which of them judges canaries, and what each has seen.

One record lists the control planes that run, and the one that judges. Each writes it again at every
turn. A control plane that does not for a while is dropped from the list; if it was the one that
judges, the next writer takes its place. No clocks are compared: each control plane watches on its
own clock whether the counters of the others grow.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from xds.canary.figures import Part
from xds.sources.store.store import Record, Store

T = TypeVar("T")

DROP_AFTER: Final = 10.0
"""Seconds without a sign of a control plane. A restart takes less."""

_PLANES: Final = "canaries/planes"
_PARTS: Final = "canaries/parts/"


@dataclass(frozen=True, slots=True)
class Planes:
    """The control planes that run. `signs` has a counter for each; `judge` is one of them.

    `epoch` counts the changes of the list: then all counts begin again, because Envoys and workers
    have moved to another control plane.
    """

    signs: Mapping[str, int] = field(default_factory=dict)
    judge: str = ""
    epoch: int = 0

    def signed(self, own: str, dropped: frozenset[str]) -> "Planes":
        """The list after a sign of the control plane `own`."""
        signs = {name: sign for name, sign in self.signs.items() if name not in dropped}
        signs[own] = signs.get(own, 0) + 1
        judge = self.judge if self.judge in signs else own
        changed = signs.keys() != self.signs.keys()
        return Planes(signs, judge, self.epoch + changed)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one control plane has seen of a step. `step` identifies the step and the epoch."""

    step: str
    part: Part


@dataclass(frozen=True, slots=True)
class Parts:
    """What one control plane has seen of all canaries, by model and version, with a slash."""

    canaries: Mapping[str, Measured] = field(default_factory=dict)


_PLANES_ADAPTER: Final = TypeAdapter(Planes)
_PARTS_ADAPTER: Final = TypeAdapter(Parts)


class Silence:
    """Notices counters that do not grow."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def silent(self, signs: Mapping[str, int], now: float) -> frozenset[str]:
        """The names whose counters have not grown for `DROP_AFTER` seconds."""
        known = self._seen
        self._seen = {
            name: known[name] if name in known and known[name][0] == sign else (sign, now)
            for name, sign in signs.items()
        }
        return frozenset(n for n, (_, since) in self._seen.items() if now - since >= DROP_AFTER)


class PlaneRecords:
    """The list in the store, and what each control plane has seen. `own` is the name of this one.

    All methods may raise StoreUnavailableError.
    """

    def __init__(self, store: Store, own: str) -> None:
        self._store = store
        self._own = own
        self._silence = Silence()

    async def sign(self, now: float) -> Planes:
        """Give a sign, and return the list. Raises RecordConflictError if another was first."""
        record = await self._store.record(_PLANES)
        planes = _read(_PLANES_ADAPTER, record, Planes())
        others = {name: sign for name, sign in planes.signs.items() if name != self._own}
        signed = planes.signed(self._own, self._silence.silent(others, now))
        value = _PLANES_ADAPTER.dump_json(signed)
        await self._store.put_record(
            _PLANES, value, expected=0 if record is None else record.number
        )
        return signed

    async def publish(self, parts: Parts) -> None:
        """Tell the others what this control plane has seen."""
        value = _PARTS_ADAPTER.dump_json(parts)
        await self._store.put_record(_PARTS + self._own, value, expected=None)

    async def parts_of(self, plane: str) -> Parts:
        """What another control plane has seen."""
        return _read(_PARTS_ADAPTER, await self._store.record(_PARTS + plane), Parts())


def without_step(plane: str) -> Part:
    """The part of a control plane that does not count this step yet."""
    return Part(0.0, None, f"the control plane {plane} does not count yet")


def _read(adapter: TypeAdapter[T], record: Record | None, default: T) -> T:
    """The value of a record; `default` without a record that this release can read."""
    if record is None:
        return default
    try:
        return adapter.validate_json(record.value)
    except ValidationError:
        return default
