"""A slot finds out that its process hangs, logs the stacks, kills the process and replaces it.

The processes are real. The times are passed in.
"""

import logging
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from extproc.counter_table import CounterTable, create
from extproc.process.callout_worker import SharedSettings, WorkerMain, worker_slot
from extproc.process.heartbeat import Heartbeat
from extproc.process.telemetry import TelemetrySettings
from extproc.process.worker import WorkerSettings
from extproc.protection import ProtectionSettings
from extproc.telemetry import catalog
from extproc.telemetry.exposition import find_series
from extproc.telemetry.metrics import Counter, Gauge
from sluice.restart import MIN_RESTART_DELAY
from sluice.supervision.silence import CHECK_INTERVAL
from sluice.supervision.stack_dump import read_dump, stack_file
from sluice.supervision.worker_slot import START_TIMEOUT, WorkerSlot
from tests.extproc.process import silent_workers
from tests.extproc.process.silent_workers import deadlocked, ending, stopped, without_loop

HANG_TIMEOUT = 5.0
WAIT = 60.0
"""Seconds after which a wait for a process fails the test."""

Create = Callable[[WorkerMain], WorkerSlot]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create(tmp_path / "counters", rows=2, columns=1000)
    os.mkfifo(tmp_path / "ready")
    return tmp_path / "counters"


@pytest.fixture
def table(path: Path) -> Iterator[CounterTable]:
    """The supervisor's row."""
    table = CounterTable(path, 1)
    yield table
    table.close()


@pytest.fixture
def new_slot(path: Path, table: CounterTable) -> Iterator[Create]:
    """Creates slots; kills their processes at the end."""
    with ExitStack() as stack:

        def create_slot(main: WorkerMain) -> WorkerSlot:
            shared = SharedSettings(
                TelemetrySettings(path), ProtectionSettings(), HANG_TIMEOUT, main
            )
            settings = WorkerSettings(0, "unix:unused", "unused", "asyncio", 0.0, 1 << 20)
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([silent_workers.__name__])
            slot = worker_slot(settings, shared, context, table)
            stack.callback(slot.kill)
            return slot

        yield create_slot


def ready(path: Path) -> None:
    """Wait until the process hangs."""
    assert path.with_name("ready").read_text() == "ready"


def pass_time(slot: WorkerSlot, seconds: float) -> float:
    """Take all scheduled actions of this time. Returns the time at which it ends."""
    assert slot.deadline is not None
    now, end = slot.deadline, slot.deadline + seconds
    while slot.deadline is not None and slot.deadline <= end:
        now = slot.deadline
        slot.on_deadline(now)
    return now


def hang(slot: WorkerSlot, timeout: float) -> float:
    """Let the time pass until the slot says that the process hangs. Returns that time."""
    assert slot.deadline is not None
    began = now = slot.deadline
    while slot.status.state != "hung":
        assert slot.deadline is not None
        now = slot.deadline
        slot.on_deadline(now)
        assert now - began < timeout + 2
    assert now - began >= timeout - CHECK_INTERVAL
    return now


def metric(table: CounterTable, family: Counter | Gauge) -> float | None:
    ((_, column),) = find_series(table, (family,))[family.name]
    rows = table.values(column)
    return family.aggregate(rows) if isinstance(family, Gauge) else sum(rows)


@contextmanager
def without_free_files() -> Iterator[None]:
    """Let this process open no more files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_worker_that_cannot_be_started_is_started_later(
    new_slot: Create, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The supervisor must not end, because all workers end with it."""
    slot = new_slot(deadlocked)
    with without_free_files():
        slot.start(0.0)
    assert slot.status.state == "down"
    assert "worker 0 cannot be started: Too many open files" in caplog.text
    assert slot.deadline == MIN_RESTART_DELAY
    slot.on_deadline(slot.deadline)
    ready(path)
    assert slot.status.state == "starting"


def test_the_restart_delay_of_a_worker_that_ends_grows(new_slot: Create) -> None:
    slot, now, delays = new_slot(ending), 0.0, []
    slot.start(now)
    for _ in range(4):
        assert slot.sentinel is not None
        assert wait([slot.sentinel], WAIT) == [slot.sentinel]
        slot.on_exit(now)
        assert slot.deadline is not None
        delays.append(slot.deadline - now)
        now = slot.deadline
        slot.on_deadline(now)
    assert delays == pytest.approx([MIN_RESTART_DELAY * 2**n for n in range(4)])


