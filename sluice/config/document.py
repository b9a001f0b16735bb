"""Reads YAML or JSON text into plain data, and finds the line of a key path.

The text may come from anyone who can write the file, so every bound is checked before the work.
`yaml.compose` would recurse in C for every level of nesting, and crash the process. This module
reads the parser's events instead, which do not recurse, and creates the data itself.

Scalars follow the core schema of YAML 1.2 (section 10.3.2). YAML 1.1 reads `1:30` as 90, `010` as 8
and `no` as false, and its tags can construct other types.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import yaml

from sluice.config.errors import KeyPath
from sluice.config.syntax import syntax_error

MAX_DEPTH = 64
"""Levels of nesting. A config has 12, and two more for each level of rate limit descriptors."""

MAX_NODES = 1_000_000
"""YAML nodes after the expansion of aliases. Bounds the memory of "billion laughs" documents."""

MAX_CHARACTERS = 16 << 20
"""Characters of all scalars after the expansion of aliases: as many as the largest file has."""

MAX_KEY = 1024
"""Characters of a key, as in YAML 1.2 (section 7.4.2) for keys without `?`."""

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {
    spelling: value
    for word, value in (("true", True), ("false", False))
    for spelling in (word, word.capitalize(), word.upper())
}
# A longer number is text: it does not fit into any field, and Python's conversion of it is slow.
_INTEGER = re.compile(r"[-+]?[0-9]{1,48}")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]{1,48}|0x[0-9a-fA-F]{1,48}")
_FLOAT = re.compile(r"(?=.{1,48}\Z)[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_FIRST_OF_NUMBER = frozenset("0123456789+-.")

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset(("!", f"{_TAG}str"))
_COLLECTION_TAGS = frozenset(("!", f"{_TAG}map", f"{_TAG}seq"))

_INDICATOR = re.compile(r"[&*!]")
_MAY_DEPEND = re.compile(r"(?<![^\s\[\]{},:?-])[&*!]")
"""Where an anchor, an alias or a tag may begin. Most texts have no such place."""

_NO_TAG = "remove the YAML tag, or write text that starts with an exclamation mark in quotes"


class DocumentError(Exception):
    """The text is not a valid document. `line` is 1-based, or 0 if it is not known.

    The message has no content of the document, which may be a secret.
    """

    def __init__(self, message: str, line: int = 0, path: KeyPath = ()) -> None:
        super().__init__(message)
        self.message, self.line, self.path = message, line, path


@dataclass(slots=True)
class Node:
    """A value of the document: plain data, and where it is.

    `nodes`, `characters` and `height` count the value and everything in it, with aliases expanded.
    """

    line: int
    data: object
    children: dict[str | int, "Node"] = field(default_factory=dict)
    nodes: int = 1
    characters: int = 0
    height: int = 0

    def line_of(self, path: KeyPath) -> int:
        """The line of a path in this value, or of the last part of the path that exists."""
        node = self
        for key in path:
            if key not in node.children:
                break
            node = node.children[key]
        return node.line


def parse(text: str, *, alone: bool = False) -> Node | None:
    """Parse a document; None if it is empty. Raises DocumentError.

    `alone`: anchors, aliases and tags are errors, because the text is a part of a document, and
    their meaning may depend on the other parts.
    """
    try:
        return _Composer().compose(_independent(_events(text)) if alone else _events(text))
    except yaml.MarkedYAMLError as error:
        raise DocumentError(*syntax_error(error, text)) from None
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position]
        problem = f"the character U+{error.character:04X} is not allowed"
        line = before.count(b"\n") + 1
        raise DocumentError(f"the file is not valid YAML: {problem}", line) from None


def is_independent(text: str) -> bool:
    """Whether no part of a valid document depends on another: no anchor, alias or tag."""
    if not any(_MAY_DEPEND.match(text, found.start()) for found in _INDICATOR.finditer(text)):
        return True
    try:
        for _ in _independent(_events(text)):
            pass
    except DocumentError:
        return False
    return True


def _events(text: str) -> Iterator[yaml.Event]:
    parser = yaml.CSafeLoader(text)
    while (event := parser.get_event()) is not None:
        yield event


def _independent(events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    for event in events:
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor is not None or tag is not None:
            raise DocumentError("an anchor, an alias or a tag", _line(event))
        yield event


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been read. `key` is the key of the next value, if known."""

    node: Node
    is_mapping: bool
    anchor: str | None
    key: str | None = None
    key_line: int = 0

    @property
    def step(self) -> str | int:
        """The last part of the path of the next value."""
        return len(self.node.children) if self.key is None else self.key


