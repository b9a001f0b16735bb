"""Scalar types of the config: durations, sizes, addresses and names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from sluice.config.addresses import address_error, is_host_port, is_ip, split_host_port
from sluice.config.pattern import Pattern, wrong_format

_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

DURATION_REMEDY = "write a duration as a number and a unit, such as 250ms, 30s, 5m or 1h"
SIZE_REMEDY = "write a size as a number and a unit, such as 512KiB, 10MiB or 1GiB"

MAX_UINT32 = 2**32 - 1
"""Maximum of the `uint32` fields of Envoy's messages."""

MAX_TEXT = 4096
"""Characters of text without a stricter bound, and of the path of a file (PATH_MAX)."""


class Strict(BaseModel):
    """Base of every config section: it is immutable and refuses unknown keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        # Workers use only a part of the schema, and do not build the rest.
        defer_build=True,
        # A value may be a secret, also one that is in the wrong place.
        hide_input_in_errors=True,
    )


class Confidential(Strict):
    """Base of a section whose values may be secrets: errors, logs and dumps do not show them.

    A dump shows text in such a section only if the field is `Shown`.
    """

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        yield from ()


@dataclass(frozen=True, slots=True)
class Shown:
    """Marks a field of a confidential section that is an identifier, and no secret."""


class Outside(Enum):
    """Marks text that names something outside of the config: see `sluice.config.outside`."""

    FILE = "file"
    """A file that a process of the gateway reads."""
    OUTPUT = "output"
    """A file or folder to which a process of the gateway writes."""
    VARIABLE = "variable"
    """An environment variable of a process of the gateway."""
    SERVER = "server"
    """The host, with or without a port, or the URL of a server to which the gateway connects."""


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `250ms`. Raises ValueError for text in another format."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(DURATION_REMEDY)
    return float(match[1]) * _SECONDS[match[2]]


def _duration_value(value: object) -> object:
    try:
        return parse_duration(value) if isinstance(value, str) else value
    except ValueError:
        raise wrong_format(DURATION_REMEDY) from None


def format_duration(seconds: float) -> str:
    """A duration as the config has it, such as `90s`, with the largest unit that divides it."""
    for unit, length in (("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds * 1000:.15g}ms" if 0 < abs(seconds) < 1 else f"{seconds:.15g}s"


def format_size(size: float) -> str:
    """A size as the config has it, such as `10MiB`, with the largest unit that divides it."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]:.0f}{unit}"
    return f"{size:.15g}B"


def _check_duration(value: float) -> float:
    if 0 < value < MIN_DURATION:
        raise ValueError("write a duration of at least 1ms")
    return value


def _parse_size(value: object) -> object:
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is None:
            raise wrong_format(SIZE_REMEDY)
        return int(match[1]) * _BYTES[match[2]]
    return value


def _check_host_port(value: str) -> str:
    if not is_host_port(value):
        raise ValueError(address_error(value, "write an address as host:port"))
    return value


def _check_ip_port(value: str) -> str:
    if not is_host_port(value) or not is_ip(split_host_port(value)[0]):
        raise ValueError(address_error(value, "write an IP address and a port"))
    return value


def _check_text(value: str) -> str:
    if any(ord(character) < 32 or character == "\x7f" for character in value):
        raise ValueError("remove the control characters")
    return value


def _check_file_path(value: str) -> str:
    if value.lstrip().startswith(("-----BEGIN", "{")):
        raise ValueError("write the path of a file, not its content")
    if len(value) > MAX_TEXT:
        raise ValueError(f"write a path of at most {MAX_TEXT} characters")
    return _check_text(value)


def _check_absolute(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("write an absolute path: a process on another machine may read the file")
    return value


def _check_address(value: str) -> str:
    if value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path:
            raise ValueError("write the path of the socket after unix:")
        # sockaddr_un has room for 108 bytes, including the NUL. "-NN" is appended for each worker.
        if len(path.encode()) > 100:
            raise ValueError("the path of a Unix socket must have at most 100 bytes")
        return _check_text(value)
    return _check_host_port(value)


def _check_unix_socket(value: str) -> str:
    if not value.startswith("unix:/"):
        raise ValueError("write unix: and the absolute path of a socket")
    return _check_address(value)


@dataclass(frozen=True, slots=True)
class TypeLabel:
    """The name of a type on the reference page."""

    name: str


_TEXT_OR_NUMBER = {"anyOf": [{"type": "string"}, {"type": "number", "minimum": 0}]}

MAX_DURATION = 86_400.0 * 366
"""Seconds: a year."""

MIN_DURATION = 0.001
"""Seconds: Envoy counts milliseconds, and 0 has another meaning, such as "no timeout"."""

Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_check_text)]
"""Text in one line."""

