"""Edits the text of a valid config: one model, or one section.

Only the lines of the edited part change, so that comments and the order of other parts stay, and
`ConfigReader` reads only the edited model again. A text in another style than the usual one is
written again as a whole, with the same data.
"""

import re
from functools import lru_cache
from typing import Final

from sluice.config.document import DocumentError, Node, is_independent, parse
from sluice.config.model_blocks import KEY, Block, ModelBlocks
from sluice.config.render import render

_OTHER_BREAKS: Final = re.compile(r"[\r\x85\u2028\u2029\ufeff]")
"""What YAML, but not this module, takes for the end of a line."""

_MARKER: Final = re.compile(r"^(?:---|\.\.\.)", re.MULTILINE)
_PLAIN_KEY: Final = re.compile(r"[a-z_]+:(?=[ \n]|\Z)")

_Data = dict[str, object]


def model_data(text: str, name: str) -> object | None:
    """The data of a model as the text has it, without defaults; None if it has no such model."""
    cut = _cut(text)
    if cut is None:
        return _models(text).get(name)
    block = cut.block_of((KEY, name))
    return None if block is None else block.parse().children[KEY].children[name].data


def section_data(text: str, key: str) -> object | None:
    """The data of a section other than `models` as the text has it; None if it is absent."""
    return sections(text).get(key)


def sections(text: str) -> _Data:
    """The data of all sections but `models`, as the text has it."""
    cut = _cut(text)
    data = _data(text) if cut is None else cut.parse_rest().data
    return {k: v for k, v in data.items() if k != KEY} if isinstance(data, dict) else {}


def with_model(text: str, name: str, data: object) -> str:
    """The text with this model, in place of the one of the same name, if any."""
    cut = _cut(text)
    if cut is None:
        return with_section(text, KEY, {**_models(text), name: data})
    indent = _indent_of(cut.blocks[0])
    rendered = _indented(render({name: data}), indent)
    block = cut.block_of((KEY, name))
    if block is None:
        return _complete(text[: cut.end]) + rendered + text[cut.end :]
    return _with_block(text, block, rendered)


def without_model(text: str, name: str) -> str:
    """The text without this model, which it has."""
    cut = _cut(text)
    block = None if cut is None or len(cut.blocks) == 1 else cut.block_of((KEY, name))
    if block is None:
        others = {key: data for key, data in _models(text).items() if key != name}
        return with_section(text, KEY, others)
    return _with_block(text, block, "")


def with_section(text: str, key: str, data: object | None) -> str:
    """The text with this section, which may be `models`; without it if `data` is None."""
    lines = text.splitlines(keepends=True)
    spans = _spans(text, lines)
    if spans is None:
        others = {k: v for k, v in _data(text).items() if k != key or data is not None}
        return render(others if data is None else {**others, key: data})
    if data is None and spans.keys() <= {key}:
        return "{}\n"
    rendered = "" if data is None else render({key: data})
    if key not in spans:
        return _complete(text) + rendered
    start, end = spans[key]
    kept = _belongs_to_next(lines[start + 1 : end], 0)
    return "".join([*lines[:start], rendered, *kept, *lines[end:]])


@lru_cache(maxsize=1)
def _cut(text: str) -> ModelBlocks | None:
    """The text cut into models, if each can be replaced without a change of the other parts.

    An edit reads the text first, so the latest result is kept.
    """
    cut = ModelBlocks.of(text)
    if cut is None or not cut.blocks:
        return None
    try:
        cut.parse_rest()
    except DocumentError:
        return None
    return cut if is_independent(text) else None


def _data(text: str) -> _Data:
    root = parse(text)
    return root.data if root is not None and isinstance(root.data, dict) else {}


def _models(text: str) -> _Data:
    models = _data(text).get(KEY)
    return models if isinstance(models, dict) else {}


def _with_block(text: str, block: Block, rendered: str) -> str:
    """The text with other lines in place of a model."""
    kept = _belongs_to_next(block.text.splitlines(keepends=True)[1:], len(_indent_of(block)))
    return text[: block.start] + rendered + "".join(kept) + text[block.start + len(block.text) :]


def _spans(text: str, lines: list[str]) -> dict[str, tuple[int, int]] | None:
    """The lines of each section: the first, and the one after the last.

    None if the sections are not written one after the other, each in lines of its own.
    """
    if _OTHER_BREAKS.search(text):
        return None
    cut = _cut(text)
    root = parse(text) if cut is None else cut.parse_rest()
    if root is None or not _is_in_block_style(text, root, lines):
        return None
    starts = sorted((node.line - 1, str(key)) for key, node in root.children.items())
    ends = [*(line for line, _ in starts[1:]), len(lines)]
    return {key: (start, end) for (start, key), end in zip(starts, ends, strict=True)}


def _is_in_block_style(text: str, root: Node, lines: list[str]) -> bool:
    numbers = [node.line - 1 for node in root.children.values()]
    if not numbers or any(_PLAIN_KEY.match(lines[number]) is None for number in numbers):
        return False
    return _MARKER.search("".join(lines[min(numbers) :])) is None and is_independent(text)


def _belongs_to_next(lines: list[str], indent: int) -> list[str]:
    """The blank lines and comments at the end of a part, which are about the next part.

    A comment with more indentation than the key of the part may be text of its last value.
    """
    start = len(lines)
    while start > 0 and _is_between(lines[start - 1], indent):
        start -= 1
    return lines[start:]


def _is_between(line: str, indent: int) -> bool:
    content = line.lstrip(" ")
    return not content.strip() or (content[0] == "#" and len(line) - len(content) <= indent)


def _indent_of(block: Block) -> str:
    return block.text[: len(block.text) - len(block.text.lstrip(" "))]


def _indented(text: str, indent: str) -> str:
    """The lines of rendered YAML, which has no empty lines, with more indentation."""
    return "".join(f"{indent}{line}" for line in text.splitlines(keepends=True))


def _complete(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
