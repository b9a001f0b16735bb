"""The way of a config from a candidate, over the history, to its rollout: connects the parts."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sluice.config import ConfigError, GatewayConfig
from sluice.config.checked import LoadedConfig
from sluice.config.rollout import RolloutSettings
from xds.canary.checks import check_no_steps
from xds.candidate.apply import Applier, Check, file_origin
from xds.candidate.start import FirstConfig, StartOptions, first_config
from xds.candidate.watch import FileWatch
from xds.delivery.base_files import BaseFiles
from xds.delivery.compiler import Compiler
from xds.delivery.follow import Follower, Resumed
from xds.delivery.plans import BeginStage, BeginTrial, Plans
from xds.delivery.rollbacks import Rollbacks
from xds.delivery.stage_record import StageRecord
from xds.delivery.stages import base_of
from xds.events import Events
from xds.resources.compiled import CompiledConfig
from xds.rollout.rollout import Rollout
from xds.sources.endpoints.discovered import DiscoveredEndpoints
from xds.sources.key_sets import FetchedKeySets
from xds.sources.store.source import StoredConfig
from xds.sources.store.store import ConflictError, Revision, Store
from xds.state import ControlPlaneState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The parts. `compiled` is the first config, which the head of the store has.

    `resumed`: this config has a stage that has begun before the start.
    """

    source: StoredConfig
    applier: Applier
    follower: Follower
    compiled: CompiledConfig
    rollbacks: Rollbacks
    stage_record: StageRecord
    watch: FileWatch | None
    resumed: Resumed | None = None

    async def run(self, state: ControlPlaneState, rollout: Rollout) -> None:
        """Roll out the first config, and every change, until the task is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.follower.run(self.compiled, state, rollout, self.resumed))
            group.create_task(self.rollbacks.run())
            group.create_task(self.stage_record.run())
            if self.watch is not None:
                group.create_task(self.watch.run(state.on_invalid_config, state.on_known_config))


async def start_pipeline(
    options: StartOptions,
    store: Store,
    first: FirstConfig,
    rollout: Rollout,
    key_sets: FetchedKeySets,
    endpoints: DiscoveredEndpoints | None = None,
    events: Events | None = None,
    begin_trial: BeginTrial | None = None,
    begin_stage: BeginStage | None = None,
) -> Pipeline:
    """Compile the first config, and append it to the history if the head has another one.

    Without `begin_trial` and `begin_stage`, nobody judges changes by the traffic. Raises
    ConfigError and StoreError.
    """
    plans, record = Plans(store, rollout, begin_trial, begin_stage), StageRecord(store)
    name, endpoints = str(_only_file(options) or store.name), endpoints or DiscoveredEndpoints()
    while True:
        compiler = Compiler(name, first.reading.loaded.config, key_sets, endpoints)
        applier = _applier(options, store, compiler, rollout)
        parts = _Parts(store, compiler, applier, plans, record)
        try:
            head = await _append(first, parts, _checks(options))
            break
        except ConflictError:
            # Another control plane was first: its config is the head now.
            first = await first_config(options, store)
    hold = None if first.file is None else first.file.has_changed
    source = StoredConfig(name, store, applier.load, hold, events)
    reading, rollbacks = first.reading.of_revision(head.number), Rollbacks(applier)
    source.begin(head, reading)
    follower = Follower(
        source,
        compiler,
        key_sets,
        endpoints,
        rollbacks.on_rejected,
        plans.of,
        record.on_stage,
        BaseFiles(applier.read_again),
    )
    compiled = await compiler.compile(reading.loaded)
    # A file that was edited meanwhile goes to all Envoys.
    resumed = await _resumed(parts, reading.loaded) if first.draft is None else None
    watch = _watch(options, first, applier)
    return Pipeline(source, applier, follower, compiled, rollbacks, record, watch, resumed)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What compiles configs, appends them to the history, and plans their rollout."""

    store: Store
    compiler: Compiler
    applier: Applier
    plans: Plans
    record: StageRecord


def _only_file(options: StartOptions) -> Path | None:
    """The config file, if nothing else may change the config."""
    return options.file if options.store is None else None


def _checks(options: StartOptions) -> tuple[Check, ...]:
    return () if _only_file(options) is None else (check_no_steps,)


def _applier(options: StartOptions, store: Store, compiler: Compiler, rollout: Rollout) -> Applier:
    def running() -> GatewayConfig | None:
        return None if rollout.in_force is None else rollout.in_force.config

    return Applier(
        store,
        options.names_below,
        compiler.compile,
        running,
        file=_only_file(options),
        folder=options.folder,
        checks=_checks(options),
    )


async def _append(first: FirstConfig, parts: _Parts, checks: Sequence[Check]) -> Revision:
    """Compile the first config, and append it if it is new. Returns the head of the history.

    Raises ConfigError and StoreError, also ConflictError.
    """
    # A config that cannot be compiled must not become a revision.
    loaded = first.reading.loaded
    compiled = await parts.compiler.compile(loaded)
    for check in checks:
        check(loaded, compiled)
    head = first.head
    if first.draft is not None:
        expected = 0 if head is None else head.number
        head = await parts.store.append(first.draft, expected=expected)
    assert head is not None
    return head


async def _resumed(parts: _Parts, head: LoadedConfig) -> Resumed | None:
    """The stage of the head; None if it has none, or if its base cannot be read any more."""
    applier, plans, settings = parts.applier, parts.plans, head.config.rollout

    async def settings_of(revision: Revision) -> RolloutSettings:
        return (await applier.config_of(revision)).rollout

    assert head.revision is not None
    staged = await plans.staged(head.revision, settings)
    if staged is None:
        return None
    try:
        base = await base_of(parts.store, staged, settings_of)
        if base is None:
            return None
        compiled = await parts.compiler.compile((await applier.load(base)).loaded)
    except ConfigError as error:
        log.warning("revision %d goes to all Envoys at once:\n%s", head.revision, error)
        return None
    nodes = await parts.record.nodes(staged.begun.number)
    plan = await plans.judged(head.revision, settings, staged, nodes)
    return Resumed(compiled, plan)


def _watch(options: StartOptions, first: FirstConfig, applier: Applier) -> FileWatch | None:
    if options.file is None or first.file is None:
        return None
    first.file.leave_named_files()
    return FileWatch(first.file, file_origin(options.file), applier)
