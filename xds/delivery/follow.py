"""Follows the config, the fetched key sets and the endpoints, and rolls out each change.

A config that fails changes nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from sluice.config import ConfigError, JwtIssuer, Problem
from sluice.config.checked import LoadedConfig
from xds.delivery.base_files import BaseFiles
from xds.delivery.compiler import Compiler
from xds.resources.compiled import CompiledConfig
from xds.rollout.plan import AT_ONCE, Plan
from xds.rollout.rollout import Rollout
from xds.rollout.stage import StageView
from xds.sources.endpoints.discovered import DiscoveredEndpoints, endpoints_of
from xds.sources.key_sets import FetchedKeySets
from xds.sources.source import ConfigSource
from xds.state import ControlPlaneState
from xds.waiting import Sleep, first

log = logging.getLogger(__name__)

FIRST_KEYS_WAIT = 1.0
"""Maximum seconds that the first config waits for key sets. Without them, the callout decides until
they arrive, also in a gateway whose control plane has only restarted."""


OnRejected: TypeAlias = Callable[[CompiledConfig, CompiledConfig | None, str], None]
"""What happens after a config has failed: the rejected config, the one in force, and the reason."""


PlanOf: TypeAlias = Callable[[CompiledConfig], Awaitable[Plan]]
"""How a config is rolled out."""


OnStage: TypeAlias = Callable[[StageView], None]
"""What happens after some Envoys have got a config before the others."""

CONNECT: Final = 10.0
"""Seconds after a start in which Envoys connect again, before some are chosen."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The stage in which a control plane starts: what the other Envoys have, and the plan."""

    base: CompiledConfig
    plan: Plan


async def at_once(_: CompiledConfig) -> Plan:
    """To all nodes at once."""
    return AT_ONCE


