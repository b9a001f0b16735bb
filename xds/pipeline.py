"""The way of a config from a candidate, over the history, to its rollout: connects the parts."""

import asyncio
import logging
from dataclasses import dataclass

from sluice.config import ConfigError, GatewayConfig
from sluice.config.checked import LoadedConfig
from sluice.config.rollout import RolloutSettings
from xds.canary.checks import check_no_steps
from xds.candidate.apply import Applier, file_origin
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
                group.create_task(self.watch.run(state.on_invalid_config))


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
    parts = rollout, key_sets, endpoints, events, begin_trial, begin_stage
    while True:
        try:
            return await _start(options, store, first, *parts)
        except ConflictError:
            # Another control plane was first: its config is the head now.
            first = await first_config(options, store)


async def _start(
    options: StartOptions,
    store: Store,
    first: FirstConfig,
    rollout: Rollout,
    key_sets: FetchedKeySets,
    endpoints: DiscoveredEndpoints | None,
    events: Events | None,
    begin_trial: BeginTrial | None,
    begin_stage: BeginStage | None,
) -> Pipeline:
    def running() -> GatewayConfig | None:
        return None if rollout.in_force is None else rollout.in_force.config

    loaded = first.reading.loaded
    file = options.file if options.store is None else None
    name = str(file or store.name)
    endpoints = endpoints or DiscoveredEndpoints()
    compiler = Compiler(name, loaded.config, key_sets, endpoints)
    checks = () if file is None else (check_no_steps,)
    applier = Applier(
        store,
        options.names_below,
        compiler.compile,
        running,
        file=file,
        folder=options.folder,
        checks=checks,
    )
    rollbacks = Rollbacks(applier)
    hold = None if first.file is None else first.file.has_changed
    source = StoredConfig(name, store, applier.load, hold, events)
    plans = Plans(store, rollout, begin_trial, begin_stage)
    record = StageRecord(store)
    base_files = BaseFiles(applier.read_again)
    follower = Follower(
        source,
        compiler,
        key_sets,
        endpoints,
        rollbacks.on_rejected,
        plans.of,
        record.on_stage,
        base_files,
    )
    # A config that cannot be compiled must not become a revision.
    first_compiled = await compiler.compile(loaded)
    for check in checks:
        check(loaded, first_compiled)
    head = first.head
    if first.draft is not None:
        head = await store.append(first.draft, expected=0 if head is None else head.number)
    assert head is not None
    reading = first.reading.of_revision(head.number)
    source.begin(head, reading)
    compiled = await compiler.compile(reading.loaded)
    resumed = None
    if first.draft is None:  # A file that was edited meanwhile goes to all Envoys.
        resumed = await _resumed(store, applier, compiler, plans, record, reading.loaded)
    return Pipeline(
        source,
        applier,
        follower,
        compiled,
        rollbacks,
        record,
        _watch(options, first, applier),
        resumed,
    )


async def _resumed(
    store: Store,
    applier: Applier,
    compiler: Compiler,
    plans: Plans,
    record: StageRecord,
    head: LoadedConfig,
) -> Resumed | None:
    """The stage of the head; None if it has none, or if its base cannot be read any more."""

    async def settings_of(revision: Revision) -> RolloutSettings:
        return (await applier.config_of(revision)).rollout

    assert head.revision is not None
    staged = await plans.staged(head.revision, head.config.rollout)
    if staged is None:
        return None
    try:
        base = await base_of(store, staged, settings_of)
        if base is None:
            return None
        compiled = await compiler.compile((await applier.load(base)).loaded)
    except ConfigError as error:
        log.warning("revision %d goes to all Envoys at once:\n%s", head.revision, error)
        return None
    nodes = await record.nodes(staged.begun.number)
    plan = await plans.judged(head.revision, head.config.rollout, staged, nodes)
    return Resumed(compiled, plan)


def _watch(options: StartOptions, first: FirstConfig, applier: Applier) -> FileWatch | None:
    if options.file is None or first.file is None:
        return None
    first.file.leave_named_files()
    return FileWatch(first.file, file_origin(options.file), applier)
