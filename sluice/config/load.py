"""Reads YAML into a `GatewayConfig`, and reports errors with file, line and key."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sluice.config.document import DocumentError, Node, parse
from sluice.config.errors import MAX_PROBLEMS, ConfigError, KeyPath, Problem
from sluice.config.files import TooLargeError, read_file
from sluice.config.gateway import GatewayConfig
from sluice.config.model_blocks import ModelBlocks
from sluice.config.validation import (
    booleans_as_numbers,
    error_message,
    first_of_clash,
    location,
    shown_path,
    shown_pointer,
)
from sluice.garbage_collection import without_collection

CONFIG_VARIABLE = "SLUICE_CONFIG"
"""Environment variable with the config of commands that get no CONFIG."""

MAX_FILE = 16 << 20
"""Bytes. Enough for 10,000 models, and the control plane can hold the config in memory."""

MAX_ERRORS = 10_000
"""Errors whose details are read. Each takes about a kilobyte."""


@dataclass(slots=True)
class ConfigText:
    """The text of a config. `file` is its name in errors.

    `blocks` is given if the config was read in parts.
    """

    text: str = field(repr=False)  # it may hold secrets
    file: str
    blocks: ModelBlocks | None = field(default=None, repr=False)
    _root: Node | None = field(default=None, init=False, repr=False)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """The problem at a key of a valid config; a `Place`.

        The text, or the part of it that has the key, is parsed again, because errors are rare and
        the lines of all keys take much memory.
        """
        return _problem(self.file, self._line_of(path), path, message)

    def _line_of(self, path: KeyPath) -> int:
        block = None if self.blocks is None else self.blocks.block_of(path)
        if block is not None:
            return block.line_of(path)
        if self._root is None:
            self._root = without_collection(_parse, self)
        return 0 if self._root is None else self._root.line_of(path)


def _parse(text: ConfigText) -> Node | None:
    return parse(text.text) if text.blocks is None else text.blocks.parse_rest()


def load(path: Path | str) -> GatewayConfig:
    """Read and validate a config file. Raises ConfigError, also if the file cannot be read."""
    return loads(read_text(Path(path)), str(path))


def read_text(path: Path) -> str:
    """The text of a config file. Raises ConfigError."""
    try:
        return read_file(path, MAX_FILE).decode()
    except TooLargeError as error:
        raise _file_error(path, "the file is larger than 16 MiB") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise _file_error(path, f"the file cannot be read: {reason}") from error
    except UnicodeDecodeError as error:
        raise _file_error(path, "the file is not UTF-8 text") from error


def loads(text: str, file: str = "<config>") -> GatewayConfig:
    """Validate a config in YAML or JSON; `file` is its name in errors. Raises ConfigError."""
    return without_collection(partial(_loads, file=file), text)


def _loads(text: str, file: str) -> GatewayConfig:
    try:
        root = parse(text)
    except DocumentError as error:
        raise ConfigError([_problem(file, error.line, error.path, error.message)]) from None
    if root is None or root.data is None:
        # An editor or `cp` empties a file before it writes: this must not remove all models.
        problem = Problem(file, 0, "", "the file is empty; write {} for a config without models")
        raise ConfigError([problem])
    try:
        config = GatewayConfig.model_validate(root.data)
    except ValidationError as error:
        # `from None`: the exception contains the values, which may be secrets.
        raise _config_error(error, file, root) from None
    booleans = [
        _problem(file, root.line_of(path), path, "write a number, not true or false")
        for path in booleans_as_numbers(root.data)
    ]
    if booleans:
        booleans.sort(key=lambda problem: problem.line)
        raise ConfigError(booleans[:MAX_PROBLEMS], omitted=len(booleans[MAX_PROBLEMS:]))
    return config


def _config_error(error: ValidationError, file: str, root: Node) -> ConfigError:
    if error.error_count() > MAX_ERRORS:
        message = f"{error.error_count()} values are not valid; is this the config of a gateway?"
        return ConfigError([Problem(file, 0, "", message)])
    details = _without_consequences(error.errors(include_url=False))
    lines = [(root.line_of(location(detail)), index) for index, detail in enumerate(details)]
    shown = [
        _problem(file, line, location(details[n]), _message(details[n], root))
        for line, n in sorted(lines)[:MAX_PROBLEMS]
    ]
    return ConfigError(shown, omitted=len(details) - len(shown))


def _problem(file: str, line: int, path: KeyPath, message: str) -> Problem:
    return Problem(file, line, shown_path(path), message, pointer=shown_pointer(path))


def _message(detail: ErrorDetails, root: Node) -> str:
    first = first_of_clash(detail)
    if first is None:
        return error_message(detail)
    return (
        f"{error_message(detail)}; the other is {shown_path(first)} in line {root.line_of(first)}"
    )


def _file_error(file: Path, message: str) -> ConfigError:
    return ConfigError([Problem(str(file), 0, "", message)])


def _without_consequences(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leaves out the lists that are "too short" only because one of their items has an error."""
    parents = {detail["loc"][:length] for detail in details for length in range(len(detail["loc"]))}
    return [d for d in details if d["type"] != "too_short" or d["loc"] not in parents]
