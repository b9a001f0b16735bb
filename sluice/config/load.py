"""Reads YAML into a `GatewayConfig`, and reports errors with file, line and key."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sluice.config.errors import ConfigError, Problem, error_message
from sluice.config.gateway import GatewayConfig
from sluice.config.schema import KeyPath, section_at

Lines = dict[KeyPath, int]

MAX_FILE = 16 << 20
"""Bytes. Enough for 10,000 models, and the control plane can hold the config in memory."""

MAX_NODES = 1_000_000
"""YAML nodes after the expansion of aliases. Bounds the memory of "billion laughs" documents."""


def load(path: Path | str) -> GatewayConfig:
    """Read and validate a config file. Raises ConfigError, also if the file cannot be read."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            raise _file_error(path, "the file is larger than 16 MiB")
        text = raw.decode()
    except OSError as error:
        reason = error.strerror or str(error)
        raise _file_error(path, f"the file cannot be read: {reason}") from error
    except UnicodeDecodeError as error:
        raise _file_error(path, "the file is not UTF-8 text") from error
    return loads(text, str(path))


def loads(text: str, file: str = "<config>") -> GatewayConfig:
    """Validate a config in YAML or JSON; `file` is its name in errors. Raises ConfigError."""
    data, lines = _parse(text, file)
    try:
        return GatewayConfig.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_problem(d, file, lines) for d in details if not _is_consequence(d, details)]
        raise ConfigError(sorted(problems, key=lambda problem: problem.line)) from error


def _parse(text: str, file: str) -> tuple[object, Lines]:
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        raise _file_error(file, f"the file is not valid YAML: {error.problem}", line) from error
    except yaml.YAMLError as error:
        raise _file_error(file, f"the file is not valid YAML: {error}") from error
    if root is None:
        return {}, {}
    builder = _Builder(file)
    return builder.build(root, ()), builder.lines


def _file_error(file: Path | str, message: str, line: int = 0) -> ConfigError:
    return ConfigError([Problem(str(file), line, "", message)])


class _Builder:
    """Builds plain data from YAML nodes, and stores the line of every key path."""

    def __init__(self, file: str) -> None:
        self.lines: Lines = {}
        self._file = file
        self._nodes = 0
        self._open: set[int] = set()
        self._scalars = yaml.CSafeLoader("")

    def build(self, node: yaml.Node, path: KeyPath) -> object:
        self._nodes += 1
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        if self._nodes > MAX_NODES:
            raise self._error(
                line, path, "the file has more than a million nodes after its aliases are expanded"
            )
        if id(node) in self._open:
            raise self._error(line, path, "an alias refers to itself")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
            assert isinstance(node, yaml.MappingNode)
            return dict(self._pairs(node, path))
        finally:
            self._open.discard(id(node))

    def _pairs(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, object]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(line, path, "a key must be text")
            key = key_node.value
            if key in seen:
                raise self._error(line, (*path, key), "the key occurs twice")
            seen.add(key)
            self.lines[(*path, key)] = line
            yield key, self.build(value_node, (*path, key))

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            line = node.start_mark.line + 1
            raise self._error(line, path, f"the value is not valid: {error}") from error

    def _error(self, line: int, path: KeyPath, message: str) -> ConfigError:
        return ConfigError([Problem(self._file, line, _dotted(path), message)])


def _is_consequence(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """Whether a list is "too short" only because one of its items has an error."""
    depth = len(detail["loc"])
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > depth and other["loc"][:depth] == detail["loc"] for other in details
    )


def _problem(detail: ErrorDetails, file: str, lines: Lines) -> Problem:
    path = tuple(part for part in detail["loc"] if part != "[key]")
    return Problem(file, _line(path, lines), _dotted(path), _message(detail, path))


def _line(path: KeyPath, lines: Lines) -> int:
    for end in range(len(path), -1, -1):
        if path[:end] in lines:
            return lines[path[:end]]
    return 0


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _message(detail: ErrorDetails, path: KeyPath) -> str:
    if detail["type"] == "extra_forbidden":
        allowed = sorted(section_at(path[:-1]).model_fields)
        close = get_close_matches(str(path[-1]), allowed, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"unknown key; {hint}allowed keys: {', '.join(allowed)}"
    return error_message(detail)
