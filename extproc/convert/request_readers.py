"""One function for each kind of request body: from bytes to tensors."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from extproc.convert import binary, json_request, protobuf
from extproc.convert.converter import Headers, RequestReader
from extproc.convert.errors import ConversionError
from extproc.convert.limits import ConversionLimits
from extproc.convert.media_types import BINARY_HEADER, IMAGES, parse_media_type
from extproc.convert.multipart import Part, parts
from extproc.convert.signature import Signature
from extproc.convert.tensor import InferenceRequest, Tensor
from sluice.config.tensors import TensorInput
from sluice.contract.reasons import Reason

if TYPE_CHECKING:
    from extproc.convert.image_tensor import ImageReader


class RequestReaders:
    """Reads bodies for one model version."""

    def __init__(self, signature: Signature, limits: ConversionLimits) -> None:
        self._signature = signature
        self._limits = limits
        self._readers = _image_readers(signature, limits)

    def of(self, kind: str, media: str) -> RequestReader:
        """What reads a kind of body; `media` is its media type."""
        if kind == "image":
            return lambda body, headers: self._image(body, media)
        sources: Mapping[str, RequestReader] = {
            "untyped": self._untyped,
            "json": self._json,
            "octets": self._octets,
            "multipart": self._multipart,
            "protobuf": self._protobuf,
        }
        return sources[kind]

    def _json(self, body: bytes, headers: Headers) -> InferenceRequest:
        if BINARY_HEADER in headers:
            return self._octets(body, headers)
        document = json_request.parse(body, self._limits)
        return json_request.read(document, self._signature, self._limits, self._pictures)

    def _octets(self, body: bytes, headers: Headers) -> InferenceRequest:
        length = headers.get(BINARY_HEADER)
        if length is None:
            return binary.read_raw(body, self._signature)
        return binary.read_extended(body, length, self._limits)

    def _untyped(self, body: bytes, headers: Headers) -> InferenceRequest:
        if BINARY_HEADER in headers or body.lstrip(b" \t\r\n")[:1] == b"{":
            return self._json(body, headers)
        raise ConversionError(
            Reason.NO_CONTENT_TYPE, "content-type", "is missing, and the body is no JSON"
        )

    def _protobuf(self, body: bytes, headers: Headers) -> InferenceRequest:
        parameters = parse_media_type(headers.get("content-type", "")).parameters
        named = parameters.get("messagetype", parameters.get("proto"))
        if named is not None and named not in protobuf.MESSAGES:
            raise ConversionError(
                Reason.UNKNOWN_MESSAGE, "content-type", f"{named[:80]!r} is no message taken here"
            )
        message = protobuf.MESSAGES[named] if named is not None else None
        return protobuf.read_request(body, self._signature, self._limits, message)

    def _image(self, body: bytes, media: str) -> InferenceRequest:
        from extproc.convert.image_tensor import check_type

        check_type(body, media, "body")
        images = self._signature.image_inputs
        if len(images) > 1:
            names = ", ".join(declared.name for declared in images)
            raise ConversionError(
                Reason.MULTIPART_REQUIRED,
                "body",
                f"send multipart/form-data with parts named {names}",
            )
        return InferenceRequest([self._pictures(images[0], [body], ["body"])])

    def _multipart(self, body: bytes, headers: Headers) -> InferenceRequest:
        from extproc.convert.image_tensor import check_type

        media = parse_media_type(headers.get("content-type", ""))
        found: dict[str, list[Part]] = {}
        for part in parts(body, media, self._limits):
            if part.media_type not in (*IMAGES, "", "application/octet-stream", "image/*"):
                raise ConversionError(
                    Reason.UNSUPPORTED_MEDIA_TYPE,
                    part.field,
                    f"{part.media_type[:80]!r} is no picture",
                )
            check_type(part.data, part.media_type, part.field)
            found.setdefault(self._input_of(part).name, []).append(part)
        return InferenceRequest([self._batch(name, batch) for name, batch in found.items()])

    def _input_of(self, part: Part) -> TensorInput:
        images = self._signature.image_inputs
        named = next((declared for declared in images if declared.name == part.name), None)
        if named is not None:
            return named
        if len(images) == 1:
            # A form's field is called what its author liked.
            return images[0]
        names = ", ".join(declared.name for declared in images)
        raise ConversionError(
            Reason.UNKNOWN_INPUT, part.field, f"is none of the model's pictures: {names}"
        )

    def _batch(self, name: str, batch: Sequence[Part]) -> Tensor:
        declared = self._signature.input(name)
        assert declared is not None
        return self._pictures(declared, [p.data for p in batch], [p.field for p in batch])

    def _pictures(
        self, declared: TensorInput, pictures: Sequence[bytes], places: Sequence[str]
    ) -> Tensor:
        return self._readers[declared.name].tensor(pictures, places)


def _image_readers(signature: Signature, limits: ConversionLimits) -> "Mapping[str, ImageReader]":
    if not signature.image_inputs:
        return {}
    from extproc.convert.image_tensor import ImageReader

    return {i.name: ImageReader(i, limits) for i in signature.image_inputs}
