"""Errors of validators that concern more than one key: they name the keys that contradict."""

from collections.abc import Iterable

from pydantic_core import PydanticCustomError

from sluice.config.errors import KeyPath

INVALID = "invalid_key"
"""Type of the errors in this module, see `ErrorDetails`."""

MAX_SHOWN = 100
"""Characters of a value that an error shows."""


def invalid(message: str, at: KeyPath, first: KeyPath | None = None) -> PydanticCustomError:
    """The error of a key. Paths begin at the section whose validator raises the error.

    `first` is the other key of a clash. The error also names its line.
    """
    # A message is no template: it may contain braces.
    context = {"message": message, "at": at, "first": first}
    return PydanticCustomError(INVALID, "{message}", context)


def check_distinct(entries: Iterable[tuple[KeyPath, object]], message: str) -> None:
    """Raises the error of the first entry whose value an earlier entry has.

    `{value}` in the message is the value.
    """
    seen: dict[object, KeyPath] = {}
    for at, value in entries:
        first = seen.setdefault(value, at)
        if first is not at:
            shown = repr(value)
            shown = shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."
            raise invalid(message.replace("{value}", shown), at, first)
