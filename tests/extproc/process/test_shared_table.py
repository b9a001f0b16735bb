"""The shared table is in a folder that has room for all of it."""

import errno
from pathlib import Path

import pytest

from extproc.counter_table import CounterTable
from extproc.process.shared_table import shared_table

TOO_MANY = 1 << 30
"""Rows for which no disk has room."""


def test_the_table_is_in_the_first_folder_that_can_be_used(tmp_path: Path) -> None:
    folders = [tmp_path / "missing", tmp_path]
    with shared_table(2, folders) as path:
        assert path.parent.parent == tmp_path
        assert CounterTable(path, 0).rows == 2
    assert not path.parent.exists()


def test_a_table_without_room_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match=r"[0-9]+ MiB free in .*; enlarge /dev/shm") as raised,
        shared_table(TOO_MANY, [tmp_path]),
    ):
        pass
    assert raised.value.errno == errno.ENOSPC
    with (
        pytest.raises(OSError, match="no folder for temporary files can be written"),
        shared_table(2, [tmp_path / "missing"]),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
