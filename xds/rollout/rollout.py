"""Publishes configs step by step, and restores the last good one when a node rejects a step.

Each step waits for every node until a timeout, and then continues without the nodes that have not
responded. A newer config replaces the one that is being rolled out. `order` plans the steps, and
`nodes` records what each node has accepted.

Afterwards, a config may be watched: if its trial finds a failure, the config before it is rolled
out again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from xds.events import Events
from xds.protocol.nodes import Nack, Nodes
from xds.protocol.resource_types import ALL, ResourceType
from xds.protocol.snapshot import EMPTY
from xds.resources.compiled import CompiledConfig
from xds.rollout.common_keys import with_common_keys
from xds.rollout.order import steps
from xds.rollout.plan import AT_ONCE, Plan, Trial

log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """How a rollout ended. `failure`: why the config is not in force; None if it is.

    `nack`: a node rejected a step. `worse`: what the trial of the config has found. `unresponsive`
    are the ids of nodes that did not respond in time. `rejected` is the config that failed.
    """

    nack: Nack | None = None
    unresponsive: tuple[str, ...] = ()
    rejected: CompiledConfig | None = field(default=None, compare=False, repr=False)
    worse: str | None = None

    @property
    def failure(self) -> str | None:
        """Why the config is not in force."""
        return self.worse if self.nack is None else str(self.nack)


TICK: Final = 5.0
"""Seconds from one judgement of a trial to the next. A rollout meanwhile may delay it."""


@dataclass(frozen=True, slots=True)
class _Task:
    """A config to roll out. `renewal`: the one in force with other key sets.

    `undoes`: how a watched config has failed, before which this config was in force.
    """

    target: CompiledConfig
    renewal: bool = False
    plan: Plan = AT_ONCE
    undoes: RolloutResult | None = None


@dataclass(slots=True)
class _Watch:
    """A config in force that is judged, and the config before it.

    `due` is the time of the next judgement, `until` that of the last one.
    """

    judged: CompiledConfig
    before: CompiledConfig
    trial: Trial
    due: float
    until: float


class Rollout:
    """Rolls out one config at a time. `ack_timeout` is the maximum wait of a step, in seconds.

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
    ) -> None:
        self._nodes = nodes
        self._events = events or Events(nodes.now)
        self._ack_timeout = ack_timeout
        self._sleep = sleep
        self._clock = clock
        self.ended = asyncio.Event()
        """Is set when a config is in force or has been rejected. The reader clears it."""
        self._next: _Task | None = None
        self._running: _Task | None = None
        self._pending: set[ResourceType] = set()
        """Published types that nodes may not have accepted, because nobody waits any more."""
        self._watch: _Watch | None = None
        self._submitted = asyncio.Event()
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
        """The config that is queued or being rolled out; if there is none, the one in force."""
        task = self._next or self._running
        return self._in_force if task is None else task.target

    @property
    def version(self) -> str | None:
        """The config version in force; None before the first."""
        return None if self._in_force is None else self._in_force.snapshot.version

    @property
    def step(self) -> str | None:
        """The current step, or `queued` before the first step; None if no rollout is running."""
        return "queued" if self._next is not None else self._step

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
        return None if self._watch is None else self._watch.judged.revision

    def submit(
        self, compiled: CompiledConfig, *, renewal: bool = False, plan: Plan = AT_ONCE
    ) -> None:
        """Roll out this config next. A running rollout ends at its current step.

        `renewal`: the config in force with other key sets. The result stays that of the latest
        config.
        """
        running = self._running
        again = running is not None and _is_same_revision(compiled, running.target)
        # The config that undoes another is renewed: its rollout ends as that of the first one.
        self._next = _Task(compiled, renewal, plan, running.undoes if running and again else None)
        self._submitted.set()

    async def run(self) -> None:
        """Roll out submitted configs until the task is cancelled."""
        while True:
            task = await self._next_task()
            self._running = task
            await self._roll_out(task)
            self._step = self._running = None

    async def _next_task(self) -> _Task:
        """Wait for the next config, or until the watched one fails."""
        while (undo := self._judge()) is None and self._next is None:
            await self._until_submitted_or_due()
        if self._next is None:
            assert undo is not None
            return undo
        self._submitted.clear()
        task, self._next = self._next, None
        # A renewal of the watched config would put it in force again.
        return undo or task

    async def _until_submitted_or_due(self) -> None:
        """Wait for a config, or until the watched one is to be judged."""
        if self._watch is None:
            await self._submitted.wait()
        else:
            wait = max(0.0, self._watch.due - self._clock())
            await first(self._sleep(wait), self._submitted.wait())

    def _judge(self) -> _Task | None:
        """Judge the watched config if it is time. Returns the config before it, if it is worse."""
        watch, now = self._watch, self._clock()
        if watch is None or now < watch.due or not self._is_kept(watch, self._next):
            return None
        watch.due = now + TICK
        worse = watch.trial.failure()
        if worse is None:
            if now >= watch.until:
                self._watch = None
                log.info(
                    "version %s stays: no failure was found while it was watched", self.version
                )
            return None
        self._watch = None
        undoes = RolloutResult(worse=worse, rejected=watch.judged)
        self._log_failure(undoes)
        before, present = watch.before, self._nodes.snapshot
        # Keys may have been revoked meanwhile.
        common = with_common_keys(before.snapshot, present)
        return _Task(replace(before, snapshot=common), undoes=undoes)

    @staticmethod
    def _is_kept(watch: _Watch, task: _Task | None) -> bool:
        """Whether the watched config stays. Other key sets or files of it are no change."""
        return task is None or task.renewal or _is_same_revision(task.target, watch.judged)

    async def _roll_out(self, task: _Task) -> None:
        target, unresponsive = task.target, set[str]()
        before = self._in_force
        moves = self._nodes.moves(target.snapshot)
        plan = steps(self._nodes.snapshot, target.snapshot, moves, self._pending)
        for step in plan:
            self._step = step.name
            log.info("version %s: step %s", target.snapshot.version, step.name)
            self._events.emit(
                "rollout", version=target.snapshot.version, revision=target.revision, step=step.name
            )
            self._nodes.publish(step.snapshot)
            self._pending.update(step.types)
            unresponsive |= set(await self._wait_for_acceptance(step.types))
            nack = self._nodes.nack()
            if nack is not None:
                self._restore(task, nack)
                return
            if self._submitted.is_set():
                return
            self._pending.difference_update(step.types)
            if step.in_force:
                in_force = replace(target, snapshot=plan[-1].snapshot)
                self._put_in_force(task, in_force, tuple(sorted(unresponsive)))
                self._begin_watch(task, before)
            if await self._is_replaced_during(step.pause):
                return

    def _begin_watch(self, task: _Task, before: CompiledConfig | None) -> None:
        """Watch what is in force now."""
        if task.renewal or (self._watch is not None and self._is_kept(self._watch, task)):
            return
        self._watch, plan = None, task.plan
        if plan.trial is not None and before is not None:
            plan.trial.start()
            now = self._clock()
            self._watch = _Watch(
                task.target, before, plan.trial, due=now + TICK, until=now + plan.watch
            )

    async def _wait_for_acceptance(self, types: tuple[ResourceType, ...]) -> list[str]:
        """Wait until all nodes have accepted these types, until a NACK, or until a newer config.

        Returns the ids of the nodes that did not respond in time.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ack_timeout):
                while self._nodes.nack() is None and not self._submitted.is_set():
                    if self._nodes.all_in_sync(types):
                        return []
                    self._nodes.progress.clear()
                    await first(self._nodes.progress.wait(), self._submitted.wait())
        if self._nodes.nack() is not None or self._submitted.is_set():
            return []
        unresponsive = [node.id for node in self._nodes.out_of_sync(types)]
        if unresponsive:
            log.warning(
                "step %s continues without nodes that did not respond within %g s: %s",
                self._step,
                self._ack_timeout,
                ", ".join(unresponsive),
            )
        return unresponsive

    async def _is_replaced_during(self, pause: float) -> bool:
        """Wait for `pause` seconds; return True at once if a newer config is submitted."""
        if pause:
            await first(self._sleep(pause), self._submitted.wait())
        return self._submitted.is_set()

    def _put_in_force(
        self, task: _Task, in_force: CompiledConfig, unresponsive: tuple[str, ...]
    ) -> None:
        """Record what is in force."""
        self._in_force = in_force
        if task.renewal:
            log.info("version %s has new key sets or endpoints", self.version)
            return
        self._result = replace(task.undoes or RolloutResult(), unresponsive=unresponsive)
        if not task.plan.records_failure:
            self._failure = self._result.failure
        log.info("version %s is in force", self.version)
        self._events.emit(
            "rollout",
            version=self.version,
            revision=in_force.revision,
            step="in_force",
            unresponsive=list(unresponsive),
        )
        self.ended.set()

    def _restore(self, task: _Task, nack: Nack) -> None:
        """Put the config in force again at all nodes, because one has rejected the new one."""
        self._result = RolloutResult(nack, rejected=task.target)
        self._failure = self._result.failure
        self._log_failure(self._result)
        rejected = task.target.snapshot
        if task.renewal and self._in_force is not None:
            # The rejected key sets may have revoked keys.
            common = with_common_keys(self._in_force.snapshot, rejected)
            self._in_force = replace(self._in_force, snapshot=common)
        # Without a config in force, nodes get nothing, and keep what they have: the next rollout
        # must not begin with what was rejected.
        self._nodes.publish(EMPTY if self._in_force is None else self._in_force.snapshot)
        if not task.renewal:
            self._watch = None
            self.ended.set()

    def _log_failure(self, result: RolloutResult) -> None:
        assert result.rejected is not None
        version = result.rejected.snapshot.version
        self._events.emit(
            "rollout",
            version=version,
            revision=result.rejected.revision,
            step="rejected",
            reason=result.failure,
        )
        if result.nack is None:
            log.error("version %s is rolled back: %s", version, result.failure)
            return
        log.error(
            "version %s is not in force: %s; the version in force is %s",
            version,
            result.failure,
            self.version or "none",
        )


def _is_same_revision(one: CompiledConfig, other: CompiledConfig) -> bool:
    return one.revision is not None and one.revision == other.revision


async def first(*awaitables: Awaitable[object]) -> None:
    """Wait until one awaitable is done, and cancel the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