class Follower:
    """Rolls out a source's configs, and each of them again with new key sets or endpoints."""

    def __init__(
        self,
        source: ConfigSource,
        compiler: Compiler,
        key_sets: FetchedKeySets,
        endpoints: DiscoveredEndpoints,
        on_rejected: OnRejected | None = None,
        plan_of: PlanOf = at_once,
        on_stage: OnStage | None = None,
        base_files: BaseFiles | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._source = source
        self._compiler = compiler
        self._key_sets = key_sets
        self._endpoints = endpoints
        self._on_rejected = on_rejected
        self._plan_of = plan_of
        self._on_stage = on_stage
        self._sleep = sleep
        self._base_files = base_files or BaseFiles()

    async def _follow_endpoints(self, compiled: CompiledConfig) -> None:
        """Follow the endpoints of a config that is rolled out now."""
        found = await self._endpoints.find(compiled.config)
        self._endpoints.follow(found)
        if endpoints_of(found) != compiled.found:
            self._endpoints.changed.set()

    async def run(
        self,
        compiled: CompiledConfig,
        state: ControlPlaneState,
        rollout: Rollout,
        resumed: Resumed | None = None,
    ) -> None:
        """Roll out the first config, and every change, until the task is cancelled.

        `resumed`: the config is in a stage that has begun before the start.
        """
        if resumed is None:
            (compiled,) = await self._with_key_sets(compiled)
            rollout.submit(compiled)
        else:
            await self._resume(compiled, resumed, rollout)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.follow_config(state, rollout))
            group.create_task(self.follow_renewals(rollout))
            group.create_task(self._endpoints.run())
            group.create_task(self._base_files.run())

    async def _resume(self, compiled: CompiledConfig, resumed: Resumed, rollout: Rollout) -> None:
        """Go on with a stage. If nobody knows its Envoys, some are chosen when they are back."""
        base, compiled = await self._with_key_sets(resumed.base, compiled)
        stage = resumed.plan.stage
        if stage is not None and stage.nodes:
            rollout.submit(compiled, base=base, plan=resumed.plan)
            return
        rollout.submit(base)
        await self._sleep(CONNECT)
        rollout.submit(compiled, plan=resumed.plan)

    async def _with_key_sets(self, *configs: CompiledConfig) -> list[CompiledConfig]:
        """The configs of the start, with the key sets that can be fetched soon."""
        self._key_sets.follow(_issuers(configs))
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_KEYS_WAIT):
                await self._key_sets.first_answers()
        changed = self._key_sets.changed.is_set()
        self._key_sets.changed.clear()
        return [await self._first(each, again=changed) for each in configs]

    async def _first(self, compiled: CompiledConfig, *, again: bool) -> CompiledConfig:
        if again and compiled.loaded is not None:
            compiled = await self._compiler.compile(compiled.loaded)
        await self._follow_endpoints(compiled)
        return compiled

    async def follow_config(self, state: ControlPlaneState, rollout: Rollout) -> None:
        """Roll out every change of the config."""
        async for change in self._source.changes():
            if isinstance(change, ConfigError):
                name = self._source.name
                log.error("config %s is not valid and changes nothing:\n%s", name, change)
                state.on_invalid_config(str(change))
                continue
            try:
                await self._submit(change, state, rollout)
            except ConfigError as error:
                log.error("config %s changes nothing:\n%s", self._source.name, error)
                state.on_invalid_config(str(error))

    async def _submit(
        self, change: LoadedConfig, state: ControlPlaneState, rollout: Rollout
    ) -> None:
        """Roll out a changed config next. Raises ConfigError."""
        compiled = await self._compiler.compile(change)
        self.log_valid(compiled, state.warnings)
        for key in compiled.restart_required:
            log.warning("%s has changed, which takes effect at the next start", key)
        state.on_config(compiled)
        await self._follow_endpoints(compiled)
        plan = await self._plan_of(compiled)
        # The plan may wait for the store. Keys that were revoked meanwhile must not come back.
        rollout.submit(await self._compiler.compile(change), plan=plan)

    async def follow_renewals(self, rollout: Rollout) -> None:
        """Roll out new key sets, new endpoints, and new content of the files that only the config
        of the other Envoys names during a stage.

        When a rollout ends, follow what the configs need that nodes have then.
        """
        renewed = self._key_sets.changed, self._endpoints.changed, self._base_files.changed
        while True:
            await first(rollout.ended.wait(), *(each.wait() for each in renewed))
            if rollout.ended.is_set():
                rollout.ended.clear()
                self._on_ended(rollout)
            if any(each.is_set() for each in renewed):
                for each in renewed:
                    each.clear()
                await self._renew(rollout)

    def _on_ended(self, rollout: Rollout) -> None:
        """Follow the key sets, the endpoints and the files of the configs that nodes have.

        During the rollout of a config that failed, new key sets went to that config only.
        """
        if rollout.stage is not None and self._on_stage is not None:
            self._on_stage(rollout.stage)
        base = None if rollout.staged is None else rollout.in_force
        self._base_files.follow(None if base is None else base.loaded)
        if rollout.in_force is not None:
            self._key_sets.follow(_issuers((rollout.in_force, rollout.staged)))
            if rollout.latest is rollout.in_force:
                self._endpoints.follow_only(rollout.in_force.config)
        result = rollout.result
        if result is not None and result.failure is not None:
            self._key_sets.changed.set()
            if self._on_rejected is not None and result.rejected is not None:
                self._on_rejected(result.rejected, rollout.in_force, result.failure)

    async def _renew(self, rollout: Rollout) -> None:
        """Roll out the latest config again, with the present key sets and endpoints.

        During a stage, also the one that the other Envoys have.
        """
        latest, base = rollout.latest, rollout.base
        if latest is None or latest.loaded is None:
            return
        try:
            new_base = await self._renewed(base)
            compiled = await self._compiler.compile(latest.loaded)
        except ConfigError as error:
            log.error("new key sets or endpoints change nothing:\n%s", error)
            return
        if rollout.latest is not latest or rollout.base is not base:
            # Another config has come, or the rollout has ended: it may have older key sets.
            self._key_sets.changed.set()
        elif _differs(compiled, latest) or _differs(new_base, base):
            rollout.submit(compiled, renewal=latest is rollout.in_force, base=new_base)

    async def _renewed(self, compiled: CompiledConfig | None) -> CompiledConfig | None:
        if compiled is None or compiled.loaded is None:
            return compiled
        return await self._compiler.compile(self._base_files.latest(compiled.loaded))

    def log_valid(self, compiled: CompiledConfig, known: Sequence[Problem] = ()) -> None:
        """Log a valid config and its warnings, except those that the config before had too."""
        revision = "" if compiled.revision is None else f", revision {compiled.revision}"
        version = compiled.snapshot.version
        log.info("config %s is valid: version %s%s", self._source.name, version, revision)
        logged = {_without_place(problem) for problem in known}
        for problem in compiled.warnings:
            if _without_place(problem) not in logged:
                log.warning("%s", problem)


def _issuers(configs: Iterable[CompiledConfig | None]) -> Iterable[JwtIssuer]:
    """The issuers of configs whose key sets are fetched. The first config that has one counts."""
    found: dict[str, JwtIssuer] = {}
    for config in configs:
        for issuer in () if config is None else config.remote_issuers:
            found.setdefault(issuer.issuer, issuer)
    return found.values()


def _differs(new: CompiledConfig | None, old: CompiledConfig | None) -> bool:
    if new is None or old is None:
        return new is not old
    return not new.snapshot.has_same_resources(old.snapshot)


def _without_place(problem: Problem) -> Problem:
    # A store names a config by its revision, so the same warning has another file.
    return replace(problem, line=0, file="")
