"""The log writer never blocks its caller: it drops and counts lines that it cannot write."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from extproc.counter_table import CounterTable, create
from extproc.telemetry import catalog
from extproc.telemetry.metrics import Counter, Gauge, Metrics, series_name
from extproc.telemetry.outputs import Output, RotatedFile, open_output
from extproc.telemetry.writer import RETRY_DELAY, LogWriter
from sluice.config.telemetry import Rotation

LIMIT = 1 << 16
ROTATION = Rotation()
HANG = 10.0
"""Seconds after which a wait fails the test."""


class ObservableTable(CounterTable):
    """A counter table that wakes up waiters when a counter changes."""

    def __init__(self, path: Path) -> None:
        create(path, 1, 64)
        super().__init__(path, 0)
        self.changed = threading.Condition()

    def add(self, column: int, amount: int = 1) -> None:
        with self.changed:
            super().add(column, amount)
            self.changed.notify_all()


@dataclass
class Recorded:
    """The metrics of a writer."""

    table: ObservableTable

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.table)

    def value(self, family: Counter | Gauge, *labels: str) -> float | None:
        column = self.table.column(series_name(family, labels))
        if isinstance(family, Gauge):
            return family.aggregate(self.table.values(column))
        return self.table.total(column)

    def wait_for(self, family: Counter, *labels: str, value: int) -> None:
        """Wait until a counter has reached a value."""
        with self.table.changed:
            reached = self.table.changed.wait_for(
                lambda: self.value(family, *labels) == value, HANG
            )
        assert reached, self.value(family, *labels)


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class BlockingOutput:
    """An output whose writes wait until `release` is set, and fail with `error`."""

    release: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    error: OSError | None = None
    lines: list[bytes] = field(default_factory=list)

    def write(self, lines: bytes) -> None:
        self.entered.set()
        try:
            assert self.release.wait(HANG)
            if self.error is not None:
                raise self.error
            self.lines.append(lines)
        finally:
            self.left.set()

    def close(self) -> None:
        """Do nothing."""


def unblocked(error: OSError | None = None) -> BlockingOutput:
    output = BlockingOutput(error=error)
    output.release.set()
    return output


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(ObservableTable(tmp_path / "counters"))


StartWriter = Callable[..., LogWriter]


@pytest.fixture
def start(recorded: Recorded) -> Iterator[StartWriter]:
    """Starts writers, and closes them at the end."""
    writers: list[LogWriter] = []

    def start(open_output: Callable[[], Output], clock: Clock | None = None) -> LogWriter:
        writers.append(LogWriter(open_output, LIMIT, recorded.metrics, clock or Clock()))
        return writers[-1]

    yield start
    for writer in writers:
        writer.close()


def test_queued_lines_are_written_in_order_before_the_writer_closes(
    tmp_path: Path, recorded: Recorded, start: StartWriter
) -> None:
    path = tmp_path / "access.log"
    writer = start(lambda: RotatedFile(path, ROTATION, Clock()))
    for number in range(100):
        writer.put(b"%d\n" % number, 1)
    writer.close(HANG)
    assert path.read_text().split() == [str(number) for number in range(100)]
    assert recorded.value(catalog.LOG_LINES) == 100
    assert recorded.value(catalog.LOG_QUEUE_BYTES) == 0


def test_lines_beyond_the_limit_are_dropped_while_the_output_blocks(
    recorded: Recorded, start: StartWriter
) -> None:
    output = BlockingOutput()
    writer = start(lambda: output)
    chunk = b"x" * (LIMIT // 4 - 1) + b"\n"
    writer.put(chunk, 1)
    assert output.entered.wait(HANG)
    for _ in range(3):
        writer.put(chunk, 1)
    for _ in range(1000):
        writer.put(chunk, 2)
    assert not output.left.is_set()
    assert recorded.value(catalog.LOG_DROPPED, "queue_full") == 2000
    assert recorded.value(catalog.LOG_QUEUE_BYTES) == LIMIT
    output.release.set()
    recorded.wait_for(catalog.LOG_LINES, value=4)
    writer.put(b"after\n", 1)
    recorded.wait_for(catalog.LOG_LINES, value=5)
    assert output.lines[-1] == b"after\n"


def test_closing_does_not_wait_for_a_blocked_output(start: StartWriter) -> None:
    output = BlockingOutput()
    writer = start(lambda: output)
    writer.put(b"x\n", 1)
    assert output.entered.wait(HANG)
    writer.close(0.01)
    assert not output.left.is_set()
    output.release.set()


def test_a_failed_output_is_opened_again_after_the_retry_delay(
    recorded: Recorded, start: StartWriter
) -> None:
    clock, working = Clock(), unblocked()
    outputs: list[Output] = [unblocked(OSError("full")), working]
    writer = start(lambda: outputs.pop(0), clock)
    writer.put(b"lost\nlost\n", 2)
    recorded.wait_for(catalog.LOG_DROPPED, "output", value=2)
    clock.now += RETRY_DELAY / 2
    writer.put(b"too soon\n", 1)
    recorded.wait_for(catalog.LOG_DROPPED, "output", value=3)
    clock.now += RETRY_DELAY / 2
    writer.put(b"kept\n", 1)
    recorded.wait_for(catalog.LOG_LINES, value=1)
    assert working.lines == [b"kept\n"]


def test_lines_for_a_pipe_without_a_reader_are_dropped(
    tmp_path: Path, recorded: Recorded, start: StartWriter
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = start(lambda: open_output(str(pipe), 0, ROTATION, Clock()))
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer.put(b"read\n", 1)
    recorded.wait_for(catalog.LOG_LINES, value=1)
    assert os.read(reader, 100) == b"read\n"
    os.close(reader)
    writer.put(b"lost\n", 1)
    recorded.wait_for(catalog.LOG_DROPPED, "output", value=1)


def test_lines_for_a_file_that_cannot_be_opened_are_dropped(
    tmp_path: Path, recorded: Recorded, start: StartWriter
) -> None:
    missing = str(tmp_path / "missing" / "access.log")
    writer = start(lambda: open_output(missing, 0, ROTATION, Clock()))
    writer.put(b"x\n", 1)
    recorded.wait_for(catalog.LOG_DROPPED, "output", value=1)


def test_a_file_is_opened_again_when_its_directory_exists_again(
    tmp_path: Path, recorded: Recorded, start: StartWriter
) -> None:
    directory, clock = tmp_path / "log", Clock()
    directory.mkdir()
    path = directory / "access.log"
    writer = start(lambda: RotatedFile(path, ROTATION, Clock()), clock)
    writer.put(b"first\n", 1)
    recorded.wait_for(catalog.LOG_LINES, value=1)
    directory.rename(tmp_path / "moved")
    writer.put(b"lost\n", 1)
    recorded.wait_for(catalog.LOG_DROPPED, "output", value=1)
    directory.mkdir()
    clock.now += RETRY_DELAY
    writer.put(b"second\n", 1)
    recorded.wait_for(catalog.LOG_LINES, value=2)
    assert path.read_bytes() == b"second\n"
