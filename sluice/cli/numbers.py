"""Types of arguments that are numbers: whole numbers and times, each with its bounds."""

import argparse
import re
from collections.abc import Callable

from sluice.cli.commands import shown
from sluice.config.values import MAX_DURATION, format_duration, parse_duration

_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_SHARE = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,15})?(?:e[+-]?[0-9]{1,2})?", re.ASCII)


def whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    """The type of a whole number within bounds."""

    def parse(text: str) -> int:
        if _WHOLE.fullmatch(text) and minimum <= int(text) <= maximum:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"write a whole number from {minimum} to {maximum}, not {shown(text)}"
        )

    return parse


def share(text: str) -> float:
    """The type of a share above 0: a percentage such as 10%, or a number such as 0.1."""
    number, percent = text.removesuffix("%"), text.endswith("%")
    if _SHARE.fullmatch(number):
        value = float(number) / (100 if percent else 1)
        if 0 < value <= 1:
            return value
    raise argparse.ArgumentTypeError(
        f"write a percentage such as 10%, or a share such as 0.1, above 0 and at most 100%, "
        f"not {shown(text)}"
    )


def seconds(minimum: float, maximum: float = MAX_DURATION) -> Callable[[str], float]:
    """The type of a time within bounds: a number of seconds, or a duration as in a config."""

    def parse(text: str) -> float:
        try:
            value = float(text) if _SECONDS.fullmatch(text) else parse_duration(text)
        except ValueError:
            value = -1.0
        if minimum <= value <= maximum:
            return value
        bounds = f"{format_duration(minimum)} to {format_duration(maximum)}"
        raise argparse.ArgumentTypeError(
            f"write a number of seconds, or a duration such as 30s or 5m, from {bounds}, "
            f"not {shown(text)}"
        )

    return parse
