"""Finds the video in a session description (RFC 8866, RFC 6184, RFC 7798, RFC 2435). Pure."""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urljoin

_CODECS: Final = {"H264": "h264", "H265": "hevc", "HEVC": "hevc", "JPEG": "mjpeg"}
"""FFmpeg's codecs by encoding name."""

_STATIC: Final = {26: ("JPEG", 90_000)}
"""Payload types with a fixed meaning (RFC 3551)."""

_PARAMETER_SETS: Final = ("sprop-parameter-sets", "sprop-vps", "sprop-sps", "sprop-pps")
_START_CODE: Final = b"\0\0\0\1"
_MAX_MEDIA: Final = 32


@dataclass(slots=True)
class Media:
    """A video of the session. `control` is the URL for its SETUP."""

    payload_type: int
    encoding: str = ""
    clock_rate: int = 90_000
    control: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    frame_rate: float | None = None

    @property
    def codec(self) -> str | None:
        """FFmpeg's name of its codec, if it is supported."""
        return _CODECS.get(self.encoding.upper())

    @property
    def configuration(self) -> bytes | None:
        """Its parameter sets in annex B form."""
        sets = b""
        for name in _PARAMETER_SETS:
            for text in self.parameters.get(name, "").split(","):
                try:
                    nal = base64.b64decode(text.strip() + "==")
                except (binascii.Error, ValueError):
                    continue
                if nal:
                    sets += _START_CODE + nal
        return sets or None


def read_videos(text: str, base: str) -> tuple[list[Media], str]:
    """All videos of a session description, and the URL of the whole session.

    `base` is the URL to which control URLs are relative.
    """
    videos: list[Media] = []
    media: Media | None = None
    session, in_session = base, True
    for line in text.splitlines():
        kind, _, value = line.strip().partition("=")
        if kind == "m":
            in_session = False
            media = _media(value) if len(videos) < _MAX_MEDIA else None
            if media is not None:
                videos.append(media)
        elif kind == "a":
            name, _, rest = value.partition(":")
            if in_session and name == "control":
                session = resolve(base, rest.strip())
            elif media is not None:
                _read_attribute(media, name, rest.strip(), base)
    return videos, session


def resolve(base: str, control: str) -> str:
    """The URL of a control attribute (RFC 2326, C.1.1)."""
    if control in ("", "*"):
        return base
    if control.lower().startswith("rtsp://"):
        return control
    # Cameras mean an appended path also where a query precedes it.
    if "?" in base or not base.endswith("/"):
        return f"{base.rstrip('/')}/{control.lstrip('/')}"
    try:
        return urljoin(base, control)
    except ValueError:  # no URL, such as `//[`
        return base


def _media(value: str) -> Media | None:
    """A video of a line `m=`."""
    kind, *fields = value.split()
    if kind != "video" or len(fields) < 3 or not fields[2].isdecimal():
        return None
    payload_type = int(fields[2][:4])
    encoding, clock_rate = _STATIC.get(payload_type, ("", 90_000))
    return Media(payload_type, encoding, clock_rate)


def _read_attribute(media: Media, name: str, value: str, base: str) -> None:
    if name == "control":
        media.control = resolve(base, value)
    elif name == "framerate":
        media.frame_rate = _number(value)
    elif name in ("rtpmap", "fmtp"):
        payload_type, _, rest = value.partition(" ")
        if payload_type != str(media.payload_type):
            return
        if name == "rtpmap":
            media.encoding, _, clock = rest.strip().partition("/")
            rate = _number(clock.partition("/")[0])
            media.clock_rate = int(rate) if rate and 1 <= rate <= 1e9 else 90_000
        else:
            for item in rest.split(";"):
                key, _, text = item.strip().partition("=")
                media.parameters[key.lower()] = text


def _number(text: str) -> float | None:
    try:
        return float(text[:20])
    except ValueError:
        return None
