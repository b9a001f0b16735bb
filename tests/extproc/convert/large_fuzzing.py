"""Bodies of up to 10 MiB with the default limits, each of which repeats a part of a valid body.

Small mutated bodies (`fuzzing.py`) find exceptions. Large ones find work that grows faster than the
body, and memory that the limits do not bound. The number of a body determines it.
"""

import gzip
import io
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random

import numpy as np
import simplejpeg
from PIL import Image

from extproc.convert import ConversionError, Converters, Signature
from extproc.convert.inference import ResponseOptions
from protos import inference_pb2 as v2
from sluice.config.tensors import TensorOutput
from tests.extproc.convert.payloads import form, tensor_input
from tests.sluice.images.pictures import image_input

MAX_BODY = 10 << 20

_Body = tuple[str, bytes]
"""A media type and a body."""

_UNITS = (
    b"0", b"-1.5", b"0.123456789", b"1e300", b"true", b"null", b'""', b'"x"', b'"\xc3\xa9"',
    b'"\\u00e9\\ud83d\\ude00"', b"[]", b"[[]]", b"[0]", b"{}", b'{"a":0}', b'{"b64":""}',
    b'{"name":"x","datatype":"FP32","shape":[1],"data":[1]}',
    b'{"x":[1,2]}',
)  # fmt: skip
"""JSON values that a body repeats in an array."""

_PLACES = (
    b'{"inputs":[{"name":"x","datatype":"%(type)s","shape":[%(n)d],"data":[%(many)s]}]}',
    b'{"inputs":[{"name":"x","datatype":"%(type)s","shape":[%(many)s],"data":[1]}]}',
    b'{"inputs":[%(many)s]}',
    b'{"inputs":[],"outputs":[%(many)s]}',
    b'{"instances":[%(many)s]}',
    b'{"x":[%(many)s]}',
    b'{"id":[%(many)s],"inputs":[]}',
    b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1],"parameters":{%(members)s}}]}',
    b'{"parameters":{%(members)s},"inputs":[]}',
    b'{"instances":[{%(members)s}]}',
    b"{%(members)s}",
    b'{"inputs":%(nested)s}',
    b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":%(nested)s}]}',
)
"""JSON documents with the place of the repeated values."""


class Fuzzer:
    """Converts numbered bodies, and counts the results by status."""

    def __init__(self) -> None:
        warnings.simplefilter("ignore")
        self.statuses: Counter[int] = Counter()
        self._kinds: tuple[Callable[[Random], _Body], ...] = (
            _json, _json, _json, _json, _protobuf, _protobuf, _image, _image, _images, _compressed,
        )  # fmt: skip

    def check(self, number: int) -> None:
        """Convert a body, or a response of the model server. Raises any unexpected exception."""
        self.work(number)()

    def work(self, number: int) -> Callable[[], None]:
        """The check of this body, without the making of the body."""
        source = Random(number)
        convert = _response(source) if source.random() < 0.1 else self._request(source)
        return lambda: self._count(convert)

    def _count(self, convert: Callable[[], object]) -> None:
        try:
            convert()
        except ConversionError as error:
            self._check_refusal(error)
        else:
            self.statuses[200] += 1

    def _check_refusal(self, refusal: ConversionError) -> None:
        assert len(refusal.problem()) < 1000
        self.statuses[refusal.status] += 1

    def _request(self, source: Random) -> Callable[[], object]:
        media, body = source.choice(self._kinds)(source)
        headers = {"content-type": media}
        if media == "gzip":
            headers = {"content-type": "application/json", "content-encoding": "gzip"}
        converters = Converters(source.choice(_SIGNATURES), source.choice(("grpc", "http")))
        body = body[:MAX_BODY]

        def convert() -> None:
            # The choice may refuse the media type.
            converter = converters.choose(headers["content-type"])
            if converter is not None:
                converter.convert_request(body, headers)

        return convert


_SIGNATURES = (
    Signature("m", "1"),
    Signature("m", "1", (tensor_input("x", "FP32", -1), tensor_input("t", "BYTES", -1))),
    Signature("m", "1", (image_input("UINT8", "x", width=224, height=224),)),
    Signature("m", "1", (image_input("FP32", "x", width=224, height=224, resize="pad"),)),
)


