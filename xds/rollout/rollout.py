"""Carries snapshots to the nodes step by step, and takes a refused one back.

Order is in `order`, the nodes' answers are in `nodes`; here is only what to do next: wait for
acceptance for so long, go on without a silent node, restore the last good snapshot on a refusal,
and let a newer snapshot take the place of one under way.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from xds.protocol.nodes import Nack, Nodes
from xds.protocol.resource_types import ALL, ResourceType
from xds.protocol.snapshot import EMPTY, Snapshot
from xds.rollout.order import steps

log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """Result of the latest snapshot: applied, or refused; `unresponsive` nodes did not answer."""

    version: str
    nack: Nack | None = None
    unresponsive: tuple[str, ...] = ()

    def error(self) -> str | None:
        """The refusal in words."""
        if self.nack is None:
            return None
        return f"node {self.nack.node} refused {self.nack.type.name}: {self.nack.reason}"


class Rollout:
    """One at a time, the latest wins. `ack_timeout` (seconds) bounds the wait of each step."""

    def __init__(self, nodes: Nodes, ack_timeout: float, sleep: Sleep = asyncio.sleep) -> None:
        self._nodes = nodes
        self._ack_timeout = ack_timeout
        self._sleep = sleep
        self._target: Snapshot | None = None
        self._submitted = asyncio.Event()
        self._step: str | None = None
        self._good = EMPTY
        self._result: RolloutResult | None = None

    @property
    def version(self) -> str:
        """Of the snapshot in force."""
        return self._good.version

    @property
    def step(self) -> str | None:
        """The step under way, None when there is nothing to do."""
        return "queued" if self._target is not None else self._step

    @property
    def result(self) -> RolloutResult | None:
        """Of the last snapshot that was carried to its end."""
        return self._result

    @property
    def in_sync(self) -> bool:
        """Whether nothing is under way, and every node has accepted what is shown."""
        return self.step is None and not self._nodes.out_of_sync(ALL)

    def submit(self, snapshot: Snapshot) -> None:
        """Make this the snapshot to reach; one under way is given up where it stands."""
        self._target = snapshot
        self._submitted.set()

    async def run(self) -> None:
        """Carry out what is submitted, until cancelled."""
        while True:
            await self._submitted.wait()
            self._submitted.clear()
            target, self._target = self._target, None
            if target is not None:
                await self._carry(target)
                self._step = None

    async def _carry(self, target: Snapshot) -> None:
        unresponsive: set[str] = set()
        for step in steps(self._nodes.view, target):
            self._step = step.name
            self._nodes.show(step.view)
            unresponsive |= set(await self._acceptance(step.types))
            nack = self._nodes.nack()
            if nack is not None:
                self._restore(target, nack)
                return
            if self._submitted.is_set():
                return
            if step.in_force:
                self._in_force(target, unresponsive)
            if await self._superseded_within(step.pause):
                return

    async def _acceptance(self, types: tuple[ResourceType, ...]) -> list[str]:
        """Wait for every node, a refusal, or a newer snapshot; returns who did not answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._ack_timeout):
                while self._nodes.nack() is None and not self._submitted.is_set():
                    if not self._nodes.out_of_sync(types):
                        return []
                    self._nodes.progress.clear()
                    await _first(self._nodes.progress.wait(), self._submitted.wait())
        if self._nodes.nack() is not None or self._submitted.is_set():
            return []
        unresponsive = [node.id for node in self._nodes.out_of_sync(types)]
        if unresponsive:
            log.warning("went on without an answer from %s", ", ".join(unresponsive))
        return unresponsive

    async def _superseded_within(self, pause: float) -> bool:
        if pause:
            await _first(self._sleep(pause), self._submitted.wait())
        return self._submitted.is_set()

    def _in_force(self, target: Snapshot, unresponsive: set[str]) -> None:
        self._good = target
        self._result = RolloutResult(target.version, unresponsive=tuple(sorted(unresponsive)))
        log.info("version %s is in force", target.version)

    def _restore(self, target: Snapshot, nack: Nack) -> None:
        self._result = RolloutResult(target.version, nack)
        log.error("%s; version %s stays", self._result.error(), self._good.version)
        if self._good is not EMPTY:
            self._nodes.show(self._good)


async def _first(*awaitables: Awaitable[object]) -> None:
    """Wait for whichever is done first, and drop the rest."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
