"""Chooses how a revision is rolled out: by `rollout` of its config, and by its origin."""

import logging
from collections.abc import Callable
from typing import TypeAlias

from sluice.config.rollout import RolloutCriteria
from xds.candidate.apply import AUTHOR, ROLLBACK
from xds.resources.compiled import CompiledConfig
from xds.rollout.plan import AT_ONCE, Plan, Trial
from xds.sources.store.store import Store, StoreError

log = logging.getLogger(__name__)

BeginTrial: TypeAlias = Callable[[RolloutCriteria], Trial]
"""Begins to judge a change by these criteria."""


class Plans:
    """Plans of revisions. `in_force` returns the config before the change."""

    def __init__(
        self,
        store: Store,
        in_force: Callable[[], CompiledConfig | None],
        begin_trial: BeginTrial | None = None,
    ) -> None:
        self._store = store
        self._in_force = in_force
        self._begin_trial = begin_trial

    async def of(self, compiled: CompiledConfig) -> Plan:
        """The plan of a config that is rolled out next."""
        settings, in_force = compiled.config.rollout, self._in_force()
        if in_force is None or compiled.revision is None:
            return AT_ONCE
        if in_force.revision == compiled.revision:
            return AT_ONCE  # only a file that the config names has changed
        try:
            if await self._records_failure(compiled, in_force):
                return Plan(records_failure=True)
            if self._begin_trial is None or not settings.watch:
                return AT_ONCE
            if await self._is_settled(compiled.revision):
                return AT_ONCE
        except StoreError as error:
            log.warning("revision %d is not judged: %s", compiled.revision, error)
            return AT_ONCE
        return Plan(settings.watch, self._begin_trial(settings.criteria))

    async def _records_failure(self, compiled: CompiledConfig, in_force: CompiledConfig) -> bool:
        """Whether the revision is the config in force, appended because a change has failed."""
        number = compiled.revision
        if number is None or compiled.snapshot.version != in_force.snapshot.version:
            return False
        found = await self._store.history(number + 1, 1)
        return bool(found) and (found[0].origin, found[0].author) == (ROLLBACK, AUTHOR)

    async def _is_settled(self, number: int) -> bool:
        """Whether the revision must stay: it is a rollback, or repeats what one has undone.

        An operator who applies a config again that was rolled back has decided. The steps of a
        canary, which the control plane makes by itself, have criteria of their own.
        """
        revision = await self._store.revision(number)
        if revision is None or revision.origin == ROLLBACK or revision.author == AUTHOR:
            return True
        undo, undone = [await self._store.revision(number - n) for n in (1, 2)]
        if undo is None or undone is None:
            return False
        undid = undo.origin == ROLLBACK and undo.author == AUTHOR
        return undid and undone.version == revision.version
