"""Follows the config and the fetched key sets, and rolls out each change.

A config that fails changes nothing.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from sluice.config import ConfigError, GatewayConfig, Problem
from sluice.config.checked import LoadedConfig
from sluice.config.disruption import check_change
from xds.admin.status import ControlPlaneState
from xds.resources.compiled import CompiledConfig, compile_config
from xds.rollout.rollout import Rollout, first
from xds.sources.key_sets import FetchedKeySets
from xds.sources.source import ConfigSource, unexpected_error

log = logging.getLogger(__name__)

FIRST_KEYS_WAIT = 1.0
"""Maximum seconds that the first config waits for key sets. Without them, the callout decides until
they arrive, also in a gateway whose control plane has only restarted."""


class Follower:
    """Compiles a source's configs with the fetched key sets. `first` is the config of the start."""

    def __init__(self, source: ConfigSource, first: LoadedConfig, key_sets: FetchedKeySets) -> None:
        self._source = source
        self._started = first.config
        self._key_sets = key_sets
        self._compiling = asyncio.Lock()

    def compile(self, loaded: LoadedConfig) -> CompiledConfig:
        """Compile a config. Any exception becomes a ConfigError: the config in force must stay."""
        try:
            key_sets = self._key_sets.usable(loaded.config.auth.issuers)
            return compile_config(loaded, self._started, key_sets)
        except Exception as error:
            raise unexpected_error(self._source.name, error) from None

    async def run(
        self, compiled: CompiledConfig, state: ControlPlaneState, rollout: Rollout
    ) -> None:
        """Roll out the first config, and every change, until the task is cancelled."""
        await self._roll_out_first(compiled, rollout)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.follow_config(state, rollout))
            group.create_task(self.follow_key_sets(rollout))

    async def _roll_out_first(self, compiled: CompiledConfig, rollout: Rollout) -> None:
        """Roll out the first config, with the key sets that can be fetched soon."""
        self._key_sets.follow(compiled.remote_issuers)
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_KEYS_WAIT):
                await self._key_sets.first_answers()
        if self._key_sets.changed.is_set() and compiled.loaded is not None:
            self._key_sets.changed.clear()
            compiled = await asyncio.to_thread(self.compile, compiled.loaded)
        rollout.submit(compiled)

    async def follow_config(self, state: ControlPlaneState, rollout: Rollout) -> None:
        """Roll out every change of the config."""
        async for change in self._source.changes():
            if isinstance(change, ConfigError):
                name = self._source.name
                log.error("config %s is not valid and changes nothing:\n%s", name, change)
                state.on_invalid_config(str(change))
                continue
            try:
                async with self._compiling:
                    await asyncio.to_thread(_check_change, state.in_force, change)
                    compiled = await asyncio.to_thread(self.compile, change)
            except ConfigError as error:
                log.error("config %s changes nothing:\n%s", self._source.name, error)
                state.on_invalid_config(str(error))
                continue
            self.log_valid(compiled, state.warnings)
            for key in compiled.restart_required:
                log.warning("%s has changed, which takes effect at the next start", key)
            state.on_config(compiled)
            rollout.submit(compiled)

    async def follow_key_sets(self, rollout: Rollout) -> None:
        """Fetch the key sets that the config in force needs, and roll out every change of them."""
        while True:
            await first(self._key_sets.changed.wait(), rollout.ended.wait())
            if rollout.ended.is_set():
                rollout.ended.clear()
                self._on_ended(rollout)
            if self._key_sets.changed.is_set():
                self._key_sets.changed.clear()
                async with self._compiling:
                    await self._renew(rollout)

    def _on_ended(self, rollout: Rollout) -> None:
        """Follow the key sets of the config in force. A rejected config leaves it as it was.

        During its rollout, new key sets went to the rejected config only.
        """
        if rollout.in_force is not None:
            self._key_sets.follow(rollout.in_force.remote_issuers)
        if rollout.result is not None and rollout.result.nack is not None:
            self._key_sets.changed.set()

    async def _renew(self, rollout: Rollout) -> None:
        """Roll out the latest config again, with the present key sets."""
        latest = rollout.latest
        if latest is None or latest.loaded is None:
            return
        try:
            compiled = await asyncio.to_thread(self.compile, latest.loaded)
        except ConfigError as error:
            log.error("new key sets change nothing:\n%s", error)
            return
        if rollout.latest is not latest:
            # Another config has come, or the rollout has ended: it may have older key sets.
            self._key_sets.changed.set()
        elif not compiled.snapshot.has_same_resources(latest.snapshot):
            rollout.submit(compiled, renewal=latest is rollout.in_force)

    def log_valid(self, compiled: CompiledConfig, known: Sequence[Problem] = ()) -> None:
        """Log a valid config and its warnings, except those that the config before had too."""
        name, version = self._source.name, compiled.snapshot.version
        log.info("config %s is valid: version %s", name, version)
        logged = {_without_line(problem) for problem in known}
        for problem in compiled.warnings:
            if _without_line(problem) not in logged:
                log.warning("%s", problem)


def _check_change(running: GatewayConfig | None, change: LoadedConfig) -> None:
    """Raises ConfigError if the change would cut off the clients of the running config, if any."""
    if running is not None:
        check_change(running, change.config, change.place)


def _without_line(problem: Problem) -> Problem:
    return replace(problem, line=0)
