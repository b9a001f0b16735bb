"""Which revisions have a stage, by the history, and what the store keeps of a stage that runs.

So a control plane that starts in the middle of a stage goes on with the same Envoys.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from pydantic import TypeAdapter, ValidationError

from sluice.config.rollout import RolloutSettings
from xds.candidate.apply import AUTHOR, ROLLBACK, is_automatic_rollback
from xds.delivery.latest_write import LatestWrite
from xds.rollout.stage import StageView
from xds.sources.store.store import (
    Record,
    RecordConflictError,
    Revision,
    RevisionInfo,
    Store,
    StoreError,
)

log = logging.getLogger(__name__)

MAX_STEPS: Final = 50
"""Revisions that are read to find the one with which a stage has begun. A stage takes minutes, and
so does a step of a canary."""

MAX_REPLACED: Final = 20
"""Stages that one after the other were replaced by the next one, before a start."""

KEY: Final = "stage"
"""The key of the record."""

MAX_KEPT: Final = 2000
"""Ids of Envoys that the record has, so that it is not too large."""

SettingsOf: TypeAlias = Callable[[Revision], Awaitable[RolloutSettings]]
"""`rollout` of the config of a revision."""


@dataclass(frozen=True, slots=True)
class StagedRevision:
    """A revision that has a stage now. `begun` is the one with which the stage has begun.

    `seconds` are left until the other Envoys follow.
    """

    begun: RevisionInfo
    share: float
    seconds: float


async def is_settled(store: Store, number: int) -> bool:
    """Whether the revision must stay: it is a rollback, or repeats what one has undone.

    An operator who applies a config again that was rolled back has decided. The steps of a canary,
    which the control plane makes by itself, have criteria of their own.
    """
    found = await store.history(number + 1, 3)
    if not found or found[0].number != number:
        return True
    revision, *before = found
    if revision.origin == ROLLBACK or revision.author == AUTHOR:
        return True
    if len(before) < 2:
        return False
    undo, undone = before
    return is_automatic_rollback(undo) and undone.version == revision.version


async def staged_revision(
    store: Store, number: int, settings: RolloutSettings, now: float, *, again: bool = False
) -> StagedRevision | None:
    """The stage of a revision at a time, in Unix seconds; None if all Envoys may have it.

    A canary that gets another share by itself is no other stage. `again`: the stage begins again.
    """
    begun = await _begun(store, number)
    if begun is None:
        return None
    share = begun.nodes
    if share is None:
        share = 1.0 if await is_settled(store, begun.number) else settings.nodes
    passed = 0.0 if again else max(0.0, now - begun.at)
    seconds = settings.soak - passed
    return StagedRevision(begun, share, seconds) if share < 1 and seconds > 0 else None


async def _begun(store: Store, number: int) -> RevisionInfo | None:
    """The revision itself, or the one before the steps that canaries have made by themselves."""
    for each in await store.history(number + 1, MAX_STEPS):
        if each.author != AUTHOR or each.origin == ROLLBACK:
            return each
    return None


async def base_of(store: Store, staged: StagedRevision, settings_of: SettingsOf) -> Revision | None:
    """What the other Envoys have during a stage: the revision before it.

    A revision that was replaced in its own stage was never in force for all. None if there is none.
    """
    for _ in range(MAX_REPLACED):
        base = await store.revision(staged.begun.number - 1)
        if base is None:
            return None
        settings = await settings_of(base)
        replaced = await staged_revision(store, base.number, settings, staged.begun.at)
        if replaced is None:
            return base
        staged = replaced
    return None


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
