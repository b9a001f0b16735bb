"""Chooses how a revision is rolled out: by `rollout` of its config, and by its origin."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TypeAlias

from sluice.config.rollout import RolloutCriteria, RolloutSettings
from xds.candidate.apply import is_automatic_rollback
from xds.delivery.stages import StagedRevision, is_settled, staged_revision
from xds.resources.compiled import CompiledConfig
from xds.rollout.plan import AT_ONCE, Plan, Stage, StageTrial, Trial
from xds.rollout.rollout import Rollout
from xds.sources.store.store import RETRY_INTERVAL, Store, StoreError

log = logging.getLogger(__name__)

BeginTrial: TypeAlias = Callable[[RolloutCriteria], Trial]
"""Begins to judge a change by these criteria."""


BeginStage: TypeAlias = Callable[[RolloutCriteria], StageTrial]
"""Begins to judge the Envoys of a stage by these criteria."""


class Plans:
    """Plans of the revisions that this control plane rolls out.

    Without `begin_trial` and `begin_stage`, nobody judges the traffic. `now` returns Unix seconds.
    """

    def __init__(
        self,
        store: Store,
        rollout: Rollout,
        begin_trial: BeginTrial | None = None,
        begin_stage: BeginStage | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._rollout = rollout
        self._begin_trial = begin_trial
        self._begin_stage = begin_stage
        self._now = now

    async def of(self, compiled: CompiledConfig) -> Plan:
        """The plan of a config that is rolled out next.

        Waits while the store does not respond: a change for a few Envoys must not reach all.
        """
        in_force = self._rollout.in_force
        if in_force is None or compiled.revision is None:
            return AT_ONCE
        if in_force.revision == compiled.revision:
            return AT_ONCE  # only a file that the config names has changed
        waits = False
        while True:
            try:
                return await self._of(compiled, compiled.revision, in_force)
            except StoreError as error:
                if not waits:
                    log.warning("the rollout of revision %d waits: %s", compiled.revision, error)
                waits = True
            await asyncio.sleep(RETRY_INTERVAL)

    async def _of(self, compiled: CompiledConfig, number: int, in_force: CompiledConfig) -> Plan:
        if await self._records_failure(compiled, in_force):
            return Plan(records_failure=True)
        staged = await self.staged(number, compiled.config.rollout)
        return await self.judged(number, compiled.config.rollout, staged)

    async def staged(self, number: int, settings: RolloutSettings) -> StagedRevision | None:
        """The stage of a revision now; None if all Envoys may have it. Raises StoreError.

        A config file that has failed in its stage may come again, when a file that it names has
        changed. Then its stage begins again.
        """
        result = self._rollout.result
        failed = None if result is None or result.rejected is None else result.rejected.revision
        again = number == failed
        return await staged_revision(self._store, number, settings, self._now(), again=again)

    async def judged(
        self,
        number: int,
        settings: RolloutSettings,
        staged: StagedRevision | None,
        nodes: frozenset[str] = frozenset(),
    ) -> Plan:
        """The plan of a revision that traffic may judge. `nodes` as in `Stage`.

        Raises StoreError.
        """
        stage = None if staged is None else self._stage(staged, settings.criteria, nodes)
        if self._begin_trial is None or not settings.watch or await is_settled(self._store, number):
            return Plan(stage=stage)
        return Plan(settings.watch, self._begin_trial(settings.criteria), stage)

    def _stage(
        self, staged: StagedRevision, criteria: RolloutCriteria, nodes: frozenset[str]
    ) -> Stage:
        trial = None if self._begin_stage is None else self._begin_stage(criteria)
        return Stage(staged.share, staged.seconds, trial, staged.begun.number, nodes)

    async def _records_failure(self, compiled: CompiledConfig, in_force: CompiledConfig) -> bool:
        """Whether the revision is the config in force, appended because a change has failed."""
        number = compiled.revision
        if number is None or compiled.snapshot.version != in_force.snapshot.version:
            return False
        found = await self._store.history(number + 1, 1)
        return bool(found) and is_automatic_rollback(found[0])
