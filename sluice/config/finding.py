"""What is found in a valid config, and in the files and variables that it names."""

from dataclasses import dataclass, replace
from enum import Enum, auto

from sluice.config.errors import KeyPath, Place, Problem


class Severity(Enum):
    """How sure it is that the gateway cannot use a file or a variable.

    `ERROR`: the content is wrong on every machine. `UNREADABLE`: the file cannot be read on this
    machine. `ABSENT`: a variable or folder is missing in this process or on this machine.
    `NO_SECRET`: a secret that the control plane must have is missing in this process.
    `EXPIRED`: a certificate has expired. Nobody has edited anything then, so the gateway starts all
    the same.
    `WARNING`: the gateway can use it, but probably not as intended.
    """

    ERROR = auto()
    UNREADABLE = auto()
    ABSENT = auto()
    NO_SECRET = auto()
    EXPIRED = auto()
    WARNING = auto()


@dataclass(frozen=True, slots=True)
class WarningKind:
    """A kind of warnings. `code` is its stable name. `when` and `remedy` are for users."""

    code: str
    when: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a key, or with the file or variable that it names. Has no secret.

    `code` is the kind of a warning; empty if the finding is always an error.
    """

    path: KeyPath
    message: str
    severity: Severity = Severity.ERROR
    code: str = ""

    @classmethod
    def of(
        cls, kind: WarningKind, path: KeyPath, what: str, severity: Severity = Severity.WARNING
    ) -> "Finding":
        """The finding of a kind, with its remedy."""
        return cls(path, f"{what}; {kind.remedy}", severity, kind.code)

    def warning(self, place: Place) -> Problem:
        """The finding as a warning, with its place in a file."""
        return replace(place(self.path, self.message), code=self.code)
