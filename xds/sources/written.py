"""Tells a file that is being written from a file that is complete."""

import fcntl
import os
import signal
from dataclasses import dataclass
from pathlib import Path


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

    def is_replaced(self, before: "FileState | None") -> bool:
        """Whether the path names another file than before."""
        return before is None or (self.resolved, self.device, self.inode) != (
            before.resolved, before.device, before.inode
        )  # fmt: skip

    def is_linked_anew(self, before: "FileState | None") -> bool:
        """Whether a symbolic link in the path names another file than before."""
        return before is not None and self.resolved != before.resolved


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
