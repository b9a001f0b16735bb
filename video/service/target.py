"""What a request for video names in its path. Pure."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

_UPLOAD: Final = re.compile(r"/.*?(?:/versions/([^/]+))?/video")
_WATCH: Final = re.compile(r"/.*/video/([^/]+)")


@dataclass(frozen=True, slots=True)
class UploadTarget:
    """An upload. `version`: that of the path, if it names one."""

    version: str | None


@dataclass(frozen=True, slots=True)
class WatchTarget:
    """Watching a stream."""

    stream: str


def read_target(method: str, path: str) -> UploadTarget | WatchTarget | None:
    """What a request asks for; None for an unknown path.

    The gateway has checked the beginning of the path, which depends on the model.
    """
    if method == "POST" and (match := _UPLOAD.fullmatch(path)):
        return UploadTarget(None if match[1] is None else unquote(match[1]))
    if method == "GET" and (match := _WATCH.fullmatch(path)):
        return WatchTarget(unquote(match[1]))
    return None
