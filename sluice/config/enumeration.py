"""Lists of names in a message."""

from collections.abc import Sequence
from typing import Literal


def enumerated(
    names: Sequence[str], conjunction: Literal["and", "or"] = "and", maximum: int = 64
) -> str:
    """The names with commas, such as `a, b and c`. Of more than `maximum`, the first are named."""
    shown, omitted = list(names[:maximum]), len(names) - maximum
    if omitted > 0:
        shown.append(f"{omitted} more" if conjunction == "and" else f"one of {omitted} more")
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} {conjunction} {shown[-1]}"
