"""What the headers of a gRPC request say (PROTOCOL-HTTP2.md, "Requests")."""

import binascii
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from extproc.rpc import Open, Services, StatusCode
from extproc.transport.grpc import responses
from extproc.transport.http2.blocks import Fields

_RESERVED: Final = {b"te", b"content-type", b"content-length"}

_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_timeout = re.compile(rb"([0-9]{1,8})([HMSmun])").fullmatch


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """The headers of one call, read once for all calls that repeat them."""

    open: Open | None
    """The method's; None where `refusal` says why the call ends at once."""
    refusal: "responses.CallRefusal | None"
    metadata: Sequence[tuple[str, str | bytes]]
    timeout: float | None
    gzip: bool


def reader(services: Services) -> Callable[[Fields], GrpcRequest]:
    """A function that reads requests for these services. It depends on the headers alone."""

    def read(fields: Fields) -> GrpcRequest:
        pseudo = {name: value for name, value in fields if name.startswith(b":")}
        headers = dict(fields)
        path = pseudo[b":path"].decode("utf-8", "replace")
        open_call = services.get(path)
        encoding = headers.get(b"grpc-encoding", b"identity")
        timeout, timeout_is_valid = _read_timeout(headers.get(b"grpc-timeout"))
        metadata, metadata_is_valid = _read_metadata(fields)
        refusal: responses.CallRefusal | None = None
        if pseudo[b":method"] != b"POST":
            refusal = responses.http_refusal(405, "gRPC calls are POST requests")
        elif not _is_grpc(headers.get(b"content-type", b"")):
            refusal = responses.http_refusal(415, "content-type must be application/grpc")
        elif open_call is None:
            refusal = responses.refusal(StatusCode.UNIMPLEMENTED, f"unknown method {path}")
        elif encoding not in (b"identity", b"gzip"):
            refusal = responses.refusal(
                StatusCode.UNIMPLEMENTED,
                "grpc-encoding is neither identity nor gzip",
                responses.ACCEPT_ENCODING,
            )
        elif not timeout_is_valid or not metadata_is_valid:
            refusal = responses.refusal(StatusCode.INTERNAL, "malformed grpc-timeout or metadata")
        return GrpcRequest(
            open=None if refusal else open_call,
            refusal=refusal,
            metadata=metadata,
            timeout=timeout,
            gzip=encoding == b"gzip",
        )

    return read


def _is_grpc(content_type: bytes) -> bool:
    kind = content_type.partition(b";")[0].strip()
    return kind == b"application/grpc" or kind.startswith(b"application/grpc+")


def _read_timeout(value: bytes | None) -> tuple[float | None, bool]:
    if value is None:
        return None, True
    match = _timeout(value)
    if match is None:
        return None, False
    return int(match[1]) * _UNITS[match[2]], True


def _read_metadata(fields: Fields) -> tuple[Sequence[tuple[str, str | bytes]], bool]:
    """Custom metadata; names ending in `-bin` are base64, padded or not, and may be
    comma-joined."""
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
