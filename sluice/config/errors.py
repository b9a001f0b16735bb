"""Errors of a config."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys of maps and indexes of lists, from the root of a document to a value."""

MAX_PROBLEMS = 50
"""Errors that are shown. Nobody reads more, and the log and the status contain them."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error or a warning at a key path of a file. `line` is 1-based, or 0 if it is not known.

    `file` is empty if the config was not read from a file. `code` is the name of the kind of a
    warning, see docs/reference/warnings.md; it is empty for errors. `pointer` is the JSON Pointer
    (RFC 6901) of the key, or of the innermost value around it whose keys may be shown: a key may be
    a secret. It is empty for the whole config.
    """

    file: str
    line: int
    key: str
    message: str
    code: str = ""
    pointer: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        text = ": ".join(part for part in (where, self.key, self.message) if part)
        return f"{text} [{self.code}]" if self.code else text


class ConfigError(Exception):
    """A config is not valid. `problems` are in the order of the file.

    `omitted`: the number of further problems.
    """

    def __init__(self, problems: Sequence[Problem], omitted: int = 0) -> None:
        more = [f"and {omitted} more errors"] if omitted else []
        super().__init__("\n".join([*map(str, problems), *more]))
        self.problems = list(problems)


Place: TypeAlias = Callable[[KeyPath, str], Problem]
"""Creates the problem for a key path and a message, with the file and the line of the key."""


def unplaced(path: KeyPath, message: str) -> Problem:
    """The problem of a config that was not read from a file."""
    return Problem("", 0, ".".join(map(str, path)), message, pointer=json_pointer(path))


def json_pointer(path: KeyPath) -> str:
    """The JSON Pointer of a key path (RFC 6901 section 3)."""
    return "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in path)
