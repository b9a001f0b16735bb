"""Publishes configs step by step, and restores the last good one when a node rejects a step.

Each step waits for every node until a timeout, and then continues without the nodes that have not
responded. A newer config replaces the one that is being rolled out (`queue`). `order` plans the
steps, and `nodes` records what each node has accepted.

A config may have a stage first, in which only some Envoys have it (`stage`). Once it is in force,
it may be watched (`watch`). If it turns out to be worse (`judgement`), the config before is rolled
out again.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from xds.events import Events
from xds.protocol.nodes import Nack, Nodes
from xds.protocol.resource_types import ALL, ResourceType
from xds.protocol.snapshot import EMPTY, Snapshot
from xds.resources.compiled import CompiledConfig
from xds.rollout.common_keys import with_common_keys
from xds.rollout.events import RolloutEvents
from xds.rollout.judgement import Judgement
from xds.rollout.order import Step, steps
from xds.rollout.plan import AT_ONCE, Plan
from xds.rollout.queue import TaskQueue
from xds.rollout.stage import RunningStage, StageView, has_other_stage, staged_snapshot, unstaged
from xds.rollout.task import RolloutResult, Task
from xds.waiting import Sleep

OnInForce = Callable[[Snapshot, tuple[str, ...]], None]
"""What happens when a config is in force. It gets the last snapshot of the rollout, and the ids of
the nodes that have not responded."""


class Rollout:
    """Rolls out one config at a time. `ack_timeout` is the maximum wait of a step, in seconds.

    `propagation`: seconds until the Envoys of a mesh have what istiod gets; 0 without a mesh.

    `clock` returns seconds, as `sleep` counts them. `events` gets the steps, and how each rollout
    ends.
    """

    def __init__(
        self,
        nodes: Nodes,
        ack_timeout: float,
        sleep: Sleep = asyncio.sleep,
        events: Events | None = None,
        clock: Callable[[], float] = time.monotonic,
        propagation: float = 0.0,
    ) -> None:
        self._nodes = nodes
        self._events = RolloutEvents(events or Events(nodes.now))
        self._ack_timeout = ack_timeout
        self._sleep = sleep
        self._clock = clock
        self._propagation = propagation
        self._extended_at: float | None = None
        """When a mesh has got new hosts or routes; None before the first."""
        self.ended = asyncio.Event()
        """Is set when a config is in force, staged or rejected. The reader clears it."""
        self._pending: set[ResourceType] = set()
        """Published types that nodes may not have accepted, because nobody waits any more."""
        self._judgement = Judgement(nodes)
        self._queue = TaskQueue(self._judgement, self._events, sleep, clock)
        self._step: str | None = None
        self._in_force: CompiledConfig | None = None
        self._result: RolloutResult | None = None
        self._failure: str | None = None

    @property
    def in_force(self) -> CompiledConfig | None:
        """The config in force, with the snapshot as published; None before the first."""
        return self._in_force

    @property
    def latest(self) -> CompiledConfig | None:
        """The config that is queued or being rolled out.

        If there is none, the one that is staged; if there is none either, the one in force.
        """
        return self._queue.latest(self._in_force)

    @property
    def base(self) -> CompiledConfig | None:
        """What other nodes have as long as `latest` is staged; None if all nodes get `latest`."""
        return self._queue.base(self._in_force)

    @property
    def stage(self) -> StageView | None:
        """The stage that runs; None if there is none."""
        stage = self._judgement.stage
        return None if stage is None else stage.view(self._clock())

    @property
    def staged(self) -> CompiledConfig | None:
        """The config of the stage that runs; None if there is none."""
        return self._judgement.staged

    @property
    def version(self) -> str | None:
        """The config version in force; None before the first."""
        return None if self._in_force is None else self._in_force.snapshot.version

    @property
    def step(self) -> str | None:
        """The current step, or `queued` before the first step; None if no rollout is running."""
        return "queued" if self._queue.is_waiting else self._step

    @property
    def result(self) -> RolloutResult | None:
        """How the latest rollout ended; None before the first."""
        return self._result

    @property
    def failure(self) -> str | None:
        """Why the latest change is not in force; None if it is."""
        return self._failure

    @property
    def in_sync(self) -> bool:
        """Whether no rollout is running and every node has accepted the published snapshot."""
        return self.step is None and self._nodes.all_in_sync(ALL)

    @property
    def watched(self) -> int | None:
        """The revision in force that is judged now; None if none is."""
        return self._judgement.watched

    def submit(
        self,
        compiled: CompiledConfig,
        *,
        renewal: bool = False,
        plan: Plan = AT_ONCE,
        base: CompiledConfig | None = None,
    ) -> None:
        """Roll out this config next. A running rollout ends at its current step.

        `renewal`: the config in force with other key sets. The result stays that of the latest
        config. `base`: what the nodes get that do not get this config yet, because it has a stage;
        None: what they have, or would have got by the rollout that this one ends.
        """
        self._queue.submit(Task(compiled, renewal, plan, base))

    async def run(self) -> None:
        """Roll out submitted configs until the task is cancelled."""
        while True:
            await self._roll_out(await self._queue.begin(self._in_force))
            self._queue.end()
            self._step = None

    async def _roll_out(self, task: Task) -> None:
        before, stage = task.base or self._in_force, self._stage_of(task)
        wanted, published = task.target.snapshot, self._nodes.snapshot
        if stage is None or before is None:
            await self._take(task, self._steps(wanted), lambda *ended: self._end(task, *ended))
            return
        # Workers have one staged policy: Envoys with marks of another one lose these before.
        returns = has_other_stage(published, wanted.version)
        if returns and not await self._take(task, self._steps(before.snapshot)):
            return
        wanted = staged_snapshot(before.snapshot, wanted, stage.nodes)
        await self._take(
            task, self._steps(wanted), lambda *ended: self._put_staged(stage, before, *ended)
        )

    def _steps(self, wanted: Snapshot) -> list[Step]:
        unsettled = 0.0
        if self._extended_at is not None:
            unsettled = max(0.0, self._extended_at + self._propagation - self._clock())
        return steps(
            self._nodes.snapshot,
            wanted,
            self._nodes.moves(wanted),
            self._pending,
            self._propagation,
            unsettled,
        )

    async def _take(
        self, task: Task, plan: list[Step], on_in_force: OnInForce | None = None
    ) -> bool:
        """Take the steps of a plan. Returns False if a node rejects one, or for a newer config."""
        unresponsive = set[str]()
        for step in plan:
            self._begin(task, step)
            unresponsive |= set(await self._wait_for_acceptance(step.types))
            nack = self._nodes.nack()
            if nack is not None:
                self._restore(task, nack)
                return False
            if self._queue.is_replaced:
                return False
            self._pending.difference_update(step.types)
            if step.in_force and on_in_force is not None:
                on_in_force(plan[-1].snapshot, tuple(sorted(unresponsive)))
            if await self._is_replaced_during(step.pause):
                return False
        return True

    def _begin(self, task: Task, step: Step) -> None:
        self._step = step.name
        self._events.on_step(task.target, step.name)
        self._nodes.publish(step.snapshot)
        self._pending.update(step.types)
        if step.extends_mesh:
            self._extended_at = self._clock()

    def _end(self, task: Task, last: Snapshot, unresponsive: tuple[str, ...]) -> None:
        """Record that a config is in force, and judge it if its plan says so."""
        before = self._in_force
        self._put_in_force(task, replace(task.target, snapshot=last), unresponsive)
        self._judgement.begin_watch(task, before, self._clock())

    def _stage_of(self, task: Task) -> RunningStage | None:
        """The stage of a task; None if all nodes get its config at once. Ends any other stage."""
        judgement, stage = self._judgement, None
        if task.plan.stage is not None and (task.base or self._in_force) is not None:
            stage = judgement.stage_of(task)
            if stage is None:
                self._events.on_not_staged(task.target)
        if stage is None or not judgement.is_staged(task):
            judgement.end_stage()
        return stage

    async def _wait_for_acceptance(self, types: tuple[ResourceType, ...]) -> list[str]:
        """Wait until all nodes have accepted these types, until a NACK, or until a newer config.

        Returns the ids of the nodes that did not respond in time.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ack_timeout):
                while self._nodes.nack() is None and not self._queue.is_replaced:
                    if self._nodes.all_in_sync(types):
                        return []
                    self._nodes.progress.clear()
                    await self._queue.until_submitted_or(self._nodes.progress.wait())
        if self._nodes.nack() is not None or self._queue.is_replaced:
            return []
        unresponsive = [node.id for node in self._nodes.out_of_sync(types)]
        if unresponsive:
            self._events.on_unresponsive(self._step, self._ack_timeout, unresponsive)
        return unresponsive

    async def _is_replaced_during(self, pause: float) -> bool:
        """Wait for `pause` seconds; return True at once if a newer config is submitted."""
        if pause:
            await self._queue.until_submitted_or(self._sleep(pause))
        return self._queue.is_replaced

    def _put_in_force(
        self, task: Task, in_force: CompiledConfig, unresponsive: tuple[str, ...]
    ) -> None:
        """Record what is in force."""
        self._in_force = in_force
        if task.renewal:
            self._events.on_renewed(in_force)
            return
        self._result = replace(task.undoes or RolloutResult(), unresponsive=unresponsive)
        if not task.plan.records_failure:
            self._failure = self._result.failure
        self._events.on_in_force(in_force, unresponsive)
        self.ended.set()

    def _put_staged(
        self,
        stage: RunningStage,
        before: CompiledConfig,
        published: Snapshot,
        unresponsive: tuple[str, ...],
    ) -> None:
        """Record that a config is staged, and what the other nodes have."""
        self._in_force = replace(before, snapshot=unstaged(published, before.snapshot))
        judgement = self._judgement
        if judgement.stage is not None:
            judgement.stage = stage
            self._events.on_stage_renewed(stage.target)
            return
        judgement.begin_stage(stage, self._clock())
        view = stage.view(self._clock())
        self._result, self._failure = RolloutResult(unresponsive=unresponsive), None
        until = self._nodes.now() + view.remaining
        self._events.on_staged(stage.target, view, until, unresponsive)
        self.ended.set()

    def _restore(self, task: Task, nack: Nack) -> None:
        """Put the config in force again at all nodes, because one has rejected the new one."""
        self._result = RolloutResult(nack, rejected=task.target)
        self._failure = self._result.failure
        self._events.on_failure(self._result, self.version)
        rejected = task.target.snapshot
        if (task.renewal or task.base is not None) and self._in_force is not None:
            # The rejected key sets may have revoked keys.
            renewed = rejected if task.base is None else task.base.snapshot
            common = with_common_keys(self._in_force.snapshot, renewed)
            self._in_force = replace(self._in_force, snapshot=common)
        self._judgement.end_stage()
        # Without a config in force, nodes get nothing, and keep what they have: the next rollout
        # must not begin with what was rejected.
        self._nodes.publish(EMPTY if self._in_force is None else self._in_force.snapshot)
        if not task.renewal:
            self._judgement.end_watch()
            self.ended.set()
