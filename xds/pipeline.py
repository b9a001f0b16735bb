"""The way of a config from a candidate, over the history, to its rollout: connects the parts."""

import asyncio
from dataclasses import dataclass

from sluice.config import GatewayConfig
from sluice.config.checked import LoadedConfig
from xds.canary.checks import check_no_steps
from xds.candidate.apply import Applier, file_origin
from xds.candidate.start import FirstConfig, StartOptions, first_config
from xds.candidate.watch import FileWatch
from xds.delivery.follow import Follower
from xds.delivery.plans import BeginTrial, Plans
from xds.delivery.rollbacks import Rollbacks
from xds.events import Events
from xds.resources.compiled import CompiledConfig
from xds.rollout.rollout import Rollout
from xds.sources.endpoints.discovered import DiscoveredEndpoints
from xds.sources.key_sets import FetchedKeySets
from xds.sources.store.source import StoredConfig
from xds.sources.store.store import ConflictError, Store
from xds.state import ControlPlaneState


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The parts. `compiled` is the first config, which the head of the store has."""

    source: StoredConfig
    applier: Applier
    follower: Follower
    compiled: CompiledConfig
    rollbacks: Rollbacks
    watch: FileWatch | None

    async def run(self, state: ControlPlaneState, rollout: Rollout) -> None:
        """Roll out the first config, and every change, until the task is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.follower.run(self.compiled, state, rollout))
            group.create_task(self.rollbacks.run())
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
) -> Pipeline:
    """Compile the first config, and append it to the history if the head has another one.

    Without `begin_trial`, nobody judges changes. Raises ConfigError and StoreError.
    """
    while True:
        try:
            return await _start(
                options, store, first, rollout, key_sets, endpoints, events, begin_trial
            )
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
) -> Pipeline:
    async def compile_loaded(loaded: LoadedConfig, *, ask: bool, dry_run: bool) -> CompiledConfig:
        return await follower.compiled(loaded, ask=ask, dry_run=dry_run)

    def running() -> GatewayConfig | None:
        return None if rollout.in_force is None else rollout.in_force.config

    file = options.file if options.store is None else None
    checks = () if file is None else (check_no_steps,)
    applier = Applier(
        store,
        options.names_below,
        compile_loaded,
        running,
        file=file,
        folder=options.folder,
        checks=checks,
    )
    rollbacks = Rollbacks(applier)
    hold = None if first.file is None else first.file.has_changed
    source = StoredConfig(str(file or store.name), store, applier.load, hold, events)
    loaded = first.reading.loaded
    plans = Plans(store, lambda: rollout.in_force, begin_trial)
    follower = Follower(source, loaded, key_sets, rollbacks.on_rejected, endpoints, plans.of)
    # A config that cannot be compiled must not become a revision.
    first_compiled = await follower.compiled(loaded)
    for check in checks:
        check(loaded, first_compiled)
    head = first.head
    if first.draft is not None:
        head = await store.append(first.draft, expected=0 if head is None else head.number)
    assert head is not None
    reading = first.reading.of_revision(head.number)
    source.begin(head, reading)
    return Pipeline(
        source,
        applier,
        follower,
        await follower.compiled(reading.loaded),
        rollbacks,
        _watch(options, first, applier),
    )


def _watch(options: StartOptions, first: FirstConfig, applier: Applier) -> FileWatch | None:
    if options.file is None or first.file is None:
        return None
    first.file.leave_named_files()
    return FileWatch(first.file, file_origin(options.file), applier)
