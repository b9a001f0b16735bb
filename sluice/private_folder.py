"""Temporary folders that only this user can access.

A process that is killed leaves its folder behind. In a container, it would take the memory of
/dev/shm at each restart. So a process holds a lock while it uses its folder, and the next process
removes the folders that nobody uses.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = ".sluice-in-use"
"""The file with the lock. A folder without it belongs to others."""


@contextmanager
def private_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A folder whose name begins with the prefix, which is removed at the end.

    `parent`: None for TMPDIR. Raises OSError if no folder can be created.
    """
    _remove_unused(prefix, Path(tempfile.gettempdir()) if parent is None else parent)
    while True:
        with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name:
            lock = os.open(Path(name) / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Another process may have had the lock for a moment, and removed the folder.
                if (Path(name) / _LOCK).exists():
                    yield Path(name)
                    return
            finally:
                os.close(lock)


def _remove_unused(prefix: str, parent: Path) -> None:
    """Remove the folders of this user with the prefix that no process uses."""
    ours = re.compile(re.escape(prefix) + "[a-z0-9_]{8}")
    with suppress(OSError):
        for folder in parent.iterdir():
            if ours.fullmatch(folder.name):
                with suppress(OSError):
                    _remove_if_unused(folder)


def _remove_if_unused(folder: Path) -> None:
    """Remove a folder. Raises OSError if it is in use, or belongs to others."""
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        return
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
