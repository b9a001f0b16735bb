"""One worker of the supervisor: starts its process, replaces it after an exit, and ends a process
that hangs.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Protocol

from sluice.restart import RestartBackoff
from sluice.supervision.silence import CHECK_INTERVAL, Silence
from sluice.supervision.stack_dump import DUMP_TIMEOUT, read_dump, request_dump
from sluice.supervision.worker_status import WorkerState, WorkerStatus

log = logging.getLogger(__name__)

START_TIMEOUT = 30.0
"""Seconds for a process to send its first heartbeat, if `hang_timeout` is not longer: it may have
to import modules on a slow machine."""

SILENT_AFTER = 1.0
"""Seconds without a heartbeat after which the status of a worker is `silent`."""


class WorkerRecord(Protocol):
    """What a slot reads of its worker, and what it records."""

    def heartbeats(self) -> int:
        """A count that grows as long as the worker's event loop runs."""

    def is_serving(self, pid: int) -> bool:
        """Whether this process of the worker says that it serves. Any thread may ask."""

    def started(self) -> None:
        """A process runs."""

    def hung(self) -> None:
        """The process hangs, and is killed."""

    def ended(self) -> None:
        """No process runs."""

    def silent(self, seconds: float) -> None:
        """Silence of the process at the latest look."""


@dataclass(frozen=True, slots=True)
class SlotSettings:
    """Settings of one slot.

    `main` runs in each process, with `arguments` and the lifeline: a pipe that ends with the
    supervisor. `stack_file`: the file for the stacks of the process. Times are in seconds: a worker
    that is silent for `hang_timeout` is replaced, and may take `drain_timeout` to drain.
    """

    index: int
    name: str
    main: Callable[..., None]
    arguments: tuple[object, ...]
    stack_file: Path
    drain_timeout: float
    hang_timeout: float


class WorkerSlot:
    """Runs one process at a time for one worker. Times are in monotonic seconds.

    `pid` is None while no process runs. `deadline` is the time of the slot's next scheduled action;
    None if nothing is scheduled.
    """

    def __init__(
        self, settings: SlotSettings, context: ForkServerContext, record: WorkerRecord
    ) -> None:
        self._settings = settings
        self._context = context
        self._record = record
        self._silence = Silence(0.0, 0)
        self._backoff = RestartBackoff()
        self._process: ForkServerProcess | None = None
        self._lifeline: Connection | None = None
        self._action: Callable[[float], None] = self.start
        self._hung = self._stopping = False
        self.pid: int | None = None
        self.deadline: float | None = None

    @property
    def drain_timeout(self) -> float:
        """Seconds that the worker may take to drain."""
        return self._settings.drain_timeout

    @property
    def sentinel(self) -> int | None:
        """Handle that becomes ready when the process ends; None while no process runs."""
        return None if self._process is None else self._process.sentinel

    @property
    def status(self) -> WorkerStatus:
        """The state of the worker. Any thread may read it."""
        pid, silence = self.pid, self._silence
        return WorkerStatus(
            self._settings.index,
            "down" if pid is None else self._state(silence),
            pid,
            None if pid is None else silence.seconds,
            self.is_serving,
        )

    @property
    def is_serving(self) -> bool:
        """Whether the process has a config, listens, and does not drain. Any thread may read it."""
        pid = self.pid
        if pid is None or self._hung:
            return False
        return self._record.is_serving(pid)

    def _state(self, silence: Silence) -> WorkerState:
        if self._hung:
            return "hung"
        if not silence.has_beaten:
            return "starting"
        return "silent" if silence.seconds > SILENT_AFTER else "running"

    def start(self, now: float) -> None:
        """Start the process. If the system has no files or memory for it, try again later."""
        # The process continues the count of its predecessor.
        self._silence = Silence(now, self._record.heartbeats())
        self._hung = False
        try:
            self._start_process()
        except (OSError, EOFError) as error:
            self._schedule(now + self._backoff.delay_after(0.0), self.start)
            reason = getattr(error, "strerror", None) or type(error).__name__
            log.error("worker %d cannot be started: %s", self._settings.index, reason)
            return
        self._schedule(now + CHECK_INTERVAL, self._check)
        self._record.started()

    def _start_process(self) -> None:
        """Start the process. It stops when this end of its lifeline is closed."""
        settings = self._settings
        settings.stack_file.unlink(missing_ok=True)
        worker_end, lifeline = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=settings.main,
            args=(*settings.arguments, worker_end),
            name=f"{settings.name}-{settings.index}",
        )
        try:
            process.start()
        except BaseException:
            lifeline.close()
            raise
        finally:
            worker_end.close()
        self._process, self._lifeline, self.pid = process, lifeline, process.pid

    def on_exit(self, now: float) -> None:
        """Handle the end of the process: schedule its restart, unless it was asked to end."""
        process, lifeline = self._process, self._lifeline
        assert process is not None
        assert lifeline is not None
        self._process = self._lifeline = self.pid = self.deadline = None
        process.join()
        self._record.ended()
        if not self._stopping:
            delay = self._backoff.delay_after(now - self._silence.started_at)
            self._schedule(now + delay, self.start)
            log.error(
                "worker %d ended with status %s: restarting in %.2f s",
                self._settings.index, process.exitcode, delay,
            )  # fmt: skip
        process.close()
        lifeline.close()

    def on_deadline(self, now: float) -> None:
        """Take the scheduled action."""
        self._action(now)

    def terminate(self) -> None:
        """Ask the process to drain and end. It is not restarted."""
        self._stopping = True
        if self._process is not None:
            self._process.terminate()
        else:
            self.deadline = None

    def kill(self) -> None:
        """End the process at once, because it did not drain in time."""
        if self._process is not None:
            log.warning("worker %d did not drain in time: killed", self._settings.index)
            self._process.kill()
            self._process.join()

    def _schedule(self, time: float, action: Callable[[float], None]) -> None:
        self.deadline, self._action = time, action

    def _check(self, now: float) -> None:
        """Look at the heartbeats. A process that has been silent for too long hangs."""
        silence, timeout = self._silence, self._settings.hang_timeout
        silence.look(now, self._record.heartbeats())
        self._record.silent(silence.seconds)
        if not silence.has_beaten:
            timeout = max(timeout, START_TIMEOUT)
        if silence.seconds < timeout:
            self._schedule(now + CHECK_INTERVAL, self._check)
        else:
            self._on_hang(now)

    def _on_hang(self, now: float) -> None:
        assert self.pid is not None
        log.error(
            "worker %d (pid %d) hangs: its event loop has not run for %.1f s",
            self._settings.index, self.pid, self._silence.seconds,
        )  # fmt: skip
        self._hung = True
        self._record.hung()
        request_dump(self.pid)
        self._schedule(now + DUMP_TIMEOUT, self._kill_hung)

    def _kill_hung(self, _: float) -> None:
        """Log the stacks and end the process. Its exit schedules the restart."""
        assert self._process is not None
        index = self._settings.index
        stacks = read_dump(self._settings.stack_file)
        unknown = "it wrote no stacks, so the process is stopped or waits in the kernel"
        log.error("worker %d is killed; its stacks:\n%s", index, stacks or unknown)
        self.deadline = None
        self._process.kill()
