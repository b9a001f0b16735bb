"""What Envoy can compare exactly as the decision does: claims, their values, and subjects."""

from typing import Final

MAX_EXACT: Final = 2**53
"""Up to this number, a double holds every integer exactly."""


def is_plain(value: str) -> bool:
    """Whether Envoy's header of a claim has this text exactly if the claim has this value.

    Envoy writes numbers in another form than the decision, except for integers from 0 that a double
    holds. It writes lists and objects as the base64 of their JSON. A header must be printable.
    """
    if not value or not value.isprintable():
        return False
    if value.isascii() and value.isdigit():
        return (value == "0" or value[0] != "0") and int(value) < MAX_EXACT
    try:
        float(value)
    except ValueError:
        return not _looks_like_base64(value)
    return False


def _looks_like_base64(value: str) -> bool:
    """Whether text may be the base64 of a list or an object in JSON: of `[` or `{` and ASCII."""
    return value[:1] in ("W", "e") and value[1:2] in SECOND_OF_LIST


SECOND_OF_LIST: Final = "yz123"
"""Characters of base64 that can follow that of `[` or `{` in JSON without blanks. After it comes a
quote, a minus, a digit, a bracket, a brace, or the first letter of `true`, `false` or `null`.

JSON can write none of these characters by a short escape, as it can a slash. Text in a token that
begins as base64 does is found by its spelling."""


def is_item(value: str, *, prefix: bool = False) -> bool:
    """Whether an item of a list has this text exactly if the JSON of the list has it in quotes.

    Envoy's JSON has escapes for some characters. Numbers and booleans have no quotes.
    """
    if not (0 < len(value) <= MAX_ITEM and value.isascii() and value.isprintable()):
        return False
    if not _ESCAPED.isdisjoint(value) or value.isdigit() or value[0] in ",]":
        return False
    words = ("true", "false")
    return not any(word.startswith(value) if prefix else word == value for word in words)


MAX_ITEM: Final = 40
"""Characters of an item of a list that Envoy matches: regular expressions of Envoy are short."""

_ESCAPED: Final = frozenset('"\\<>&')


def is_plain_prefix(value: str) -> bool:
    """Whether a value with this prefix can only be text that Envoy's header has exactly."""
    first = value[:1]
    return bool(value) and value.isprintable() and first not in "-0123456789We"


def is_header_safe(subject: str) -> bool:
    """Whether the subject is its own header value: printable ASCII, no percent sign, no margin."""
    printable = subject.isascii() and subject.isprintable()
    return bool(subject) and printable and "%" not in subject and subject == subject.strip()


def is_plain_name(claim: str) -> bool:
    """Whether the name stands for one member of the token. Envoy splits names at dots."""
    return "." not in claim and not claim.startswith("/")
