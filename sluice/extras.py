"""Packages that only some parts of a gateway need (extras of the distribution)."""

from importlib.util import find_spec
from typing import Final

VIDEO_HINT: Final = "pip install 'sluice-gateway[video]'"

_VIDEO: Final = ("av", "paho")


def missing_for_video() -> list[str]:
    """The import packages of the extra `video` that are not installed."""
    return [name for name in _VIDEO if find_spec(name) is None]
