"""Suggests a name that is similar to an unknown one, for errors."""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

MAX_NAMES = 1000
"""Names that are compared. A config has up to 10,000 models, and each comparison takes time."""

MAX_LENGTH = 100
"""Characters of a name that is compared: the time of a comparison grows with their product."""


def near_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to a name; None if no name is similar."""
    if len(name) > MAX_LENGTH:
        return None
    # Upper case is a frequent mistake, and changes every character.
    lower = {each.lower(): each for each in islice(known, MAX_NAMES) if len(each) <= MAX_LENGTH}
    close = get_close_matches(name.lower(), lower, n=1)
    return lower[close[0]] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean NAME?`, or empty text if no name is similar."""
    near = near_name(name, known)
    return "" if near is None else f"; did you mean {near}?"
