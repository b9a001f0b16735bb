"""Publishes configs step by step, and restores the last good one when a node rejects a step.

Each step waits for every node until a timeout, and then continues without the nodes that have not
responded. A newer config replaces the one that is being rolled out. `order` plans the steps, and
`nodes` records what each node has accepted.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from xds.events import Events
from xds.protocol.nodes import Nack, Nodes
from xds.protocol.resource_types import ALL, ResourceType
from xds.protocol.snapshot import EMPTY
from xds.resources.compiled import CompiledConfig
from xds.rollout.common_keys import with_common_keys
from xds.rollout.order import steps

log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """How a rollout ended. `nack`: a node rejected a step; None if the new config is in force.

    `unresponsive` are the ids of nodes that did not respond in time. `rejected` is the config that
    the node has rejected.
    """

    nack: Nack | None = None
    unresponsive: tuple[str, ...] = ()
    rejected: CompiledConfig | None = field(default=None, compare=False, repr=False)


class Rollout:
    """Rolls out one config at a time. `ack_timeout` is the maximum wait of a step, in seconds.

    `events` gets the steps, and how each rollout ends.
    """

    def __init__(
        self,
        nodes: Nodes,
        ack_timeout: float,
        sleep: Sleep = asyncio.sleep,
        events: Events | None = None,
    ) -> None:
        self._nodes = nodes
        self._events = events or Events(nodes.now)
        self._ack_timeout = ack_timeout
        self._sleep = sleep
        self.ended = asyncio.Event()
        """Is set when a config is in force or has been rejected. The reader clears it."""
        self._target: CompiledConfig | None = None
        self._running: CompiledConfig | None = None
        self._renewal = False
        self._submitted = asyncio.Event()
        self._step: str | None = None
        self._in_force: CompiledConfig | None = None
        self._result: RolloutResult | None = None

    @property
    def in_force(self) -> CompiledConfig | None:
        """The config in force, with the snapshot as published; None before the first."""
        return self._in_force

    @property
    def latest(self) -> CompiledConfig | None:
        """The config that is queued or being rolled out; if there is none, the one in force."""
        return self._target or self._running or self._in_force

    @property
    def version(self) -> str | None:
        """The config version in force; None before the first."""
        return None if self._in_force is None else self._in_force.snapshot.version

    @property
    def step(self) -> str | None:
        """The current step, or `queued` before the first step; None if no rollout is running."""
        return "queued" if self._target is not None else self._step

    @property
    def result(self) -> RolloutResult | None:
        """How the latest rollout ended; None before the first."""
        return self._result

    @property
    def in_sync(self) -> bool:
        """Whether no rollout is running and every node has accepted the published snapshot."""
        return self.step is None and self._nodes.all_in_sync(ALL)

    def submit(self, compiled: CompiledConfig, *, renewal: bool = False) -> None:
        """Roll out this config next. A running rollout ends at its current step.

        `renewal`: the config in force with other key sets. The result stays that of the latest
        config.
        """
        self._target, self._renewal = compiled, renewal
        self._submitted.set()

    async def run(self) -> None:
        """Roll out submitted configs until the task is cancelled."""
        while True:
            await self._submitted.wait()
            self._submitted.clear()
            target, renewal = self._target, self._renewal
            self._running, self._target = target, None
            if target is not None:
                await self._roll_out(target, renewal)
                self._step = self._running = None

    async def _roll_out(self, target: CompiledConfig, renewal: bool) -> None:
        unresponsive: set[str] = set()
        plan = steps(self._nodes.snapshot, target.snapshot)
        for step in plan:
            self._step = step.name
            log.info("version %s: step %s", target.snapshot.version, step.name)
            self._events.emit(
                "rollout", version=target.snapshot.version, revision=target.revision, step=step.name
            )
            self._nodes.publish(step.snapshot)
            unresponsive |= set(await self._wait_for_acceptance(step.types))
            nack = self._nodes.nack()
            if nack is not None:
                self._restore(target, nack, renewal)
                return
            if self._submitted.is_set():
                return
            if step.in_force:
                in_force = replace(target, snapshot=plan[-1].snapshot)
                result = (
                    None if renewal else RolloutResult(unresponsive=tuple(sorted(unresponsive)))
                )
                self._put_in_force(in_force, result)
            if await self._is_replaced_during(step.pause):
                return

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

    def _put_in_force(self, compiled: CompiledConfig, result: RolloutResult | None) -> None:
        """Record what is in force. `result` is None for a renewal."""
        self._in_force = compiled
        if result is None:
            log.info("version %s has new key sets or endpoints", self.version)
            return
        self._result = result
        log.info("version %s is in force", self.version)
        self._events.emit(
            "rollout",
            version=self.version,
            revision=compiled.revision,
            step="in_force",
            unresponsive=list(result.unresponsive),
        )
        self.ended.set()

    def _restore(self, target: CompiledConfig, nack: Nack, renewal: bool) -> None:
        rejected = target.snapshot
        self._result = RolloutResult(nack, rejected=target)
        self._events.emit(
            "rollout",
            version=rejected.version,
            revision=target.revision,
            step="rejected",
            reason=str(nack),
        )
        log.error(
            "version %s is not in force: %s; the version in force is %s",
            rejected.version,
            nack,
            self.version or "none",
        )
        if renewal and self._in_force is not None:
            # The rejected key sets may have revoked keys.
            common = with_common_keys(self._in_force.snapshot, rejected)
            self._in_force = replace(self._in_force, snapshot=common)
        # Without a config in force, nodes get nothing, and keep what they have: the next rollout
        # must not begin with what was rejected.
        self._nodes.publish(EMPTY if self._in_force is None else self._in_force.snapshot)
        if not renewal:
            self.ended.set()


async def first(*awaitables: Awaitable[object]) -> None:
    """Wait until one awaitable is done, and cancel the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
