r"""Matches items of a list claim in its header.

The token filter writes a list as the base64 (RFC 4648 section 4) of its JSON, without blanks:
`["a","vip"]`. An item `"vip"` begins at the first, second or third byte of a group of three, and so
has one of three spellings in base64, whose first and last characters also depend on the bytes
around it. A regular expression can match the three exactly.

In JSON, the bytes `"vip"` are an item of the list, unless the list contains an escaped quote, or
another list, or an object. Callers with one of these are excluded (`is_unreadable`), and so are
tokens with text that is the base64 of a list (`TEXT_LIKE_A_LIST`).
"""

from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Final

from sluice.config.placement import SECOND_OF_LIST
from xds.resources.native.predicates import Predicate, any_of, matches

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

_NESTED_OR_ESCAPED: Final = "|".join(
    (
        "L[FH][s-v]", "[CSiy]x[b7]", f"s[We][{SECOND_OF_LIST}]",  # ,[ and ,{
        "XC[I-L]", "[FVl1]wi", "cI[g-v]",  # \"
    )
)  # fmt: skip
"""Each of these pairs of bytes at the three places. They are not aligned, so they also occur by
chance, in a few of a hundred long lists: these requests are left to the callout."""

_LIST: Final = f"W[{SECOND_OF_LIST}][!-~]*"
_UNREADABLE: Final = f"W(?:[13][s-v]|[{SECOND_OF_LIST}][!-~]*(?:{_NESTED_OR_ESCAPED}))[!-~]*"


TEXT_LIKE_A_LIST: Final = "Il(?:d[56]|c[x-z])|[CSiy]JX[Me]|iV(?:3[k-r]|z[E-P])"
"""A regular expression that finds all text in the payload of a token which begins as the base64 of
a list does: the base64url of `"W` and one of the characters that can follow, at the three places.
Tokens with it, and with escapes of ASCII letters, are never native (`conditions`)."""


def is_unreadable(headers: Iterable[str]) -> Predicate:
    """One of the headers holds a list whose items cannot be matched."""
    return any_of(matches(name, _UNREADABLE) for name in headers)


def is_list(header: str) -> Predicate:
    """The header holds a list, because no text in an unambiguous token is like one."""
    return matches(header, _LIST)


def contains_text(header: str, value: str) -> Predicate:
    """The list has an item with this text. The header must hold a list that is readable."""
    return _contains(header, f'"{value}"')


def contains_prefix(header: str, prefix: str) -> Predicate:
    """The list has an item that begins with this text. The header holds a readable list."""
    return _contains(header, f'"{prefix}')


def _contains(header: str, text: str) -> Predicate:
    spellings = [_spelling(text.encode(), place) for place in range(3)]
    if len(text) <= MAX_JOINED:
        spellings = [f"(?:{'|'.join(spellings)})"]
    return any_of(matches(header, f"(?:[!-~]{{4}})*{spelling}[!-~]*") for spelling in spellings)


MAX_JOINED: Final = 12
"""Characters of a text whose three spellings fit into one regular expression: Envoy accepts only
programs of 100 instructions."""


@lru_cache(4096)  # the rules of many models have the same values
def _spelling(content: bytes, place: int) -> str:
    """A regular expression of these bytes in base64, with the first byte at `place` of a group."""
    bits = f"{'?' * (8 * place)}{''.join(f'{byte:08b}' for byte in content)}"
    bits += "?" * (-len(bits) % 6)
    return "".join(_character(bits[at : at + 6]) for at in range(0, len(bits), 6))


@cache  # three values of each bit, so at most 729 texts
def _character(bits: str) -> str:
    """The characters whose six bits are these. A bit that is not known is a question mark."""
    if bits == "??????":
        return "[!-~]"
    possible = [
        character
        for index, character in enumerate(_ALPHABET)
        if all(bit in ("?", known) for bit, known in zip(bits, f"{index:06b}", strict=True))
    ]
    return possible[0] if len(possible) == 1 and possible[0].isalnum() else f"[{''.join(possible)}]"
