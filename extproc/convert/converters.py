"""Chooses the converter of a request by the media type of its body."""

from typing import TYPE_CHECKING

from extproc.convert.converter import Converter, ServerProtocol
from extproc.convert.errors import ConversionError, quoted
from extproc.convert.inference import Query
from extproc.convert.limits import DEFAULT, ConversionLimits
from extproc.convert.signature import Signature
from sluice.contract.reasons import Reason
from sluice.media_types import (
    GRPC,
    IMAGES,
    JSON,
    MULTIPART,
    OCTET_STREAM,
    PROTOBUF,
    is_json,
    media_type_name,
)

if TYPE_CHECKING:
    from extproc.convert.request_readers import RequestReaders

_MIN_THREAD_SIZE = 16 << 10
"""Size in bytes from which a body without images is converted on a thread. For a smaller body,
passing it to a thread takes longer than converting it."""

_KINDS = {
    # tritonclient's HTTP client sends no content type.
    "": "untyped",
    JSON: "json",
    OCTET_STREAM: "octets",
    MULTIPART: "multipart",
    **dict.fromkeys(PROTOBUF, "protobuf"),
    **dict.fromkeys(IMAGES, "image"),
}


class Converters:
    """The converters of one model version. A converter is built on first use."""

    __slots__ = ("_built", "_limits", "_protocol", "_queries", "_readers", "_signature")

    def __init__(
        self, signature: Signature, protocol: ServerProtocol, limits: ConversionLimits = DEFAULT
    ) -> None:
        self._signature = signature
        self._protocol: ServerProtocol = protocol
        self._limits = limits
        self._built: dict[str, Converter] = {}
        self._queries: dict[Query, Converter] = {}
        self._readers: RequestReaders | None = None

    def choose(self, content_type: str | None) -> Converter | None:
        """The converter for a Content-Type; None if the body is forwarded unchanged.

        Raises ConversionError (415) for a type that cannot be converted for a gRPC model server.
        """
        media_type = media_type_name(content_type or "")
        if is_json(media_type):
            media_type = JSON
        converter = self._built.get(media_type)
        if converter is not None:
            return converter
        kind = self._kind(media_type)
        if kind is None:
            return None
        converter = self._build(media_type, kind)
        # `_built` is bounded: only the media types of `_KINDS` have a converter.
        self._built[media_type] = converter
        return converter

    def query(self, query: Query) -> Converter:
        """The converter of a request for the readiness or the metadata of the model."""
        converter = self._queries.get(query)
        if converter is None:
            from extproc.convert.model_query import query_converter

            converter = self._queries[query] = query_converter(query, self._signature, self._limits)
        return converter

    def _kind(self, media_type: str) -> str | None:
        """The kind of body, which begins the converter's name; None if it is not converted."""
        if media_type == GRPC:
            return None
        if self._protocol == "http" and not self._signature.inputs:
            return None
        kind = _KINDS.get(media_type)
        if kind in ("image", "multipart") and not self._signature.image_inputs:
            kind = None
        if kind is None and self._protocol == "grpc":
            raise ConversionError(
                Reason.UNSUPPORTED_MEDIA_TYPE,
                "content-type",
                f"{quoted(media_type)} is not accepted by this model",
            )
        return kind

    def _build(self, media_type: str, kind: str) -> Converter:
        if self._readers is None:
            from extproc.convert.request_readers import RequestReaders

            self._readers = RequestReaders(self._signature, self._limits)
        return Converter(
            f"{kind}-{self._protocol}",
            self._protocol,
            self._signature,
            self._limits,
            _MIN_THREAD_SIZE,
            self._readers.reader(kind, media_type),
            releases_lock=kind in ("image", "multipart"),
        )
