"""Mutates bodies for every converter, and checks the result.

The number of an input determines it, so that a failure can be reproduced.
"""

import gzip
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import brotli
import numpy as np
import orjson

from extproc.convert import (
    ConversionError,
    ConversionLimits,
    ConvertedMessage,
    Converters,
    Signature,
)
from extproc.convert.inference import ResponseOptions
from protos import inference_pb2 as v2
from protos import tensor_pb2
from sluice.config.tensors import TensorOutput
from tests.extproc.convert.payloads import form, tensor_input
from tests.mutation import mutated
from tests.sluice.images.pictures import encoded, exif, gradient_image, image_input
from tests.zstd import zstd

LIMITS = ConversionLimits(
    max_body=1 << 20,
    max_json_memory=32 << 20,
    max_tensor_bytes=1 << 20,
    max_jpeg_scan_pixels=20_000_000,
)
LARGEST = LIMITS.max_tensor_bytes * 16
"""Bytes of a converted body. JSON is largest: `-123.456789012345678,` for 4 or 8 bytes."""

STATUSES = frozenset((400, 413, 415, 422, 502))
_PNG = b"\x89PNG\r\n\x1a\n"


class Convert(Protocol):
    """A converter's request or response."""

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> ConvertedMessage | None: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A valid body and its converter."""

    convert: Convert
    body: bytes
    headers: Mapping[str, str]


@dataclass(slots=True)
class Tally:
    """Numbers of accepted and refused inputs."""

    accepted: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)


class Fuzzer:
    """Checks numbered inputs of one or all families, and counts the results."""

    def __init__(self, *families: str) -> None:
        self.families = [list(_FAMILIES[name]()) for name in families or _FAMILIES]
        self.corpus = [sample for family in self.families for sample in family]
        self._bodies = [sample.body for sample in self.corpus]
        self.tally = Tally()

    def check(self, number: int) -> None:
        """Convert an input. Raises AssertionError unless it becomes a valid body or a refusal."""
        source = random.Random(number)
        sample = source.choice(source.choice(self.families))
        body, headers = self._mutated(sample.body, source), self._headers(sample.headers, source)
        try:
            converted = sample.convert(body, headers)
        except ConversionError as refused:
            self._check_refusal(refused)
            return
        self.tally.accepted += 1
        if converted is not None:
            _check_body(converted)

    def _check_refusal(self, refused: ConversionError) -> None:
        assert refused.status in STATUSES, refused
        assert refused.field, refused
        assert orjson.loads(refused.problem())["status"] == refused.status
        self.tally.refused[refused.status] += 1
        self.tally.reasons[refused.reason.value] += 1

    def _mutated(self, body: bytes, source: random.Random) -> bytes:
        damaged = mutated(body, source, self._bodies)
        if damaged.startswith(_PNG) and source.random() < 0.7:
            # Otherwise the decoder stops at the checksum, and does not reach the mutation.
            _repair_checksums(damaged)
        return bytes(damaged)

    def _headers(self, headers: Mapping[str, str], source: random.Random) -> dict[str, str]:
        changed = dict(headers)
        if source.random() < 0.05:
            name = source.choice(list(changed))
            changed[name] = self._mutated(changed[name].encode(), source).decode("latin-1")
        if source.random() < 0.02:
            codings = ("gzip", "deflate", "br", "gzip, br", "zstd", "compress")
            changed["content-encoding"] = source.choice(codings)
        return changed


def _repair_checksums(png: bytearray) -> None:
    position = len(_PNG)
    while position + 12 <= len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(png):
            return
        png[end : end + 4] = zlib.crc32(png[position + 4 : end]).to_bytes(4, "big")
        position = end + 4


def _check_body(converted: ConvertedMessage) -> None:
    """A converted body is well-formed, and not too large."""
    assert len(converted.body) <= LARGEST
    if converted.headers.get(":path", "").endswith("/ModelInfer"):
        request = v2.ModelInferRequest.FromString(converted.body)
        assert (request.model_name, request.model_version) == ("m", "1")
        assert len(request.raw_input_contents) == len(request.inputs) > 0
    elif converted.content_type == "application/json":
        assert isinstance(orjson.loads(converted.body), dict)


def _request_samples(
    signature: Signature, media: str, *bodies: bytes, **headers: str
) -> Iterator[Sample]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    for protocol in ("grpc", "http") if signature.inputs else ("grpc",):
        converter = Converters(signature, protocol, LIMITS).choose(media)
        assert converter is not None
        for body in bodies:
            yield Sample(
                converter.convert_request, body, {"content-type": media, "accept": "*/*", **given}
            )


def _model(*inputs: object, outputs: tuple[TensorOutput, ...] = ()) -> Signature:
    return Signature("m", "1", inputs, outputs)  # type: ignore[arg-type]


def _images() -> Iterator[Sample]:
    small = gradient_image(40, 24)
    jpegs = [encoded(small, "JPEG", exif=exif(n), quality=60) for n in (1, 6)]
    jpegs.append(encoded(small, "JPEG", progressive=True, quality=50))
    jpegs.append(encoded(gradient_image(40, 24, "CMYK"), "JPEG", quality=50))
    jpegs.append(encoded(gradient_image(40, 24, "L"), "JPEG", quality=50))
    pngs = [encoded(gradient_image(40, 24, mode), "PNG") for mode in ("RGB", "RGBA", "L", "1", "P")]
    pngs.append(encoded(gradient_image(40, 24, "I;16"), "PNG"))
    pngs.append(encoded(small, "PNG", exif=exif(8)))
    webps = [encoded(small, "WEBP"), encoded(small, "WEBP", lossless=False, quality=50)]
    webps.append(encoded(gradient_image(40, 24, "RGBA"), "WEBP", exif=exif(3)))
    settings: tuple[dict[str, object], ...] = (
        {},
        {"datatype": "FP32", "layout": "NCHW", "resize": "pad", "scale": 1 / 255, "mean": (0.5,)},
        {"datatype": "FP16", "resize": "crop", "color": "GRAY", "std": (2.0,)},
    )
    for setting in settings:
        signature = _model(image_input(max_pixels=100_000, **setting))  # type: ignore[arg-type]
        yield from _request_samples(signature, "image/jpeg", *jpegs)
        yield from _request_samples(signature, "image/png", *pngs)
        yield from _request_samples(signature, "image/webp", *webps)
    media, body = form(("image", "image/jpeg", jpegs[0]), ("image", "image/png", pngs[0]))
    yield from _request_samples(_model(image_input(max_pixels=100_000)), media, body)


def _tensors() -> Iterator[Sample]:
    anything = _model()
    datatypes = ("BOOL", "UINT8", "INT16", "UINT64", "FP16", "BF16", "FP32", "FP64", "BYTES")
    for datatype in datatypes:
        values = {"BOOL": [True, False], "BYTES": ["é", ""]}.get(datatype, [1, 2])
        tensor = {"name": "x", "datatype": datatype, "shape": [1, 2], "data": [values]}
        yield from _request_samples(
            anything,
            "application/json",
            orjson.dumps({"id": "i", "inputs": [tensor], "parameters": {"p": 1.5}}),
        )
    declared = _model(tensor_input("x", "FP32", -1, 2), tensor_input("t", "BYTES", -1))
    yield from _request_samples(
        declared,
        "application/json",
        b'{"instances": [{"x": [1, 2.5], "t": "a"}, {"x": [3, 4], "t": {"b64": "/w=="}}]}',
        b'{"x": [[1, 2]], "text": "hello"}',
        b'{"inputs": {"x": [1, 2, 3, 4], "t": ["a", "b"]}}',
    )
    head = orjson.dumps(
        {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [1, 2],
                 "parameters": {"binary_data_size": 8}},
                {"name": "t", "datatype": "BYTES", "shape": [1],
                 "parameters": {"binary_data_size": 6}},
            ],
            "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        }
    )  # fmt: skip
    blobs = np.array([1, 2], "<f4").tobytes() + b"\x02\x00\x00\x00hi"
    for media in ("application/octet-stream", ""):
        yield from _request_samples(
            declared, media, head + blobs, inference_header_content_length=str(len(head))
        )
    single = _model(tensor_input("x", "INT32", -1, 4))
    yield from _request_samples(single, "application/octet-stream", bytes(range(32)))
    message = v2.ModelInferRequest(model_name="other", raw_input_contents=[bytes(16)])
    message.inputs.add(name="x", datatype="INT32", shape=[1, 4])
    typed = v2.ModelInferRequest(id="i")
    typed.inputs.add(name="x", datatype="INT32", shape=[1, 4]).contents.int_contents.extend(
        (1, 2, 3, -4)
    )
    single_tensor = tensor_pb2.TensorRequest(
        data=bytes(16), shape=[1, 4], datatype="INT32", name="x"
    )
    yield from _request_samples(
        single,
        "application/x-protobuf",
        *(m.SerializeToString() for m in (message, typed, single_tensor)),
    )


def _compressed() -> Iterator[Sample]:
    body = b'{"inputs": [{"name": "x", "datatype": "INT8", "shape": [400], "data": [%s]}]}' % (
        b",".join([b"1"] * 400)
    )
    codings = {
        "gzip": gzip.compress(body, mtime=0),
        "deflate": zlib.compress(body),
        "br": brotli.compress(body),
        "zstd": zstd.compress(body),
        "br, gzip": gzip.compress(brotli.compress(body), mtime=0),
    }
    for coding, packed in codings.items():
        yield from _request_samples(_model(), "application/json", packed, content_encoding=coding)


def _responses() -> Iterator[Sample]:
    labeled = (TensorOutput(name="y", labels=("a", "b", "c"), top_k=2),)
    signature = _model(tensor_input("x", "FP32", -1), outputs=labeled)
    message = v2.ModelInferResponse(model_name="m", model_version="1", id="i")
    message.parameters["p"].int64_param = 3
    message.outputs.add(name="y", datatype="FP32", shape=[1, 3])
    message.raw_output_contents.append(np.array([0.25, np.nan, 7], "<f4").tobytes())
    message.outputs.add(name="t", datatype="BYTES", shape=[1])
    message.raw_output_contents.append(b"\x02\x00\x00\x00\xff\xfe")
    rest = (
        b'{"model_name": "m", "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3],'
        b' "data": [0.25, 1e-3, 7]}, {"name": "t", "datatype": "BYTES", "shape": [1],'
        b' "data": ["a"]}]}'
    )
    all_options = (
        ResponseOptions(),
        ResponseOptions(form="v1"),
        ResponseOptions(encoding="protobuf"),
        ResponseOptions(encoding="binary"),
        ResponseOptions(binary=frozenset(("y",))),
    )
    for options in all_options:
        yield _response_sample(
            signature, "grpc", options, message.SerializeToString(), {"grpc-status": "0"}
        )
        yield _response_sample(
            signature, "http", options, rest, {"content-type": "application/json"}
        )
    failure = {"grpc-status": "3", "grpc-message": "bad%20%C3%A9"}
    yield _response_sample(signature, "grpc", ResponseOptions(), b"", failure)


def _response_sample(
    signature: Signature,
    protocol: str,
    options: ResponseOptions,
    body: bytes,
    headers: Mapping[str, str],
) -> Sample:
    converter = Converters(signature, protocol, LIMITS).choose("application/json")  # type: ignore[arg-type]
    assert converter is not None

    def convert(body: bytes, headers: Mapping[str, str]) -> ConvertedMessage | None:
        return converter.convert_response(options, 200, headers, body)

    return Sample(convert, body, headers)


_FAMILIES: Mapping[str, Callable[[], Iterator[Sample]]] = {
    "images": _images,
    "tensors": _tensors,
    "compressed": _compressed,
    "responses": _responses,
}
