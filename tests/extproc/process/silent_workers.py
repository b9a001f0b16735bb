"""Worker processes that hang in different ways or end, for tests of the supervisor's slots.

Each that hangs writes to the FIFO `ready` beside the shared table when it hangs.
"""

import asyncio
import os
import signal
import threading
from multiprocessing.connection import Connection

from extproc.counter_table import CounterTable
from extproc.process.heartbeat import Heartbeat
from extproc.process.telemetry import TelemetrySettings
from extproc.process.worker import WorkerSettings
from extproc.protection import ProtectionSettings
from sluice.supervision.stack_dump import dump_at_signal, stack_file


def deadlocked(
    settings: WorkerSettings, telemetry: TelemetrySettings, _: ProtectionSettings, __: Connection
) -> None:
    """A callback on the event loop waits for a lock that nobody releases."""
    dump_at_signal(stack_file(telemetry.table.parent, settings.index))
    asyncio.run(_beat_and_block(telemetry, settings.index))


async def _beat_and_block(telemetry: TelemetrySettings, row: int) -> None:
    Heartbeat(CounterTable(telemetry.table, row)).start()
    _wait_for_a_lock_that_nobody_releases(telemetry)


def _wait_for_a_lock_that_nobody_releases(telemetry: TelemetrySettings) -> None:
    lock = threading.Lock()
    lock.acquire()
    _ready(telemetry)
    lock.acquire()


def stopped(
    settings: WorkerSettings, telemetry: TelemetrySettings, _: ProtectionSettings, __: Connection
) -> None:
    """A process that is stopped after its first heartbeat."""
    dump_at_signal(stack_file(telemetry.table.parent, settings.index))
    Heartbeat(CounterTable(telemetry.table, settings.index)).beat()
    _ready(telemetry)
    os.kill(os.getpid(), signal.SIGSTOP)


def without_loop(
    settings: WorkerSettings, telemetry: TelemetrySettings, _: ProtectionSettings, __: Connection
) -> None:
    """A process that hangs before its event loop runs."""
    dump_at_signal(stack_file(telemetry.table.parent, settings.index))
    _wait_for_a_lock_that_nobody_releases(telemetry)


def ending(
    _: WorkerSettings, __: TelemetrySettings, ___: ProtectionSettings, ____: Connection
) -> None:
    """A process that ends at once."""


def _ready(telemetry: TelemetrySettings) -> None:
    telemetry.table.with_name("ready").write_text("ready")