def test_a_deadlocked_worker_is_killed_with_its_stacks_in_the_log_and_replaced(
    new_slot: Create, path: Path, table: CounterTable, caplog: pytest.LogCaptureFixture
) -> None:
    slot = new_slot(deadlocked)
    slot.start(0.0)
    pid, sentinel = slot.pid, slot.sentinel
    assert sentinel is not None
    assert slot.status.state == "starting"
    ready(path)
    pass_time(slot, 0.5)
    assert slot.status.state == "running"
    pass_time(slot, 2.0)
    assert slot.status.state == "silent"
    assert metric(table, catalog.WORKER_UP) == 1
    assert metric(table, catalog.WORKER_SILENCE) == slot.status.silence
    now = hang(slot, HANG_TIMEOUT - 3)
    assert metric(table, catalog.WORKER_UP) == 0
    assert metric(table, catalog.WORKER_HANGS) == 1
    deadline = time.monotonic() + WAIT
    while "in _beat_and_block" not in read_dump(stack_file(path.parent, 0)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pass_time(slot, 1.0)
    assert f"worker 0 (pid {pid}) hangs" in caplog.text
    assert "in _wait_for_a_lock_that_nobody_releases" in caplog.text
    assert wait([sentinel], WAIT) == [sentinel]
    slot.on_exit(now)
    assert slot.status.state == "down"
    assert metric(table, catalog.WORKER_SILENCE) is None
    assert slot.deadline == now + MIN_RESTART_DELAY
    slot.on_deadline(slot.deadline)
    assert slot.pid not in (None, pid)
    assert slot.status.state == "starting"
    assert metric(table, catalog.WORKER_STARTS) == 2
    ready(path)


def test_a_stopped_worker_is_killed_although_it_writes_no_stacks(
    new_slot: Create, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slot = new_slot(stopped)
    slot.start(0.0)
    sentinel = slot.sentinel
    assert sentinel is not None
    ready(path)
    hang(slot, HANG_TIMEOUT)
    pass_time(slot, 1.0)
    assert wait([sentinel], WAIT) == [sentinel]
    assert "it wrote no stacks" in caplog.text


def test_a_worker_that_hangs_before_its_loop_runs_has_more_time(
    new_slot: Create, path: Path
) -> None:
    slot = new_slot(without_loop)
    slot.start(0.0)
    ready(path)
    pass_time(slot, 2 * HANG_TIMEOUT)
    assert slot.status.state == "starting"
    hang(slot, START_TIMEOUT - 2 * HANG_TIMEOUT - 1)


def test_a_pause_of_the_whole_machine_kills_no_worker(new_slot: Create, path: Path) -> None:
    slot = new_slot(stopped)
    slot.start(0.0)
    ready(path)
    pass_time(slot, 0.5)
    for hour in range(1, 4):
        slot.on_deadline(hour * 3600.0)
        assert slot.status.state in ("running", "silent")
    pid = slot.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_a_worker_that_is_asked_to_end_is_not_restarted(
    new_slot: Create, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slot = new_slot(deadlocked)
    slot.start(0.0)
    sentinel = slot.sentinel
    assert sentinel is not None
    ready(path)
    slot.terminate()
    assert wait([sentinel], WAIT) == [sentinel]
    with caplog.at_level(logging.INFO):
        slot.on_exit(1.0)
    assert slot.deadline is None
    assert caplog.text == ""


def test_a_worker_that_waits_for_its_restart_is_not_restarted_after_a_stop(
    new_slot: Create, path: Path
) -> None:
    slot = new_slot(deadlocked)
    slot.start(0.0)
    pid, sentinel = slot.pid, slot.sentinel
    assert pid is not None
    assert sentinel is not None
    ready(path)
    os.kill(pid, signal.SIGKILL)
    assert wait([sentinel], WAIT) == [sentinel]
    slot.on_exit(1.0)
    assert slot.deadline is not None
    slot.terminate()
    assert slot.deadline is None


def test_heartbeats_keep_a_worker_alive(new_slot: Create, path: Path, table: CounterTable) -> None:
    slot = new_slot(without_loop)
    slot.start(0.0)
    ready(path)
    heartbeat = Heartbeat(CounterTable(path, 0))
    for _ in range(100):
        heartbeat.beat()
        pass_time(slot, 1.0)
        assert slot.status.state == "running"
