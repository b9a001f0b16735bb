"""Reads request bodies: one function for each kind of body."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from extproc.convert import binary, protobuf
from extproc.convert.converted_message import ShortWork
from extproc.convert.errors import ConversionError, quoted
from extproc.convert.inference import Headers, InferenceRequest, Reading, RequestReader
from extproc.convert.json_document import parse_object, without_bom
from extproc.convert.json_request import JsonRequestReader
from extproc.convert.limits import ConversionLimits
from extproc.convert.multipart import Part, parse_parts
from extproc.convert.signature import Signature
from sluice.config.tensors import TensorInput
from sluice.contract.reasons import Reason
from sluice.media_types import (
    HEADER_LENGTH,
    IMAGES,
    OCTET_STREAM,
    MediaType,
    parse_media_type,
)

if TYPE_CHECKING:
    from extproc.convert.image_tensor import ImageReader, PreparedImages

_PART_TYPES = frozenset((*IMAGES, "", OCTET_STREAM, "image/*"))
"""Media types that a part may have. For types other than `IMAGES`, the first bytes of the image
determine its type."""


class RequestReaders:
    """Reads the bodies of requests for one model version."""

    def __init__(self, signature: Signature, limits: ConversionLimits) -> None:
        self._signature = signature
        self._limits = limits
        self._image_inputs = signature.image_inputs
        self._images = _image_readers(signature, limits)
        self._json_reader = JsonRequestReader(signature, limits, self._images)

    def reader(self, kind: str, media_type: str) -> RequestReader:
        """The function that reads this kind of body."""
        if kind == "image":
            return lambda body, headers: self._image(body, media_type)
        readers: Mapping[str, RequestReader] = {
            "untyped": self._untyped,
            "json": self._json,
            "octets": _without_images(self._octets),
            "multipart": self._multipart,
            "protobuf": _without_images(self._protobuf),
        }
        return readers[kind]

    def _json(self, body: bytes, headers: Headers) -> Reading:
        if HEADER_LENGTH in headers:
            return self._octets(body, headers)
        return (yield from self._json_reader.read(parse_object(body)))

    def _octets(self, body: bytes, headers: Headers) -> InferenceRequest:
        length = headers.get(HEADER_LENGTH)
        if length is None:
            return binary.read_raw(body, self._signature)
        return binary.read_extended(body, length, self._limits)

    def _untyped(self, body: bytes, headers: Headers) -> Reading:
        if HEADER_LENGTH in headers or without_bom(body).lstrip(b" \t\r\n")[:1] == b"{":
            return (yield from self._json(body, headers))
        raise ConversionError(
            Reason.NO_CONTENT_TYPE, "content-type", "must be set unless the body is JSON"
        )

    def _protobuf(self, body: bytes, headers: Headers) -> InferenceRequest:
        parameters = parse_media_type(headers.get("content-type", "")).parameters
        name = parameters.get("messagetype", parameters.get("proto"))
        if name is not None and name not in protobuf.MESSAGE_TYPES:
            raise ConversionError(
                Reason.UNKNOWN_MESSAGE,
                "content-type",
                f"the message {quoted(name)} is not accepted",
            )
        message_type = protobuf.MESSAGE_TYPES[name] if name is not None else None
        return protobuf.read_request(body, self._signature, self._limits, message_type)

    def _image(self, body: bytes, media_type: str) -> Reading:
        from extproc.convert.image_checks import check_type

        check_type(body, media_type, "body")
        inputs = self._image_inputs
        if len(inputs) > 1:
            raise ConversionError(
                Reason.MULTIPART_REQUIRED,
                "body",
                f"must be multipart/form-data with parts named {_names(inputs)}",
            )
        images = self._images[inputs[0].name].prepare([body], ["body"])
        yield ShortWork(images.memory) if images.short else images.memory
        return InferenceRequest([images.tensor()])

    def _multipart(self, body: bytes, headers: Headers) -> Reading:
        media = parse_media_type(headers.get("content-type", ""))
        batches: dict[str, list[Part]] = {}
        for part in self._parts(body, media):
            batches.setdefault(self._input_of(part).name, []).append(part)
        images = [self._batch(name, parts) for name, parts in batches.items()]
        yield sum(batch.memory for batch in images)
        return InferenceRequest([batch.tensor() for batch in images])

    def _parts(self, body: bytes, media: MediaType) -> Iterator[Part]:
        """The parts of a form, which are images."""
        from extproc.convert.image_checks import check_type

        for part in parse_parts(body, media, self._limits):
            if part.media_type not in _PART_TYPES:
                raise ConversionError(
                    Reason.UNSUPPORTED_MEDIA_TYPE,
                    part.field,
                    f"must be an image, not {quoted(part.media_type)}",
                )
            check_type(part.data, part.media_type, part.field)
            yield part

    def _input_of(self, part: Part) -> TensorInput:
        inputs = self._image_inputs
        named = next((declared for declared in inputs if declared.name == part.name), None)
        if named is not None:
            return named
        if len(inputs) == 1:
            # With a single image input, a part may have any name.
            return inputs[0]
        raise ConversionError(
            Reason.UNKNOWN_INPUT,
            part.field,
            f"is not an image input of the model: {_names(inputs)}",
        )

    def _batch(self, name: str, parts: Sequence[Part]) -> "PreparedImages":
        return self._images[name].prepare([p.data for p in parts], [p.field for p in parts])


def _without_images(read: Callable[[bytes, Headers], InferenceRequest]) -> RequestReader:
    def reading(body: bytes, headers: Headers) -> Reading:
        yield 0
        return read(body, headers)

    return reading


def _names(inputs: Sequence[TensorInput]) -> str:
    return ", ".join(declared.name for declared in inputs)


def _image_readers(signature: Signature, limits: ConversionLimits) -> "Mapping[str, ImageReader]":
    if not signature.image_inputs:
        return {}
    from extproc.convert.image_tensor import ImageReader

    return {i.name: ImageReader(i, limits) for i in signature.image_inputs}
