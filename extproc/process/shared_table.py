"""The file of the counter table that the supervisor shares with its workers."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from extproc import counter_table

COLUMNS = 1 << 19
"""Columns of the table: enough for a thousand models with two versions each.

A version takes 126 columns for its breaker and about 40 for its metrics. The file is sparse, so
unused columns take no memory.
"""

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (the table gets a private directory in it)


@contextmanager
def shared_table(rows: int) -> Iterator[Path]:
    """Create the table in a private directory, in memory if possible; remove it at the end."""
    parent = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="sluice-callout-", dir=parent) as directory:
        path = Path(directory) / "counters"
        counter_table.create(path, rows, COLUMNS)
        yield path
