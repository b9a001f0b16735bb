"""Tells a file that is being written from a file that is complete.

A file that was replaced (renamed) is complete. A file that was changed in place is complete when no
process has it open for writing, and it has not changed for a moment.
"""

import fcntl
import os
import signal
from dataclasses import dataclass
from pathlib import Path

QUIET = 0.15
"""Seconds without a further change after which a file that was changed in place is complete."""

LONG_QUIET = 1.0
"""As `QUIET`, if it is not known whether the file is being written, or if its content may be
incomplete."""

CHECK_INTERVAL = 0.02
"""Seconds between two looks at files that may be incomplete."""

MAX_OPEN = 2.0
"""Seconds without a further change after which a file that is open for writing is complete: a
writer may never close it, and NFS may report a writer where there is none."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What `stat` says about a file. A file that does not exist has the default values.

    `resolved` is the path without symbolic links: Kubernetes replaces a link when it changes files.
    """

    resolved: str
    device: int = 0
    inode: int = 0
    size: int = 0
    modified: int = 0


def file_state(path: Path) -> FileState:
    """The state of a file."""
    resolved = os.path.realpath(path)
    try:
        status = Path(resolved).stat()
    except (OSError, ValueError):  # ValueError: the name has a NUL character
        return FileState(resolved)
    return FileState(resolved, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def is_being_written(path: Path) -> bool | None:
    """Whether a process has the file open for writing; None if the kernel does not tell.

    Takes a read lease, which Linux grants only while nobody can write, and gives it back at once
    (fcntl(2), "Leases"). The kernel grants leases only to the owner of the file and to root, and
    not on every file system.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        # A process that opens the file for writing meanwhile waits, and the kernel signals the
        # holder of the lease. SIGIO, the default, would end this process; SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False


def needed_quiet(state: FileState, before: FileState | None, *, written: bool | None) -> float:
    """Seconds without a further change after which a changed file is complete.

    `before` is its state at the last read, if there was one; `written` is from `is_being_written`.
    """
    if written:
        return MAX_OPEN
    if before is not None and state.resolved != before.resolved:
        return 0.0  # a symbolic link names another file, which was there before
    replaced = before is None or (state.device, state.inode) != (before.device, before.inode)
    if written is None:
        return QUIET if replaced else LONG_QUIET
    return 0.0 if replaced else QUIET
