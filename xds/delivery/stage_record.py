"""What the store keeps of a stage that runs: its Envoys.

So a control plane that starts in the middle of a stage goes on with the same Envoys.
"""

import logging
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from xds.delivery.latest_write import LatestWrite
from xds.rollout.stage import StageView
from xds.sources.store.store import Record, RecordConflictError, Store, StoreError

log = logging.getLogger(__name__)

KEY: Final = "stage"
"""The key of the record."""

MAX_KEPT: Final = 2000
"""Ids of Envoys that the record has, so that it is not too large."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The record: the revision with which a stage has begun, and the ids of its Envoys."""

    revision: int
    nodes: frozenset[str]


_KEPT: Final = TypeAdapter(_Kept)


class StageRecord:
    """Keeps the Envoys of the latest stage, those of all control planes together."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest = LatestWrite(self._put)

    def on_stage(self, view: StageView) -> None:
        """Record the Envoys of a stage that has begun here."""
        if view.begun is not None:
            self._latest.set(_Kept(view.begun, frozenset(view.nodes)))

    async def run(self) -> None:
        """Write what has been recorded until the task is cancelled."""
        await self._latest.run()

    async def nodes(self, begun: int) -> frozenset[str]:
        """The Envoys of the stage that has begun with this revision; empty if it is not known."""
        return _nodes(await self._store.record(KEY), begun)

    async def _put(self, stage: _Kept) -> bool:
        """Returns False if the store cannot be written now."""
        try:
            record = await self._store.record(KEY)
            known = sorted(_nodes(record, stage.revision).union(stage.nodes))[:MAX_KEPT]
            value = _KEPT.dump_json(_Kept(stage.revision, frozenset(known)))
            expected = 0 if record is None else record.number
            await self._store.put_record(KEY, value, expected=expected)
        except RecordConflictError:
            return False
        except StoreError as error:
            log.warning("the store does not know the Envoys of the stage: %s", error)
            return False
        return True


def _nodes(record: Record | None, begun: int) -> frozenset[str]:
    if record is None:
        return frozenset()
    try:
        kept = _KEPT.validate_json(record.value)
    except ValidationError:  # another release has written it
        return frozenset()
    return kept.nodes if kept.revision == begun else frozenset()
