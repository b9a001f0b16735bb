"""Reads YAML into a `GatewayConfig`, and turns every mistake into file, line, key and remedy."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sluice.config.errors import ConfigError, Problem
from sluice.config.gateway import GatewayConfig
from sluice.config.schema import KeyPath, section_at

Lines = dict[KeyPath, int]

MAX_FILE = 16 << 20
"""Bytes: far above 10,000 models, far below what would trouble the control plane."""

MAX_NODES = 1_000_000
"""YAML nodes after aliases are expanded: stops "billion laughs" documents."""


def load(path: Path | str) -> GatewayConfig:
    """Read and validate a config file. Raises ConfigError, also where the file cannot be read."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
        if len(raw) > MAX_FILE:
            raise ConfigError([Problem(str(path), 0, "", "the file is larger than 16 MiB")])
        text = raw.decode()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError([Problem(str(path), 0, "", f"cannot be read: {reason}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), 0, "", "is not UTF-8 text")]) from error
    return loads(text, str(path))


def loads(text: str, file: str = "<config>") -> GatewayConfig:
    """Validate a config given as YAML (or JSON) text; `file` names it in errors."""
    data, lines = _parse(text, file)
    try:
        return GatewayConfig.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_problem(d, file, lines) for d in details if not _follows(d, details)]
        raise ConfigError(sorted(problems, key=lambda problem: problem.line)) from error


def _parse(text: str, file: str) -> tuple[object, Lines]:
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(
            [Problem(file, mark.line + 1 if mark else 0, "", f"not YAML: {error.problem}")]
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError([Problem(file, 0, "", f"not YAML: {error}")]) from error
    if root is None:
        return {}, {}
    builder = _Builder(file)
    return builder.build(root, ()), builder.lines


class _Builder:
    """Builds plain data from YAML nodes, noting the line of every key path on the way."""

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
            raise self._refused(line, path, "the document expands to more than a million nodes")
        if id(node) in self._open:
            raise self._refused(line, path, "an alias refers to itself")
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
                raise self._refused(line, path, "a key must be plain text")
            key = key_node.value
            if key in seen:
                raise self._refused(line, (*path, key), "this key stands here twice")
            seen.add(key)
            self.lines[(*path, key)] = line
            yield key, self.build(value_node, (*path, key))

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise self._refused(node.start_mark.line + 1, path, f"not a value: {error}") from error

    def _refused(self, line: int, path: KeyPath, message: str) -> ConfigError:
        return ConfigError([Problem(self._file, line, _dotted(path), message)])


def _follows(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """Whether a list is only "too short" for an item of it that is wrong and reported itself."""
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
        return f"unknown key; {hint}allowed here: {', '.join(allowed)}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] in ("missing", "value_error"):
        return message[0].lower() + message[1:]
    shown = repr(detail["input"])
    return (
        f"{message[0].lower()}{message[1:]}, not {shown if len(shown) < 80 else shown[:77] + '...'}"
    )
