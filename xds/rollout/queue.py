"""The tasks of a rollout: the one that runs, and the one that follows.

One task at most waits: a newer config replaces it. A judgement may demand a task by itself.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from xds.resources.compiled import CompiledConfig
from xds.rollout.events import RolloutEvents
from xds.rollout.judgement import Judgement
from xds.rollout.task import Task
from xds.waiting import Sleep, first


class TaskQueue:
    """Says which task is next. `clock` returns seconds, as `sleep` counts them."""

    def __init__(
        self,
        judgement: Judgement,
        events: RolloutEvents,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._judgement = judgement
        self._events = events
        self._sleep = sleep
        self._clock = clock
        self._next: Task | None = None
        self._running: Task | None = None
        self._submitted = asyncio.Event()

    @property
    def is_waiting(self) -> bool:
        """Whether a task has not begun."""
        return self._next is not None

    @property
    def is_replaced(self) -> bool:
        """Whether the task that runs must end, because a newer config waits."""
        return self._submitted.is_set()

    def latest(self, in_force: CompiledConfig | None) -> CompiledConfig | None:
        """The config of the last task; if there is none, the staged one, or the one in force."""
        task = self._next or self._running
        return self._judgement.staged or in_force if task is None else task.target

    def base(self, in_force: CompiledConfig | None) -> CompiledConfig | None:
        """What other nodes have as long as `latest` is staged; None if all nodes get `latest`."""
        task = self._next or self._running
        if task is None:
            return None if self._judgement.staged is None else in_force
        return task.base or (None if task.plan.stage is None else in_force)

    def submit(self, task: Task) -> None:
        """Let a task follow the one that runs, instead of the one that waits."""
        known, stage = self._next or self._running, self._judgement.stage
        if known is None and stage is not None and task.base is not None:
            known = Task(stage.target, plan=stage.plan)
        self._next = task if known is None else task.after(known).upon(known)
        self._submitted.set()

    async def begin(self, in_force: CompiledConfig | None) -> Task:
        """Wait for the next task, or until a judgement needs one. The task runs until `end`."""
        while True:
            due = self._judgement.next_task(self._next, in_force, self._clock())
            if due is not None or self._next is not None:
                break
            await self._until_submitted_or_due()
        # A renewal of a judged config that waits would put it in force again.
        task, self._next = due or self._next, None
        self._submitted.clear()
        assert task is not None
        if due is not None and due.undoes is not None:
            version = None if in_force is None else in_force.snapshot.version
            self._events.on_failure(due.undoes, version)
        self._running = task
        return task

    def end(self) -> None:
        """The task that runs is done, or has been replaced."""
        self._running = None

    async def until_submitted_or(self, other: Awaitable[object]) -> None:
        """Wait for a task, or for something else."""
        await first(self._submitted.wait(), other)

    async def _until_submitted_or_due(self) -> None:
        """Wait for a task, or until a config is to be judged."""
        due = self._judgement.due
        if due is None:
            await self._submitted.wait()
        else:
            await self.until_submitted_or(self._sleep(max(0.0, due - self._clock())))
