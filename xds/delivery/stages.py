"""Which revisions have a stage, by the history of the store."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from sluice.config.rollout import RolloutSettings
from sluice.contract.history import AUTHOR, ROLLBACK
from xds.candidate.apply import is_automatic_rollback
from xds.sources.store.store import Revision, RevisionInfo, Store

MAX_STEPS: Final = 50
"""Revisions that are read to find the one with which a stage has begun. A stage takes minutes, and
so does a step of a canary."""

MAX_REPLACED: Final = 20
"""Stages that one after the other were replaced by the next one, before a start."""

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
