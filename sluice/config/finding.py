"""What is wrong with a file or a variable that a config names."""

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from sluice.config.errors import KeyPath
from sluice.config.files import TooLargeError, read_file


class Severity(Enum):
    """How sure it is that the gateway cannot use a file or a variable.

    `ERROR`: the content is wrong on every machine. `UNREADABLE`: the file cannot be read on this
    machine. `ABSENT`: a variable or folder is missing in this process or on this machine.
    `WARNING`: the gateway can use it, but probably not as intended.
    """

    ERROR = auto()
    UNREADABLE = auto()
    ABSENT = auto()
    WARNING = auto()


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the file or the variable that a key names. Has no secret.

    `code` is the kind of a warning; empty if the finding is always an error.
    """

    path: KeyPath
    message: str
    severity: Severity = Severity.ERROR
    code: str = ""


class UnusableFileError(Exception):
    """A file cannot be used."""

    def __init__(self, message: str, severity: Severity = Severity.ERROR) -> None:
        super().__init__(message)
        self.severity = severity


def read_named_file(file: Path, maximum: int) -> bytes:
    """The content of a file that a config names. Raises UnusableFileError."""
    try:
        return read_file(file, maximum)
    except TooLargeError as error:
        raise UnusableFileError(f"the file has more than {maximum} bytes") from error
    except OSError as error:
        message = f"the file cannot be read: {error.strerror}"
        raise UnusableFileError(message, Severity.UNREADABLE) from error
