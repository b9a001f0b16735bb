"""Scalar types of the config: durations, sizes, addresses and names."""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from sluice.config.pattern import Pattern, wrong_format
from sluice.printable import printable

_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")
_IPV6_ZONE = re.compile(r"%[A-Za-z0-9._~-]{1,32}")
_PORT = re.compile(r"[0-9]{1,5}")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")

DURATION_REMEDY = "write a duration as a number and a unit, such as 250ms, 30s, 5m or 1h"
SIZE_REMEDY = "write a size as a number and a unit, such as 512KiB, 10MiB or 1GiB"

LOOPBACK_HOSTS = ("127.0.0.1", "::1")
"""The addresses of `localhost` (RFC 6761 section 6.3)."""

MAX_QUOTED = 100
"""Characters of an address that an error quotes."""

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
    if not _is_host_port(value):
        raise ValueError(_address_error(value, "write an address as host:port"))
    return value


def _check_ip_port(value: str) -> str:
    if not _is_host_port(value) or not is_ip(split_host_port(value)[0]):
        raise ValueError(_address_error(value, "write an IP address and a port"))
    return value


def _is_host_port(value: str) -> bool:
    host, port = split_host_port(value)
    return _is_host(host) and _PORT.fullmatch(port) is not None and 0 < int(port) < 65536


def _address_error(value: str, remedy: str) -> str:
    """What is wrong with an address. Quotes it unless it may contain a password."""
    examples = f"{remedy}, such as 127.0.0.1:8080 or [::1]:8080"
    if "@" in value:
        return examples
    quoted = repr(printable(value, MAX_QUOTED))
    if "://" in value:
        return f"{quoted} is a URL: {remedy}, such as {_url_address(value)}, without the scheme"
    if (is_ip(value) and ":" in value) or (
        is_ip(value.rpartition(":")[0]) and value.count(":") > 1
    ):
        return f"{quoted} has an IPv6 address without brackets: {examples}"
    host = split_host_port(value)[0] or value
    if _ends_in_number(host) and not is_ip(host) and host != value:
        return f"{quoted} has no valid IPv4 address, and no host name ends in a number: {examples}"
    return f"{quoted} is no such address: {examples}"


def _url_address(url: str) -> str:
    """The address in a URL; an example if it has none."""
    scheme, _, rest = url.partition("://")
    address = re.split(r"[/?#]", rest, maxsplit=1)[0]
    with_port = f"{address}:{443 if scheme.lower() in ('https', 'grpcs') else 80}"
    found = next((each for each in (address, with_port) if _is_host_port(each)), "127.0.0.1:8080")
    return printable(found, MAX_QUOTED)


def _is_host(host: str) -> bool:
    """Whether the text is a host name or an IP address. An IPv6 address may have a zone."""
    address, percent, zone = host.partition("%")
    if ":" not in address:
        return _HOST.fullmatch(host) is not None and (not _ends_in_number(host) or is_ip(host))
    return is_ip(address) and (not percent or _IPV6_ZONE.fullmatch(percent + zone) is not None)


def _ends_in_number(host: str) -> bool:
    """Whether the last label is a number, so that the host is not a name (WHATWG URL section 3.5).

    Resolvers read such a host as an IPv4 address, each in another way, or ask DNS for it.
    """
    return _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]) is not None


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


def split_host_port(value: str) -> tuple[str, str]:
    """Split `host:port`. Returns an IPv6 host without brackets, and '' for a missing part."""
    host, _, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        return (host[1:-1], port) if ":" in host else ("", "")
    return ("", "") if ":" in host else (host, port)


def join_host_port(host: str, port: str | int) -> str:
    """`host:port`. An IPv6 host gets brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connectable(host: str) -> str:
    """The host; the loopback address for a wildcard address, which clients cannot connect to."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared, not bound)


def split_url(value: str) -> SplitResult | None:
    """The parts of a URL; None if it has no valid host and port, or blanks or control characters.

    The exceptions of `urlsplit` contain parts of the URL, which may be a password.
    """
    if any(character <= " " or character == "\x7f" for character in value):
        return None
    try:
        url = urlsplit(value)
        return url if _is_host(url.hostname or "") and url.port != 0 else None
    except ValueError:
        return None


def is_ip(host: str) -> bool:
    """Whether the host is an IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_localhost(host: str) -> bool:
    """Whether the host is `localhost` or a name below it, which are names of the loopback
    addresses (RFC 6761 section 6.3).
    """
    name = host.lower().removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


def needs_dns(address: str) -> bool:
    """Whether a name server must resolve the host of an address: `host:port` or `unix:/path`."""
    if address.startswith("unix:"):
        return False
    host, _ = split_host_port(address)
    return not (is_ip(host) or is_localhost(host))


def is_loopback(host: str) -> bool:
    """Whether only processes of the same machine can connect to an IP address."""
    return is_ip(host) and ipaddress.ip_address(host).is_loopback


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

FilePath = Annotated[str, AfterValidator(_check_file_path)]
"""The path of a file. No error shows the value: it may be the secret that the file should hold."""

Duration = Annotated[
    float,
    TypeLabel("duration"),
    BeforeValidator(_duration_value),
    AfterValidator(_check_duration),
    Field(ge=0, le=MAX_DURATION, json_schema_extra={**_TEXT_OR_NUMBER, "examples": ["30s"]}),
]
"""Seconds; written `250ms`, `30s`, `5m`, `1h`, or as a number of seconds."""

PositiveDuration = Annotated[Duration, Field(gt=0)]

Size = Annotated[
    int,
    TypeLabel("size"),
    BeforeValidator(_parse_size),
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
