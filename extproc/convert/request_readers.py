"""Reads request bodies: one function for each kind of body."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from extproc.convert import binary, protobuf
from extproc.convert.errors import ConversionError, quoted
from extproc.convert.inference import Headers, InferenceRequest, RequestReader
from extproc.convert.json_document import may_contain_base64, parse_object
from extproc.convert.json_request import JsonRequestReader
from extproc.convert.limits import ConversionLimits
from extproc.convert.media_types import (
    HEADER_LENGTH,
    IMAGES,
    MULTIPART,
    OCTET_STREAM,
    MediaType,
    parse_media_type,
)
from extproc.convert.multipart import Part, parse_parts
from extproc.convert.signature import Signature
from extproc.convert.tensor import Tensor
from sluice.config.tensors import TensorInput
from sluice.contract.reasons import Reason

if TYPE_CHECKING:
    from extproc.convert.image_tensor import ImageReader

_PART_TYPES = frozenset((*IMAGES, "", OCTET_STREAM, "image/*"))
"""Media types that a part may have. For types other than `IMAGES`, the first bytes of the image
determine its type."""


class RequestReaders:
    """Reads the bodies of requests for one model version."""

    def __init__(self, signature: Signature, limits: ConversionLimits) -> None:
        self._signature = signature
        self._limits = limits
        self._images = _image_readers(signature, limits)
        self._json_reader = JsonRequestReader(signature, limits, self._image_batch)

    def reader(self, kind: str, media_type: str) -> RequestReader:
        """The function that reads this kind of body."""
        if kind == "image":
            return lambda body, headers: self._image(body, media_type)
        readers: Mapping[str, RequestReader] = {
            "untyped": self._untyped,
            "json": self._json,
            "octets": self._octets,
            "multipart": self._multipart,
            "protobuf": self._protobuf,
        }
        return readers[kind]

    def image_memory(self, body: bytes, headers: Headers) -> int:
        """Bytes that decoding the images of a body needs at most, with the tensors.

        For JSON, which is not parsed for this, it is the limit for any image. A body that would be
        refused counts as 0.
        """
        if not self._images:
            return 0
        media = parse_media_type(headers.get("content-type", ""))
        if media.name in IMAGES:
            return max((r.memory_needed([body]) for r in self._images.values()), default=0)
        if media.name != MULTIPART:
            encoded = may_contain_base64(body)
            return max((r.max_memory_needed for r in self._images.values() if encoded), default=0)
        try:
            parts = [(self._input_of(p).name, p.data) for p in self._parts(body, media)]
        except ConversionError:
            return 0
        return sum(
            reader.memory_needed([data for part, data in parts if part == name])
            for name, reader in self._images.items()
        )

    def _json(self, body: bytes, headers: Headers) -> InferenceRequest:
        if HEADER_LENGTH in headers:
            return self._octets(body, headers)
        return self._json_reader.read(parse_object(body))

    def _octets(self, body: bytes, headers: Headers) -> InferenceRequest:
        length = headers.get(HEADER_LENGTH)
        if length is None:
            return binary.read_raw(body, self._signature)
        return binary.read_extended(body, length, self._limits)

    def _untyped(self, body: bytes, headers: Headers) -> InferenceRequest:
        if HEADER_LENGTH in headers or body.lstrip(b" \t\r\n")[:1] == b"{":
            return self._json(body, headers)
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

    def _image(self, body: bytes, media_type: str) -> InferenceRequest:
        from extproc.convert.image_checks import check_type

        check_type(body, media_type, "body")
        inputs = self._signature.image_inputs
        if len(inputs) > 1:
            raise ConversionError(
                Reason.MULTIPART_REQUIRED,
                "body",
                f"must be multipart/form-data with parts named {_names(inputs)}",
            )
        return InferenceRequest([self._image_batch(inputs[0], [body], ["body"])])

    def _multipart(self, body: bytes, headers: Headers) -> InferenceRequest:
        media = parse_media_type(headers.get("content-type", ""))
        batches: dict[str, list[Part]] = {}
        for part in self._parts(body, media):
            batches.setdefault(self._input_of(part).name, []).append(part)
        return InferenceRequest([self._batch(name, parts) for name, parts in batches.items()])

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
        inputs = self._signature.image_inputs
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

    def _batch(self, name: str, parts: Sequence[Part]) -> Tensor:
        declared = self._signature.input(name)
        assert declared is not None
        return self._image_batch(declared, [p.data for p in parts], [p.field for p in parts])

    def _image_batch(
        self, declared: TensorInput, images: Sequence[bytes], fields: Sequence[str]
    ) -> Tensor:
        return self._images[declared.name].tensor(images, fields)


def _names(inputs: Sequence[TensorInput]) -> str:
    return ", ".join(declared.name for declared in inputs)


def _image_readers(signature: Signature, limits: ConversionLimits) -> "Mapping[str, ImageReader]":
    if not signature.image_inputs:
        return {}
    from extproc.convert.image_tensor import ImageReader

    return {i.name: ImageReader(i, limits) for i in signature.image_inputs}
