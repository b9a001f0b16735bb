"""The file of the counter table that the supervisor shares with its workers."""

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from extproc import counter_table
from sluice.private_folder import private_folder

COLUMNS = 1 << 19
"""Columns of the table: enough for a thousand models with two versions each.

A version takes 126 columns for its breaker and about 40 for its metrics. The file is sparse, so
unused columns take no memory.
"""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (the table gets a private directory in it)


@contextmanager
def shared_table(rows: int, folders: Sequence[Path] | None = None) -> Iterator[Path]:
    """Create the table in a private folder, and remove it at the end.

    It is in the first of the folders with enough room; by default, in memory if possible, else in
    TMPDIR. Raises OSError.
    """
    size = counter_table.size(rows, COLUMNS)
    if folders is None:
        folders = (SHARED_MEMORY, Path(tempfile.gettempdir()))
    with private_folder("sluice-callout-", _with_room(folders, size)) as folder:
        path = folder / "counters"
        counter_table.create(path, rows, COLUMNS)
        yield path


def _with_room(folders: Sequence[Path], size: int) -> Path:
    """The first folder that can be written and has so many free bytes. Raises OSError.

    The kernel ends a process (SIGBUS) that writes to a page of the table when there is no room.
    """
    usable = [(folder, _free(folder)) for folder in folders if os.access(folder, os.W_OK)]
    for folder, free in usable:
        if free >= size:
            return folder
    found = ", ".join(f"{free >> 20} MiB free in {folder}" for folder, free in usable)
    raise OSError(
        errno.ENOSPC,
        f"no room for the counters of the workers ({-(-size >> 20)} MiB): "
        f"{found or 'no folder for temporary files can be written'}; enlarge /dev/shm "
        "(docker run --shm-size, or an emptyDir with the medium Memory), set TMPDIR to a folder "
        "with more room, or lower callout.workers",
    )


def _free(folder: Path) -> int:
    """The bytes that this user can write below a folder."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