def _json(source: Random) -> _Body:
    unit = source.choice(_UNITS)
    size = int(2 ** source.uniform(10, 23.4))
    count = max(1, size // (len(unit) + 1))
    names = (b'"%x":' % i + unit for i in range(max(1, size // (len(unit) + 9))))
    depth = source.choice((5, 15, 17, 200, 1000, 100_000))
    place = source.choice(_PLACES)
    fields = {
        b"type": source.choice((b"FP32", b"INT64", b"BYTES", b"BOOL", b"BF16", b"FP64")),
        b"n": count,
        b"many": b",".join([unit] * count) if b"(many)" in place else b"",
        b"members": b",".join(names) if b"(members)" in place else b"",
        b"nested": b"[" * depth + b"]" * depth,
    }
    return "application/json", place % fields


def _protobuf(source: Random) -> _Body:
    count = int(2 ** source.uniform(4, 21))
    pieces = (
        b"\x2a\x00", b"\x2a\x02\x0a\x00", b"\x22\x00", b"\x22\x04\x0a\x00\x12\x00", b"\x32\x00",
        b"\x3a\x00", b"\x2a\x02\x2a\x00", b"\x98\x06\x01", b"\x2a\x03\x1a\x01\x01",
    )  # fmt: skip
    message = v2.ModelInferRequest()
    entry = message.inputs.add(name="x", shape=[count])
    field, entry.datatype, value = source.choice(
        (
            ("bool_contents", "BOOL", True),
            ("int_contents", "INT8", -1),
            ("uint_contents", "UINT8", 255),
            ("int64_contents", "INT64", 1),
            ("fp32_contents", "FP32", 1.5),
            ("bytes_contents", "BYTES", b""),
            ("shape", "FP32", 1),
        )
    )
    getattr(entry if field == "shape" else entry.contents, field).extend([value] * count)
    repeated = source.choice(pieces) * count
    return "application/x-protobuf", source.choice((message.SerializeToString(), repeated))


def _image(source: Random) -> _Body:
    kind = source.choice((_png, _png, _jpeg, _webp))
    return kind(source)


def _images(source: Random) -> _Body:
    media, content = _image(source)
    count = min(300, max(1, MAX_BODY // (len(content) + 100)))
    return form(*[("x", media, content)] * count)


def _size(source: Random) -> tuple[int, int]:
    """Width and height: up to 36 million pixels, of which 25 million are allowed."""
    pixels = int(2 ** source.uniform(6, 25.1))
    width = max(1, min(16_000, int(pixels ** source.uniform(0, 1))))
    return width, max(1, min(16_000, pixels // width))


def _png(source: Random) -> _Body:
    width, height = _size(source)
    bits, color = source.choice(
        ((1, 0), (8, 0), (16, 0), (8, 2), (16, 2), (8, 3), (1, 3), (8, 4), (16, 4), (8, 6), (16, 6))
    )
    row = 1 + (width * bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color] + 7) // 8
    interlace = source.randrange(2)
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlace)
    chunks = [(b"IHDR", header)]
    if source.random() < 0.1:
        lie = struct.pack(">II", source.choice((1, width)), source.choice((1, 60_000))) + header[8:]
        chunks.insert(source.randrange(2), (b"IHDR", lie))
    if color == 3:
        chunks.append((b"PLTE", bytes(768)))
    if color in (0, 2, 3) and source.random() < 0.5:
        chunks.append((b"tRNS", bytes({0: 2, 2: 6, 3: 256}[color])))
    if source.random() < 0.2:
        name = source.choice((b"tEXt", b"zTXt", b"iCCP", b"eXIf", b"zzzz", b"IDAT"))
        part = source.choice((b"", b"a\0\0" + zlib.compress(bytes(1 << 20), 1)))
        chunks += [(name, part)] * source.choice((1, 100, 20_000))
    pixels = zlib.compress(bytes(min(row * height + 16 * height, 200 << 20)), 1)
    chunks += [(b"IDAT", pixels), (b"IEND", b"")]
    return "image/png", b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    length = struct.pack(">I", len(content))
    return length + name + content + struct.pack(">I", zlib.crc32(name + content))


def _jpeg(source: Random) -> _Body:
    width, height = _size(source)
    if source.random() < 0.3:
        buffer = io.BytesIO()
        image = Image.new(source.choice(("RGB", "L", "CMYK")), (width, height))
        image.save(buffer, "JPEG", progressive=source.random() < 0.7, quality=10)
        content = buffer.getvalue()
    else:
        pixels = np.zeros((height, width, 3), np.uint8)
        content = simplejpeg.encode_jpeg(pixels, quality=10, colorsubsampling="420")
    segments = b"\xff\xe1\x00\x02", b"\xff\xfe\x00\x02"
    filler = source.choice((b"", b"", b"\xff", b"\xff\xd8", *segments))
    filler *= source.choice((1, 1000, MAX_BODY // 4 - len(content) // 4))
    return "image/jpeg", content[:2] + filler + content[2:]


def _webp(source: Random) -> _Body:
    width, height = _size(source)
    buffer = io.BytesIO()
    mode = source.choice(("RGB", "RGBA"))
    image = Image.new(mode, (width, height), (1, 2, 3, 4)[: len(mode)])
    frames = [image] * source.choice((0, 0, 3))
    image.save(
        buffer, "WEBP", method=0, lossless=source.random() < 0.5, quality=0,
        save_all=bool(frames), append_images=frames,
    )  # fmt: skip
    return "image/webp", buffer.getvalue()


def _compressed(source: Random) -> _Body:
    _, body = _json(source)
    return "gzip", gzip.compress(body * source.choice((1, 1, 100)), 1)


def _response(source: Random) -> Callable[[], object]:
    labels = (TensorOutput(name="y", labels=("a", "b", "c"), top_k=2),)
    signature = Signature("m", "1", (tensor_input("x", "FP32", -1),), labels)
    count = int(2 ** source.uniform(1, 20))
    message = v2.ModelInferResponse(model_name="m")
    datatype, size = source.choice((("FP32", 4), ("INT8", 1), ("FP64", 8), ("BOOL", 1)))
    message.outputs.add(name="y", datatype=datatype, shape=source.choice(([count], [count, 1])))
    message.raw_output_contents.append(source.choice((b"\0", b"\1")) * size * count)
    bodies: Mapping[str, tuple[bytes, dict[str, str]]] = {
        "grpc": (message.SerializeToString(), {"grpc-status": "0"}),
        "http": (
            b'{"outputs":[{"name":"y","datatype":"FP32","shape":[%d],"data":[%s]}]}'
            % (count, b",".join([b"0.25"] * count)),
            {"content-type": "application/json"},
        ),
    }
    protocol = source.choice(("grpc", "http"))
    converter = Converters(signature, protocol).choose("application/json")  # type: ignore[arg-type]
    assert converter is not None
    body, headers = bodies[protocol]
    options = ResponseOptions(form=source.choice(("v1", "v2")))
    return lambda: converter.convert_response(options, 200, headers, body)
