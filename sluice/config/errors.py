"""Errors of a config."""

from dataclasses import dataclass

from pydantic_core import ErrorDetails


@dataclass(frozen=True, slots=True)
class Problem:
    """An error at a key path of a file. `line` is 1-based, or 0 if it is not known."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


class ConfigError(Exception):
    """A config is not valid. `problems` are in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def error_message(detail: ErrorDetails) -> str:
    """The message of a Pydantic error, with the invalid value.

    An error of our own validators is shown without the value, which may be a secret.
    """
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if detail["type"] in ("missing", "value_error"):
        return message
    value = repr(detail["input"])
    return f"{message}, not {value if len(value) < 80 else value[:77] + '...'}"
