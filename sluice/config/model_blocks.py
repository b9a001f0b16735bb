"""Cuts the text of a config into one block for each model, and the rest.

A block that is valid alone has the same meaning in its place, because the parser is in the same
state before each model and after it: every block begins at the same column with a plain key, and
has no anchor, alias or tag. A text that is written in any other way is not cut. It is read as a
whole, which is always right.
"""

import re
from dataclasses import dataclass, field
from typing import Final, Self

from sluice.config.document import MAX_CHARACTERS, MAX_NODES, DocumentError, Node, parse
from sluice.config.errors import KeyPath

KEY: Final = "models"

_UNUSUAL: Final = "\t\r\x85\u2028\u2029\ufeff"
"""Other breaks of lines than `\\n`, and what indents a line besides blanks."""

_KEY_LINE: Final = re.compile(rf"{KEY}:(?: +#[^\n]*| *)\n")
_UNTIL_FIRST: Final = re.compile(r"(?: *(?:#[^\n]*)?\n)*+(?= +[^ \n])")
_INDENT: Final = re.compile(r" +")
_NAME: Final = r"([A-Za-z0-9][A-Za-z0-9._-]{0,62}):(?![^ \n])"
_HEADING: Final = f"{KEY}:\n"
_HEADING_NODES, _HEADING_CHARACTERS = 2, len(KEY)
"""What the heading of a block adds to its counts: the document and the map, and the key."""


@dataclass(frozen=True, slots=True)
class Block:
    """The text of one model, with its name. `start` is its first character in `config`."""

    name: str
    text: str = field(repr=False)  # it may hold secrets
    start: int
    config: str = field(repr=False)

    def parse(self) -> Node:
        """The document with this model alone, under the key `models`. Raises DocumentError."""
        root = parse(_HEADING + self.text, alone=True)
        models = None if root is None else root.children.get(KEY)
        if root is None or models is None or models.children.keys() != {self.name}:
            raise DocumentError("the text is not one model")
        return root

    def line_of(self, path: KeyPath) -> int:
        """The line of a path in the config, which begins at the root of the config."""
        return self.config.count("\n", 0, self.start) + self.parse().line_of(path) - 1


@dataclass(frozen=True, slots=True)
class ModelBlocks:
    """A config, cut into blocks and the rest."""

    text: str = field(repr=False)
    body: int
    """The first character after the line of the key `models`."""
    end: int
    """The first character after the last model."""
    blocks: tuple[Block, ...] = field(repr=False)

    @classmethod
    def of(cls, text: str) -> Self | None:
        """Cut a text; None if it is not written as expected."""
        if any(character in text for character in _UNUSUAL):
            return None
        start = 0 if text.startswith(_HEADING[:-1]) else text.find(f"\n{KEY}:") + 1
        key_line = _KEY_LINE.match(text, start)
        first = None if key_line is None else _UNTIL_FIRST.match(text, key_line.end())
        if key_line is None or first is None:
            return None
        indent = _INDENT.match(text, first.end())
        assert indent is not None
        end = _end(text, first.end(), len(indent[0]))
        blocks = _blocks(text, first.end(), end, len(indent[0]))
        return None if blocks is None else cls(text, key_line.end(), end, blocks)

    def parse_rest(self) -> Node:
        """Parse all but the models. Raises DocumentError if the cut changes what the text means."""
        line = self.text.count("\n", 0, self.body)
        # The text before the models is complete: they are in no quotes, brackets or other map.
        root = _without_models(self.text[: self.body], line)
        tail = self.text[self.end :]
        if tail:
            removed = self.text.count("\n", self.body, self.end)
            root = _without_models(self.text[: self.body] + "\n" * removed + tail, line)
        return root

    def block_of(self, path: KeyPath) -> Block | None:
        """The block that has the key of a path."""
        if len(path) < 2 or path[0] != KEY:
            return None
        return next((block for block in self.blocks if block.name == path[1]), None)


def check_counts(rest: Node, models: list[tuple[int, int]]) -> None:
    """Raises DocumentError if a document is too large. `models`: nodes and characters of blocks."""
    nodes = rest.nodes + sum(each - _HEADING_NODES for each, _ in models)
    characters = rest.characters + sum(each - _HEADING_CHARACTERS for _, each in models)
    if nodes > MAX_NODES or characters > MAX_CHARACTERS:
        raise DocumentError("the document is too large")


def _end(text: str, first: int, indent: int) -> int:
    """Where the first line begins that has less indentation than the models."""
    less = re.compile(rf"\n {{0,{indent - 1}}}[^ \n#]").search(text, first)
    return len(text) if less is None else less.start() + 1


def _blocks(text: str, first: int, end: int, indent: int) -> tuple[Block, ...] | None:
    """The blocks of the models; None if a line at their column has no plain name, or one twice."""
    key = re.compile(rf"\n {{{indent}}}(?:{_NAME}|(?=[^ \n#]))")
    found = [(match.start() + 1, match[1]) for match in key.finditer(text, first - 1, end)]
    names = {name for _, name in found}
    if None in names or len(names) < len(found):
        return None
    ends = [start for start, _ in found[1:]] + [end]
    return tuple(
        Block(name, text[start:stop], start, text)
        for (start, name), stop in zip(found, ends, strict=True)
    )


def _without_models(text: str, line: int) -> Node:
    root = parse(text)
    models = None if root is None else root.children.get(KEY)
    if root is None or models is None or models.data is not None or models.line != line:
        raise DocumentError("the models are not where the text was cut")
    return root
