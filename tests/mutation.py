"""Mutates valid inputs for fuzzers. A `random.Random` determines the result."""

from collections.abc import Sequence
from random import Random

_WORDS: tuple[bytes, ...] = (
    b"-1",
    b"0",
    b"1e309",
    b"18446744073709551616",
    b"null",
    b"true",
    b"NaN",
    b'"x"',
    b"[]",
    b"\x00" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xda",
    b"\xff\xc2",
    b"\x80" * 10,
)
_MARKS = b'[]{}",:0-.eE\x00\xff'


def mutated(content: bytes, source: Random, corpus: Sequence[bytes]) -> bytearray:
    """The content after up to eight mutations. Some copy a part of another input of `corpus`."""
    damaged = bytearray(content)
    for _ in range(source.choice((0, 1, 1, 1, 2, 3, 5, 8))):
        _damage(damaged, source, corpus)
    return damaged


def _damage(content: bytearray, source: Random, corpus: Sequence[bytes]) -> None:
    at = source.randrange(len(content) + 1)
    end = min(len(content), at + source.choice((1, 2, 4, 16, 200)))
    match source.randrange(8):
        case 0:
            content[at:end] = source.randbytes(end - at)
        case 1:
            content[at:end] = bytes(b ^ 1 << source.randrange(8) for b in content[at:end][:1])
        case 2:
            del content[at:end]
        case 3:
            del content[at:]
        case 4:
            content[at:at] = content[at:end] * source.choice((1, 2, 50))
        case 5:
            content[at:end] = source.choice(_WORDS)
        case 6:
            other = source.choice(corpus)
            start = source.randrange(len(other) + 1)
            content[at:end] = other[start : start + source.choice((4, 64, 1000))]
        case _:
            content[at : at + 1] = bytes([source.choice(_MARKS)])


EXTREMES: tuple[object, ...] = (
    None, True, 0, -1, 1 << 31, 1 << 32, 1 << 63, 1 << 64, 10**400, 0.5, -0.0, 1e308,
    "", "x", "é\ud800", "a" * 5_000, "127.0.0.1:0", "unix:/x", "1h", "10GiB", "\x00\n",
    [], [None], [[]], {}, {"": {}}, ["x"] * 200,
)  # fmt: skip
"""Values that a reader of documents may not expect."""


def altered(document: object, source: Random) -> object:
    """A copy of a document of dicts, lists and scalars, in which one value is extreme."""
    if not isinstance(document, dict | list) or not document or source.random() < 0.1:
        return source.choice(EXTREMES)
    if isinstance(document, list):
        at = source.randrange(len(document))
        return [*document[:at], altered(document[at], source), *document[at + 1 :]]
    name = source.choice(list(document))
    changed = {key: value for key, value in document.items() if key != name}
    match source.randrange(10):
        case 0:
            return changed
        case 1:
            return {**changed, "unknown": document[name]}
        case _:
            return {**changed, name: altered(document[name], source)}
