"""Which workers serve: a worker writes its process id into the shared table while it listens.

The id of a process that has ended says nothing about the one that replaces it.
"""

import os

from extproc.counter_table import CounterTable

_NAME = "serving"


class Serving:
    """What one worker says of itself, in its row of the table."""

    def __init__(self, table: CounterTable) -> None:
        self._table = table
        self._column = table.column(_NAME)

    def begin(self) -> None:
        """This process has a policy and listens."""
        self._table.set(self._column, os.getpid())

    def end(self) -> None:
        """This process drains."""
        self._table.set(self._column, 0)


class ServingReader:
    """Reads what all workers say. Creates the column, so that it exists in a full table."""

    def __init__(self, table: CounterTable) -> None:
        self._table = table
        self._column = table.column(_NAME)

    def is_serving(self, worker: int, pid: int) -> bool:
        """Whether this process of a worker serves."""
        return self._table.block(worker, self._column, 1)[0] == pid
