"""The options of an upload: the query of the request, or the map of a gRPC call. Pure."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from pydantic import ValidationError

from sluice.config.video import MAX_RATE, FrameSize, Region
from sluice.near_names import did_you_mean
from sluice.printable import printable

MAX_VALUE: Final = 200
"""Characters of a value."""

MAX_SHOWN: Final = 60
"""Characters of a value that an error shows."""

_T = TypeVar("_T")

_NUMBER = re.compile(r"[0-9]{1,8}(\.[0-9]{0,12})?|\.[0-9]{1,12}")
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


class OptionError(ValueError):
    """The option `name` is not valid. The text says what is right."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """How a video is analysed. None and defaults as in `VideoStream` of the config."""

    rate: float | None = None
    region: Region | None = None
    size: FrameSize | None = None
    ordered: bool = True
    overload: Literal["drop", "wait"] = "wait"


_OVERLOADS: Final[Mapping[str, Literal["drop", "wait"]]] = {"wait": "wait", "drop": "drop"}

OPTIONS: Final = tuple(UploadOptions.__dataclass_fields__)


def read_options(given: Iterable[tuple[str, str]]) -> UploadOptions:
    """The options of a request. Raises OptionError."""
    values: dict[str, str] = {}
    for name, value in given:
        if name not in OPTIONS:
            hint = did_you_mean(name, OPTIONS) or f"; choose from {', '.join(OPTIONS)}"
            raise OptionError(printable(name, MAX_SHOWN), f"unknown option{hint}")
        if name in values:
            raise OptionError(name, "write it once")
        if len(value) > MAX_VALUE:
            raise OptionError(name, f"write at most {MAX_VALUE} characters")
        values[name] = value
    return UploadOptions(
        rate=_rate(values),
        region=_region(values),
        size=_size(values),
        ordered=_choice(values, "ordered", {"true": True, "false": False}, default=True),
        overload=_choice(values, "overload", _OVERLOADS, default="wait"),
    )


def _rate(values: Mapping[str, str]) -> float | None:
    text = values.get("rate")
    if text is None:
        return None
    rate = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 < rate <= MAX_RATE:
        message = f"write frames per second, more than 0 and at most {MAX_RATE:g}, such as 5"
        raise _wrong("rate", text, message)
    return rate


def _region(values: Mapping[str, str]) -> Region | None:
    text = values.get("region")
    if text is None:
        return None
    message = "write left,top,width,height as shares of the frame from 0 to 1, such as 0.25,0,0.5,1"
    parts = text.split(",")
    if len(parts) != 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise _wrong("region", text, message)
    left, top, width, height = map(float, parts)
    try:
        return Region(left=left, top=top, width=width, height=height)
    except ValidationError:
        raise _wrong("region", text, message) from None


def _size(values: Mapping[str, str]) -> FrameSize | None:
    text = values.get("size")
    if text is None:
        return None
    message = "write WIDTHxHEIGHT in pixels from 16 to 8192, such as 640x480"
    match = _SIZE.fullmatch(text)
    if match is None:
        raise _wrong("size", text, message)
    try:
        return FrameSize(width=int(match[1]), height=int(match[2]))
    except ValidationError:
        raise _wrong("size", text, message) from None


def _choice(values: Mapping[str, str], name: str, choices: Mapping[str, _T], *, default: _T) -> _T:
    text = values.get(name)
    if text is None:
        return default
    if text not in choices:
        raise _wrong(name, text, f"write {' or '.join(choices)}")
    return choices[text]


def _wrong(name: str, text: str, message: str) -> OptionError:
    return OptionError(name, f"{message}, not {printable(text, MAX_SHOWN)!r}")
