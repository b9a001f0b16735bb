"""The log's writer never holds up who logs: it drops, counts, rotates and comes back."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from extproc.counter_table import CounterTable, create
from extproc.telemetry import catalog
from extproc.telemetry.metrics import Counter, Gauge, Metrics, series_name
from extproc.telemetry.outputs import Output, RotatedFile, StreamOutput, open_output
from extproc.telemetry.writer import LogWriter
from sluice.config.telemetry import Rotation

LIMIT = 1 << 16
ROTATION = Rotation()


@dataclass
class Counted:
    """A table of one worker, to look into."""

    path: Path

    def __post_init__(self) -> None:
        create(self.path, 1, 64)
        self.table = CounterTable(self.path, 0)
        self.metrics = Metrics(self.table)

    def of(self, family: Counter | Gauge, *labels: str) -> float | None:
        column = self.table.column(series_name(family, labels))
        if isinstance(family, Gauge):
            return family.aggregate(self.table.values(column))
        return self.table.total(column)

    def until(self, family: Counter | Gauge, *labels: str, value: int) -> None:
        deadline = time.monotonic() + 5
        while self.of(family, *labels) != value:
            assert time.monotonic() < deadline, self.of(family, *labels)
            time.sleep(0.001)


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Gate:
    """An output that waits until it is let go, and fails where it is told to."""

    release: threading.Event = field(default_factory=threading.Event)
    taken: threading.Event = field(default_factory=threading.Event)
    error: OSError | None = None
    lines: list[bytes] = field(default_factory=list)

    def write(self, lines: bytes) -> None:
        self.taken.set()
        assert self.release.wait(5)
        if self.error is not None:
            raise self.error
        self.lines.append(lines)

    def close(self) -> None:
        """Nothing to let go of."""


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(tmp_path / "counters")


@pytest.fixture
def opened() -> Iterator[Callable[[LogWriter], LogWriter]]:
    """Closes writers at the end."""
    writers: list[LogWriter] = []

    def keep(writer: LogWriter) -> LogWriter:
        writers.append(writer)
        return writer

    yield keep
    for writer in writers:
        writer.close()


def test_what_is_queued_is_written_in_order_before_it_closes(
    tmp_path: Path, counted: Counted
) -> None:
    path = tmp_path / "access.log"
    writer = LogWriter(lambda: RotatedFile(path, ROTATION, Clock()), LIMIT, counted.metrics)
    for number in range(100):
        writer.put(b"%d\n" % number, 1)
    writer.close()
    assert path.read_text().split() == [str(number) for number in range(100)]
    assert counted.of(catalog.LOG_LINES) == 100
    assert counted.of(catalog.LOG_QUEUE_BYTES) == 0


def test_lines_beyond_the_limit_are_dropped_and_counted(
    counted: Counted, opened: Callable[[LogWriter], LogWriter]
) -> None:
    gate = Gate()
    writer = opened(LogWriter(lambda: gate, LIMIT, counted.metrics))
    chunk = b"x" * (LIMIT // 4 - 1) + b"\n"
    writer.put(chunk, 1)
    assert gate.taken.wait(5)
    for _ in range(3):
        writer.put(chunk, 1)
    began = time.monotonic()
    for _ in range(1000):
        writer.put(chunk, 2)
    assert time.monotonic() - began < 1
    assert counted.of(catalog.LOG_DROPPED, "queue_full") == 2000
    assert counted.of(catalog.LOG_QUEUE_BYTES) == LIMIT
    gate.release.set()
    counted.until(catalog.LOG_LINES, value=4)
    writer.put(b"after\n", 1)
    counted.until(catalog.LOG_LINES, value=5)
    assert gate.lines[-1] == b"after\n"


def test_closing_does_not_wait_for_a_blocked_output(counted: Counted) -> None:
    gate = Gate()
    writer = LogWriter(lambda: gate, LIMIT, counted.metrics)
    writer.put(b"x\n", 1)
    assert gate.taken.wait(5)
    began = time.monotonic()
    writer.close(0.05)
    assert time.monotonic() - began < 2
    gate.release.set()


def test_an_output_that_fails_loses_its_lines_only(
    counted: Counted,
    opened: Callable[[LogWriter], LogWriter],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("extproc.telemetry.writer.RETRY_DELAY", 0.0)
    broken, working = Gate(error=OSError("full")), Gate()
    outputs: list[Output] = [broken, working]
    broken.release.set()
    working.release.set()
    writer = opened(LogWriter(lambda: outputs.pop(0), LIMIT, counted.metrics))
    writer.put(b"lost\nlost\n", 2)
    counted.until(catalog.LOG_DROPPED, "output", value=2)
    writer.put(b"kept\n", 1)
    counted.until(catalog.LOG_LINES, value=1)
    assert working.lines == [b"kept\n"]


def test_a_reader_that_left_a_pipe_costs_lines_and_nothing_else(
    tmp_path: Path, counted: Counted, opened: Callable[[LogWriter], LogWriter]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = opened(
        LogWriter(lambda: open_output(str(pipe), 0, ROTATION, Clock()), LIMIT, counted.metrics)
    )
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writer.put(b"read\n", 1)
    counted.until(catalog.LOG_LINES, value=1)
    assert os.read(reader, 100) == b"read\n"
    os.close(reader)
    writer.put(b"lost\n", 1)
    counted.until(catalog.LOG_DROPPED, "output", value=1)


def test_a_file_that_cannot_be_opened_is_counted(
    tmp_path: Path, counted: Counted, opened: Callable[[LogWriter], LogWriter]
) -> None:
    missing = str(tmp_path / "missing" / "access.log")
    writer = opened(
        LogWriter(lambda: open_output(missing, 0, ROTATION, Clock()), LIMIT, counted.metrics)
    )
    writer.put(b"x\n", 1)
    counted.until(catalog.LOG_DROPPED, "output", value=1)


def test_each_worker_has_its_own_file(tmp_path: Path) -> None:
    for worker in range(2):
        output = open_output(str(tmp_path / "access.log"), worker, ROTATION, Clock())
        output.write(b"%d\n" % worker)
        output.close()
    assert (tmp_path / "access-0.log").read_bytes() == b"0\n"
    assert (tmp_path / "access-1.log").read_bytes() == b"1\n"


def test_a_file_rotates_by_size_and_keeps_so_many(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    file = RotatedFile(path, Rotation(max_size=1 << 12, keep=2), Clock())
    for number in range(5):
        file.write(b"%d" % number * 4000 + b"\n")
    file.close()
    assert [path.read_bytes()[:1], *(Path(f"{path}.{n}").read_bytes()[:1] for n in (1, 2))] == [
        b"4", b"3", b"2",
    ]  # fmt: skip
    assert not Path(f"{path}.3").exists()


def test_keeping_none_begins_the_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    file = RotatedFile(path, Rotation(max_size=1 << 12, keep=0), Clock())
    file.write(b"1" * 4000 + b"\n")
    file.write(b"2" * 4000 + b"\n")
    file.close()
    assert path.read_bytes()[:1] == b"2"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_rotates_by_age_across_restarts(tmp_path: Path) -> None:
    path, clock = tmp_path / "access.log", Clock(1_000_000.0)
    rotation = Rotation(max_age=1000)
    file = RotatedFile(path, rotation, clock)
    file.write(b"first\n")
    clock.now += 999
    file.write(b"same period\n")
    file.close()
    os.utime(path, (clock.now, clock.now))
    file = RotatedFile(path, rotation, clock)
    file.write(b"still\n")
    clock.now += 1
    file.write(b"next\n")
    file.close()
    assert path.read_bytes() == b"next\n"
    assert Path(f"{path}.1").read_bytes() == b"first\nsame period\nstill\n"


def test_a_file_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    file = RotatedFile(path, ROTATION, Clock())
    file.write(b"before\n")
    path.rename(tmp_path / "moved")
    file.write(b"after\n")
    file.close()
    assert path.read_bytes() == b"after\n"


def test_lines_of_several_writers_to_a_pipe_never_mix(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)
    streams = [StreamOutput(os.open(pipe, os.O_WRONLY)) for _ in range(2)]
    chunks = [b"".join(letter * length + b"\n" for length in range(900, 1000)) * 3
              for letter in (b"a", b"b")]  # fmt: skip
    threads = [
        threading.Thread(target=stream.write, args=(chunk,))
        for stream, chunk in zip(streams, chunks, strict=True)
    ]
    for thread in threads:
        thread.start()
    read = b""
    while len(read) < sum(map(len, chunks)):
        read += os.read(reader, 65536)
    for thread in threads:
        thread.join()
    for stream in streams:
        stream.close()
    os.close(reader)
    assert all(len(set(line)) == 1 for line in read.splitlines())
    assert sorted(read.splitlines()) == sorted(b"".join(chunks).splitlines())
