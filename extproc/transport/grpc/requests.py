"""Parses the headers of a gRPC request (PROTOCOL-HTTP2.md, "Requests")."""

import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from extproc.rpc import HandlerFactory, Services, StatusCode
from extproc.transport.grpc import responses
from extproc.transport.grpc.responses import CallRefusal
from extproc.transport.http2.header_blocks import Fields

_RESERVED: Final = {b"te", b"content-type", b"content-length"}

_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_match_timeout = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """The parsed headers of a request, shared by all requests with the same header block."""

    factory: HandlerFactory | None
    """The method's handler factory; None when the call is refused."""
    refusal: CallRefusal | None
    """The response when the call is refused."""
    metadata: Sequence[tuple[str, str | bytes]]
    timeout: float | None
    gzip: bool
    """Whether messages may be compressed with gzip."""


def request_parser(services: Services) -> Callable[[Fields], GrpcRequest]:
    """A function that parses the requests for these services; its results are cacheable."""

    def parse(fields: Fields) -> GrpcRequest:
        pseudo = {name: value for name, value in fields if name.startswith(b":")}
        headers = dict(fields)
        path = pseudo[b":path"].decode("utf-8", "replace")
        factory = services.get(path)
        encoding = headers.get(b"grpc-encoding", b"identity")
        timeout, timeout_is_valid = _parse_timeout(headers.get(b"grpc-timeout"))
        metadata, metadata_is_valid = _parse_metadata(fields)
        refusal: CallRefusal | None = None
        if pseudo[b":method"] != b"POST":
            refusal = responses.http_refusal(405, "gRPC calls are POST requests")
        elif not _is_grpc(headers.get(b"content-type", b"")):
            refusal = responses.http_refusal(415, "content-type must be application/grpc")
        elif factory is None:
            refusal = responses.refusal(StatusCode.UNIMPLEMENTED, f"unknown method {path}")
        elif encoding not in (b"identity", b"gzip"):
            refusal = responses.refusal(
                StatusCode.UNIMPLEMENTED,
                "grpc-encoding is neither identity nor gzip",
                responses.ACCEPT_ENCODING,
            )
        elif not timeout_is_valid:
            refusal = responses.refusal(StatusCode.INTERNAL, "malformed grpc-timeout")
        elif not metadata_is_valid:
            refusal = responses.refusal(StatusCode.INTERNAL, "malformed binary metadata")
        return GrpcRequest(
            factory=None if refusal else factory,
            refusal=refusal,
            metadata=metadata,
            timeout=timeout,
            gzip=encoding == b"gzip",
        )

    return parse


def _is_grpc(content_type: bytes) -> bool:
    media_type = content_type.partition(b";")[0].strip()
    return media_type == b"application/grpc" or media_type.startswith(b"application/grpc+")


def _parse_timeout(value: bytes | None) -> tuple[float | None, bool]:
    """Seconds, and whether the value is valid."""
    if value is None:
        return None, True
    match = _match_timeout(value)
    if match is None:
        return None, False
    return int(match[1]) * _UNITS[match[2]], True


def _parse_metadata(fields: Fields) -> tuple[Sequence[tuple[str, str | bytes]], bool]:
    """Custom metadata, and whether it is valid.

    Values of `-bin` names are base64 with or without padding, and may be joined with commas.
    """
    metadata: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name.startswith((b":", b"grpc-")) or name in _RESERVED:
            continue
        key = name.decode("ascii")
        if not key.endswith("-bin"):
            metadata.append((key, value.decode("latin-1")))
            continue
        for part in value.split(b","):
            encoded = part.strip().rstrip(b"=")
            try:
                decoded = binascii.a2b_base64(encoded + b"=" * (-len(encoded) % 4))
            except binascii.Error:
                return (), False
            metadata.append((key, decoded))
    return tuple(metadata), True
