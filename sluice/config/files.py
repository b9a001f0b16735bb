"""Reads the files that a config names, with a bound on their size."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from sluice.config.errors import KeyPath
from sluice.config.finding import Finding, Severity
from sluice.config.values import format_size

READABLE: Final = (
    "correct the name, which is relative to the folder of the config, or let the process read the "
    "file"
)
"""The remedy for a file that a config names and that cannot be read."""


class TooLargeError(OSError):
    """The file has more bytes than allowed."""


def read_file(path: Path, maximum: int) -> bytes:
    """The content of a regular file with at most `maximum` bytes. Raises OSError.

    The type is checked on the open file, so that the file cannot be replaced in between. A pipe
    would block until somebody writes, and a device may have no end.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # the name has a NUL character
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from error
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        content = file.read(maximum + 1)
    if len(content) > maximum:
        raise TooLargeError(errno.EFBIG, f"Larger than {maximum} bytes")
    return content


class UnusableFileError(Exception):
    """A file cannot be used. The text says why, and does not name the file."""

    def __init__(self, message: str, severity: Severity = Severity.ERROR) -> None:
        super().__init__(message)
        self.severity = severity

    def finding(self, path: KeyPath) -> Finding:
        """The finding about the key that names the file."""
        unreadable = self.severity is Severity.UNREADABLE
        return Finding(path, f"{self}; {READABLE}" if unreadable else str(self), self.severity)


def read_named_file(file: Path, maximum: int) -> bytes:
    """The content of a file that a config names. Raises UnusableFileError."""
    try:
        return read_file(file, maximum)
    except TooLargeError as error:
        raise UnusableFileError(f"the file is larger than {format_size(maximum)}") from error
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        raise UnusableFileError(message, Severity.UNREADABLE) from error