FilePath = Annotated[str, Outside.FILE, AfterValidator(_check_file_path)]
"""The path of a file. No error shows the value: it may be the secret that the file should hold."""

AbsolutePath = Annotated[FilePath, AfterValidator(_check_absolute)]
"""The absolute path of a file that a process on another machine may read."""

Duration = Annotated[
    float,
    TypeLabel("duration"),
    BeforeValidator(_duration_value, json_schema_input_type=float | str),
    AfterValidator(_check_duration),
    Field(ge=0, le=MAX_DURATION, json_schema_extra={**_TEXT_OR_NUMBER, "examples": ["30s"]}),
]
"""Seconds; written `250ms`, `30s`, `5m`, `1h`, or as a number of seconds."""

PositiveDuration = Annotated[Duration, Field(gt=0)]

Size = Annotated[
    int,
    TypeLabel("size"),
    BeforeValidator(_parse_size, json_schema_input_type=int | str),
    Field(ge=0, le=1 << 40, json_schema_extra={**_TEXT_OR_NUMBER, "examples": ["10MiB"]}),
]
"""Bytes; written `512KiB`, `10MiB`, `1GiB`, or as a number of bytes."""

HostPort = Annotated[
    str,
    TypeLabel("address"),
    AfterValidator(_check_host_port),
    Field(examples=["127.0.0.1:8080", "[::1]:8080"]),
]
"""A TCP address."""

IpPort = Annotated[
    str,
    TypeLabel("IP address and port"),
    AfterValidator(_check_ip_port),
    Field(examples=["127.0.0.1:8080", "[::1]:8080"]),
]
"""A TCP address on which Envoy listens. Envoy does not resolve a name in it."""

Address = Annotated[
    str,
    TypeLabel("address"),
    AfterValidator(_check_address),
    Field(examples=["127.0.0.1:9000", "unix:/run/callout.sock"]),
]
"""A TCP address, or `unix:` and the path of a socket."""

UnixSocket = Annotated[
    str,
    TypeLabel("Unix socket"),
    AfterValidator(_check_unix_socket),
    Field(examples=["unix:/run/sluice/copies.sock"]),
]
"""`unix:` and the absolute path of a socket."""

Name = Annotated[
    str,
    Pattern(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
        "write a name of 1 to 63 letters, digits and . _ -, that begins with a letter or a digit",
    ),
]
"""Name of a model, version, rule or key. It appears in paths, headers, clusters and metrics."""

HostName = Annotated[
    str,
    TypeLabel("host name"),
    Pattern(
        r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}",
        "write a host name without scheme and port, such as gateway.example.com",
    ),
    AfterValidator(str.lower),
]
"""A DNS name, converted to lower case."""

HeaderName = Annotated[
    str,
    Pattern(
        r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}",
        "write the name of a header, such as x-user: letters, digits and - _, without a colon",
    ),
    AfterValidator(str.lower),
]
"""The name of an HTTP header (RFC 9110 section 5.1), converted to lower case."""

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

READ_METHODS: Final = ("GET", "HEAD")
"""Methods that change nothing on the server (RFC 9110 section 9.2.1), so they can be repeated."""

Placement = Literal["auto", "callout"]
"""Where requests are decided: `auto` is in Envoy alone where this gives the same result."""

PathPrefix = Annotated[
    str,
    StringConstraints(max_length=1024),
    Pattern(
        r'/[!"$->@-~]*[!"$-.0->@-~]',
        "write a path such as /predict: it begins with a slash and does not end with one, and has "
        "no blanks, no ? and no #",
    ),
]
"""A path and everything below it: `/a` matches `/a` and `/a/b`, not `/ab`. Paths are ASCII."""


def _check_scalar(value: object) -> object:
    if isinstance(value, bool | int | float | str):
        return value
    raise wrong_format("write a number, a text, or true or false")


RuntimeKey = Annotated[
    str,
    Pattern(
        r"(?!sluice\.)[A-Za-z0-9_.-]{1,200}",
        "write a key such as envoy.reloadable_features.name: letters, digits and . _ -; those that "
        "begin with sluice. belong to the gateway",
    ),
]
"""A key of Envoy's runtime. The gateway's own keys switch native routes on."""

RuntimeValue = Annotated[
    bool | int | Annotated[float, Field(allow_inf_nan=False)] | Text,
    BeforeValidator(_check_scalar),
]
"""A value of Envoy's runtime."""

Subpath = Annotated[
    str,
    StringConstraints(max_length=200),
    Pattern(
        r"\*|[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*",
        "write a path without a slash at its begin and its end, such as stats or a/b, or *",
    ),
]
"""A path below another, without the slash between them. `*`: every path."""

Percent = Annotated[float, Field(ge=0, le=100, multiple_of=0.01)]
"""A percentage, in steps of 0.01."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A share of a whole, from 0 to 1."""
