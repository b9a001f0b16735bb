"""Processes share counters without losing an addition, and counters survive their writers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from extproc.counter_table import CounterTable, RowTakenError, TableFullError, create

WRITER = """
import sys
from pathlib import Path
from extproc.counter_table import CounterTable
table = CounterTable(Path(sys.argv[1]), row=int(sys.argv[2]))
names = sys.argv[3:]
for _ in range(20_000):
    for name in names:
        table.add(table.column(name))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create(tmp_path / "counters", rows=4, columns=64)
    return tmp_path / "counters"


@pytest.fixture
def table(path: Path) -> Iterator[CounterTable]:
    table = CounterTable(path)
    yield table
    table.close()


def writer(path: Path, row: int, *names: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(row), *names],
        cwd=Path(__file__).parents[2],
    )


def test_additions_of_concurrent_processes_are_not_lost(path: Path, table: CounterTable) -> None:
    writers = [writer(path, 0, "a", "b"), writer(path, 1, "b", "a"), writer(path, 2, "b")]
    assert [process.wait() for process in writers] == [0, 0, 0]
    assert table.total(table.column("a")) == 40_000
    assert table.total(table.column("b")) == 60_000


def test_the_next_writer_of_a_row_continues_from_its_numbers(
    path: Path, table: CounterTable
) -> None:
    for _ in range(2):
        assert writer(path, 3, "a").wait() == 0
    assert table.values(table.column("a")) == [0, 0, 0, 40_000]


def test_a_row_has_one_writer_at_a_time(path: Path) -> None:
    first = CounterTable(path, row=1)
    with pytest.raises(RowTakenError):
        CounterTable(path, row=1)
    CounterTable(path).close()
    with pytest.raises(RowTakenError):
        CounterTable(path, row=1)
    first.close()
    CounterTable(path, row=1).close()


def test_a_name_has_the_same_columns_in_every_process(path: Path, table: CounterTable) -> None:
    other = CounterTable(path, row=0)
    assert other.column("histogram", width=10) == table.column("histogram", width=10)
    after = table.column("after")
    other.add(after, 5)
    assert table.total(after) == 5
    assert table.names() == {"histogram": (0, 10), "after": (10, 1)}
    with pytest.raises(ValueError, match="has 10 columns"):
        table.column("histogram", width=9)
    other.close()


def test_a_full_table_refuses_new_names_but_keeps_counting(path: Path) -> None:
    table = CounterTable(path, row=0)
    column = table.column("first")
    table.column("rest", width=63)
    with pytest.raises(TableFullError):
        table.column("one too many")
    table.add(column)
    assert table.total(column) == 1
    table.close()


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(bytes(4096))
    with pytest.raises(ValueError, match="not a counter table"):
        CounterTable(tmp_path / "other")


def test_only_the_user_who_created_the_table_can_read_it(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