class _Composer:
    """Creates the data from the events of the parser, without recursion."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._anchors: dict[str, Node | None] = {}
        """Values by anchor; None while the value is open."""
        self._root: Node | None = None
        self._nodes = 0
        self._characters = 0

    def compose(self, events: Iterator[yaml.Event]) -> Node | None:
        for event in events:
            if isinstance(event, yaml.NodeEvent):
                self._on_node(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                closed = self._open.pop()
                self._add(closed.node, closed.anchor)
            elif isinstance(event, yaml.DocumentStartEvent) and self._root is not None:
                raise self._error("the file has more than one document", _line(event))
        return self._root

    def _on_node(self, event: yaml.NodeEvent) -> None:
        collection = self._open[-1] if self._open else None
        if collection is not None and collection.is_mapping and collection.key is None:
            self._on_key(event, collection)
        elif isinstance(event, yaml.AliasEvent):
            self._add_alias(event)
        elif isinstance(event, yaml.ScalarEvent):
            text = event.value
            node = Node(_line(event), self._scalar(event), characters=len(text))
            self._count(node, _line(event))
            self._add(node, event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._on_collection(event)

    def _on_key(self, event: yaml.NodeEvent, mapping: _Open) -> None:
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(
                "a key must be text; write text that begins with { or [ in quotes", line, -1
            )
        key = event.value
        if len(key) > MAX_KEY:
            raise self._error(f"a key has more than {MAX_KEY} characters", line, -1)
        mapping.key, mapping.key_line = key, line
        if key in mapping.node.children:
            first = mapping.node.children[key].line
            raise self._error(f"the key occurs twice, first in line {first}", line)
        mapping.node.characters += len(key)
        self._characters += len(key)

    def _on_collection(self, event: yaml.CollectionStartEvent) -> None:
        line = _line(event)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag is not None and event.tag not in _COLLECTION_TAGS:
            raise self._error(_NO_TAG, line)
        if len(self._open) >= MAX_DEPTH:
            raise self._error(f"the file is nested more than {MAX_DEPTH} levels deep", line)
        node = Node(line, {} if is_mapping else [])
        self._count(node, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(_Open(node, is_mapping, event.anchor))

    def _add_alias(self, event: yaml.AliasEvent) -> None:
        line = _line(event)
        if event.anchor not in self._anchors:
            raise self._error(
                "the alias has no anchor; write text that starts with an asterisk in quotes", line
            )
        target = self._anchors[event.anchor]
        if target is None:
            raise self._error("an alias refers to itself", line)
        if len(self._open) + target.height > MAX_DEPTH:
            raise self._error(f"the file is nested more than {MAX_DEPTH} levels deep", line)
        self._count(target, line)
        self._add(replace(target, line=line), None)

    def _count(self, node: Node, line: int) -> None:
        self._nodes += node.nodes
        self._characters += node.characters
        if self._nodes > MAX_NODES:
            raise self._error(
                "the file has more than a million nodes after its aliases are expanded", line
            )
        if self._characters > MAX_CHARACTERS:
            raise self._error(
                "the file has more than 16 Mi characters after its aliases are expanded", line
            )

    def _add(self, node: Node, anchor: str | None) -> None:
        """Add a complete value to the innermost open collection."""
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self._root = node
            return
        collection = self._open[-1]
        parent = collection.node
        step = collection.step
        if collection.is_mapping:
            node.line = collection.key_line
            assert isinstance(parent.data, dict)
            parent.data[step] = node.data
            collection.key = None
        else:
            assert isinstance(parent.data, list)
            parent.data.append(node.data)
        parent.children[step] = node
        parent.nodes += node.nodes
        parent.characters += node.characters
        parent.height = max(parent.height, node.height + 1)

    def _scalar(self, event: yaml.ScalarEvent) -> object:
        if event.tag is not None:
            if event.tag not in _TEXT_TAGS:
                raise self._error(_NO_TAG, _line(event))
            return event.value
        return plain_value(event.value) if event.implicit[0] else event.value

    def _error(self, message: str, line: int, end: int | None = None) -> DocumentError:
        """An error at the next value of the innermost open collection."""
        return DocumentError(message, line, tuple(each.step for each in self._open)[:end])


def _line(event: yaml.Event) -> int:
    # The mark is None only for events that were not read from text.
    assert event.start_mark is not None
    return event.start_mark.line + 1


def plain_value(text: str) -> object:
    """The value of a scalar without quotes: null, a boolean, a number or text."""
    if text in _NULLS:
        return None
    if text[0] not in _FIRST_OF_NUMBER:
        return _BOOLEANS.get(text, text)
    if _INTEGER.fullmatch(text):
        return int(text)
    if _OCTAL_OR_HEX.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    not_finite = _NOT_FINITE.fullmatch(text)
    if not_finite is None:
        return text
    return math.copysign(math.inf, -1 if not_finite[1] == "-" else 1) if not_finite[2] else math.nan
