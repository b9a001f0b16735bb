"""Types of the arguments of `sluice video`: sources, parts and sizes of frames."""

import argparse
import re
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from sluice.cli.commands import shown
from sluice.config.validation import error_message, location
from sluice.config.values import Confidential, Strict
from sluice.config.video import MAX_RATE, CameraUrl, FrameSize, Region

_NUMBERS = re.compile(r"[0-9]{0,6}(?:\.[0-9]{1,9})?")
_SIZE = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

Section = TypeVar("Section", bound=Strict)


class _Camera(Confidential):
    """A URL of a camera. It may have a password, so errors do not show it."""

    url: CameraUrl


def source(text: str) -> str | Path:
    """The type of a source: the URL of a camera, or a file."""
    if not _URL.match(text):
        return Path(text)
    try:
        return _Camera(url=text).url
    except ValidationError as error:
        message = error_message(error.errors()[0], _Camera)
        text = message.replace("set credentials", "use --camera-user")
        raise argparse.ArgumentTypeError(text) from None


def region(text: str) -> Region:
    """The type of a region: LEFT,TOP,WIDTH,HEIGHT in shares of the frame."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part and _NUMBERS.fullmatch(part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"write LEFT,TOP,WIDTH,HEIGHT in shares of the frame, such as 0.25,0,0.5,1, "
            f"not {shown(text)}"
        )
    names = ("left", "top", "width", "height")
    return _valid(Region, dict(zip(names, map(float, parts), strict=True)))


def size(text: str) -> FrameSize:
    """The type of a size: WIDTHxHEIGHT in pixels."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"write WIDTHxHEIGHT in pixels, not {shown(text)}")
    return _valid(FrameSize, {"width": int(found[1]), "height": int(found[2])})


def rate(text: str) -> float:
    """The type of a rate: frames per second."""
    if text and _NUMBERS.fullmatch(text) and 0 < float(text) <= MAX_RATE:
        return float(text)
    raise argparse.ArgumentTypeError(
        f"write frames per second, above 0 and at most {MAX_RATE:g}, not {shown(text)}"
    )


def _valid(schema: type[Section], values: dict[str, object]) -> Section:
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(map(str, location(detail)))
        raise argparse.ArgumentTypeError(f"{key}: {error_message(detail, schema)}") from None
