"""Stack dumps: a worker that hangs writes the stacks of its threads to a file at a signal.

The handler is C code that does not need the interpreter lock, so it works while a thread holds the
lock. A stopped process writes nothing.
"""

import faulthandler
import os
import signal
from contextlib import suppress
from pathlib import Path

SIGNAL = signal.SIGUSR1

DUMP_TIMEOUT = 0.5
"""Seconds that a process gets to write its stacks."""

MAX_DUMP = 32 << 10
"""Maximum bytes of a dump that are read."""


def stack_file(folder: Path, worker: int) -> Path:
    """The file for the stacks of a worker, in a private folder of the supervisor."""
    return folder / f"stacks-{worker}"


def dump_at_signal(path: Path) -> None:
    """Empty the file, and write the stacks of all threads of this process to it at `SIGNAL`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    # faulthandler keeps the descriptor, which stays open until the process ends.
    faulthandler.register(SIGNAL, descriptor, all_threads=True)


def request_dump(pid: int) -> None:
    """Ask a process to write its stacks."""
    with suppress(ProcessLookupError):
        os.kill(pid, SIGNAL)


def read_dump(path: Path) -> str:
    """The stacks that a process has written; empty if it has written nothing."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_DUMP).decode(errors="replace").strip()
    except FileNotFoundError:
        return ""
