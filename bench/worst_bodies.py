"""The most expensive bodies for each reader and writer of client data, within `max_body`.

`CASES` has a function for each body, by name. A body is built only when it is measured.
"""

import contextlib
import gzip
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import brotli
import numpy as np

from extproc.convert import ConversionError, Converters, ResponseOptions, Signature
from extproc.convert.limits import DEFAULT
from protos import inference_pb2 as v2
from protos import tensor_pb2
from sluice.config.tensors import TensorInput, TensorOutput
from sluice.contract.reasons import Reason

SIZE = DEFAULT.max_body
JSON, OCTETS, PROTOBUF = "application/json", "application/octet-stream", "application/x-protobuf"


@dataclass(slots=True)
class Case:
    """Repeatable work, and what it did last."""

    convert: Callable[[], object]
    size: int
    """Bytes of the body."""
    outcome: str = field(default="", init=False)

    def work(self) -> object:
        """Convert the body. A refusal includes the problem document."""
        try:
            result = self.convert()
        except ConversionError as error:
            document = error.problem()
            self.outcome = f"{error.reason} ({len(document)} bytes)"
            return document
        self.outcome = "accepted"
        return result


Build = Callable[[], Case]

CASES: dict[str, Build] = {}


def declared(name: str, datatype: str, *shape: int) -> TensorInput:
    """A declared input."""
    return TensorInput.model_validate({"name": name, "datatype": datatype, "shape": shape})


V2 = ResponseOptions()
ANYTHING = Signature("m")
NUMBERS = Signature("m", inputs=(declared("x", "FP32", -1),))
MATRIX = Signature("m", inputs=(declared("x", "FP32", -1, -1),))
TEXTS = Signature("m", inputs=(declared("x", "BYTES", -1),))


def request(
    body: bytes,
    media: str = JSON,
    signature: Signature = ANYTHING,
    headers: Mapping[str, str] | None = None,
    protocol: str = "grpc",
) -> Case:
    """The conversion of a request."""
    converter = Converters(signature, protocol).choose(media)  # type: ignore[arg-type]
    assert converter is not None
    given = {"content-type": media, **(headers or {})}
    # Modules are imported, and tables are built, before the measurement.
    with contextlib.suppress(ConversionError):
        converter.convert_request(b"{}", given)
    return Case(lambda: converter.convert_request(body, given), len(body))


def filled(begin: bytes, item: bytes, end: bytes, size: int = SIZE) -> bytes:
    """`begin`, as many items as fit, separated by commas, and `end`."""
    count = (size - len(begin) - len(end)) // (len(item) + 1)
    return begin + b",".join([item] * count) + end


def numbered(begin: bytes, item: bytes, end: bytes, size: int = SIZE) -> bytes:
    """Like `filled`, but the item is a format for its number."""
    room = size - len(begin) - len(end)
    count = room // (len(item % 9_999_999) + 1)
    while sum_of_sizes(item, count) > room:
        count -= count // 100 + 1
    return begin + b",".join([item % i for i in range(count)]) + end


def sum_of_sizes(item: bytes, count: int) -> int:
    """Bytes of `count` numbered items with their commas."""
    digits, low = 0, 0
    for width in range(1, 9):
        high = min(count, 10**width)
        digits += (high - low) * width
        low = high
    return count * (len(item % 0)) + digits


def v2_data(datatype: bytes, count: int) -> tuple[bytes, bytes]:
    """The text before and after the elements of a V2 request."""
    head = b'{"inputs":[{"name":"x","datatype":"%s","shape":[%d],"data":[' % (datatype, count)
    return head, b"]}]}"


def v2_elements(datatype: bytes, item: bytes, last: bytes | None = None) -> bytes:
    """A V2 request with as many elements as fit. `last` replaces the last element."""
    head, end = v2_data(datatype, 99_999_999)
    count = (SIZE - len(head) - len(end) - 100) // (len(item) + 1)
    head, end = v2_data(datatype, count)
    items = [item] * count
    if last is not None:
        items[-1] = last
    return head + b",".join(items) + end


def within_memory(body: Callable[[int], bytes], signature: Signature) -> bytes:
    """The largest body that is not refused for its memory, of the bodies for various counts."""
    converter = Converters(signature, "grpc").choose(JSON)
    assert converter is not None

    def fits(count: int) -> bool:
        text = body(count)
        try:
            converter.convert_request(text, {})
        except ConversionError as error:
            return error.reason not in (Reason.JSON_TOO_LARGE, Reason.BODY_TOO_LARGE)
        return True

    low, high = 1000, 5_000_000
    while high > low * 1.03:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return body(low)


def add_json_within_memory() -> None:
    """JSON: each kind of value, as often as the memory limit allows."""

    def build(
        name: str, item: bytes, signature: Signature = NUMBERS, begin: bytes = b'{"x":[',
        end: bytes = b"]}",
    ) -> None:  # fmt: skip
        def body(count: int) -> bytes:
            items = [item % i for i in range(count)] if b"%" in item else [item] * count
            return begin + b",".join(items) + end

        CASES[f"JSON up to the limit: {name}"] = lambda: request(
            within_memory(body, signature), JSON, signature
        )

    build("digits", b"7")
    build("integers", b"300")
    build("floats of 3 characters", b"1.5")
    build("floats of 8 characters", b"0.123456")
    build("booleans", b"true")
    build("empty texts", b'""', TEXTS)
    build("texts", b'"a"', TEXTS)
    build("Latin texts", '"é"'.encode(), TEXTS)
    build("texts with an emoji", ('"😀' + "a" * 28 + '"').encode(), TEXTS)
    build("base64 objects", b'{"b64":""}', TEXTS)
    build("empty arrays", b"[]", MATRIX)
    build("arrays of one number", b"[1.5]", MATRIX)
    build("arrays of eight numbers", b"[1,2,3,4,5,6,7,8]", MATRIX)
    build("arrays nested 15 deep", b"[" * 15 + b"7" + b"]" * 15)
    build("empty objects", b"{}")
    build("objects of one member", b'{"a":0}')
    build("objects of six members", OBJECT_OF_SIX)
    build("objects of eleven members", OBJECT_OF_11)
    build("objects nested 100 deep", b'{"":' * 100 + b"7" + b"}" * 100)
    build("members", b'"%d":0', begin=b"{", end=b"}")
    build("members with arrays", b'"%d":[]', begin=b"{", end=b"}")
    build("objects of one new name", b'{"%d":0}')
    build("rows", b'{"x":7}', begin=b'{"instances":[')
    rows = Signature("m", inputs=tuple(declared(name, "FP32", -1) for name in "abcdef"))
    build("rows of six columns", OBJECT_OF_SIX, rows, b'{"instances":[')
    build("rows of one number", b"[7]", MATRIX, b'{"instances":[')
    build("inputs", INPUTS, ANYTHING, b'{"inputs":[')
    build("inputs of one parameter", WITH_PARAMETER, ANYTHING, b'{"inputs":[')
    build("outputs", NAMED, ANYTHING, b'{"inputs":[' + INPUT + b'],"outputs":[')
    begin = b'{"inputs":[' + INPUT + b'],"parameters":{'
    build("parameters", b'"%d":0', ANYTHING, begin, b"}}")
    CASES["JSON 40,950 parameters"] = lambda: request(
        begin + b",".join(b'"%d":0' % i for i in range(40_950)) + b"}}"
    )
    CASES["JSON 40,950 outputs"] = lambda: request(
        b'{"inputs":[' + INPUT + b'],"outputs":[' + b",".join(NAMED % i for i in range(40_950))
        + b"]}"
    )  # fmt: skip
    CASES["JSON 20,000 inputs of one parameter"] = lambda: request(
        b'{"inputs":[' + b",".join(WITH_PARAMETER % i for i in range(20_000)) + b"]}"
    )
    CASES["JSON 256 KiB of brackets"] = lambda: request(
        b'{"x":[' + b",".join([b"[" * 15 + b"]" * 15] * 8_400) + b"]}", JSON, NUMBERS
    )
    CASES["JSON 250,000 texts"] = lambda: request(
        b'{"x":[' + b",".join([b'"word"'] * 250_000) + b"]}", JSON, TEXTS
    )


def add_json() -> None:
    """JSON: each kind of value, as often as it fits into a body."""

    def build(name: str, body: Callable[[], bytes], signature: Signature = ANYTHING) -> None:
        CASES[f"JSON {name}"] = lambda: request(body(), JSON, signature)

    elements = {
        "floats of 10 characters": (b"FP32", b"0.12345678", None),
        "floats of 17 digits": (b"FP64", b"0.12345678901234567", None),
        "floats of 3 characters": (b"FP32", b"1.5", None),
        "digits, UINT8": (b"UINT8", b"7", None),
        "digits, FP32": (b"FP32", b"7", None),
        "digits, BF16": (b"BF16", b"7", None),
        "integers of 19 digits": (b"UINT64", b"9223372036854775807", None),
        "booleans": (b"BOOL", b"true", None),
        "empty strings": (b"BYTES", b'""', None),
        "words": (b"BYTES", b'"abcd"', None),
        "base64 objects": (b"BYTES", b'{"b64":""}', None),
        "digits, the last out of range": (b"UINT8", b"7", b"700"),
        "digits, the last a string": (b"FP32", b"7", b'"7"'),
        "digits, then invalid": (b"FP32", b"7", b"-"),
        "words, the last not base64": (b"BYTES", b'""', b'{"b64":"?"}'),
    }
    for name, (datatype, item, last) in elements.items():
        build(name, lambda d=datatype, i=item, e=last: v2_elements(d, i, e))  # type: ignore[misc]
    tensor = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":['
    shapes = b'{"inputs":[{"name":"x","datatype":"FP32","data":[1],"shape":['
    build("250 KB of sizes in a shape", lambda: filled(shapes, b"7", b"]}]}", 250_000))
    build("10 MiB of sizes in a shape", lambda: filled(shapes, b"9223372036854775807", b"]}]}"))
    build("10 MiB of zeros in a shape", lambda: filled(shapes, b"0", b"]}]}"))
    build("empty arrays", lambda: filled(tensor, b"[]", b"]}]}"))
    build("arrays of one digit", lambda: filled(tensor, b"[7]", b"]}]}"))
    for depth in (8, 15):
        item = b"[" * depth + b"7" + b"]" * depth
        build(f"arrays nested {depth} deep", lambda i=item: filled(tensor, i, b"]}]}"))  # type: ignore[misc]
    build("10 million brackets", lambda: b"[" * SIZE)
    build("arrays of 1000 brackets", lambda: filled(b'{"x":[', b"[" * 900 + b"]" * 900, b"]}"))
    build("empty objects", lambda: filled(b'{"x":[', b"{}", b"]}"), NUMBERS)
    build("objects of one member", lambda: filled(b'{"x":[', b'{"a":0}', b"]}"), NUMBERS)
    build("objects of six members", lambda: filled(b'{"x":[', OBJECT_OF_SIX, b"]}"), NUMBERS)
    build("objects of eleven members", lambda: filled(b'{"x":[', OBJECT_OF_11, b"]}"), NUMBERS)
    build("unknown members", lambda: numbered(b"{", b'"%d":0', b"}"))
    build("members of long names", lambda: numbered(b"{", b'"%070d":0', b"}"))
    build(
        "unknown members of an input",
        lambda: numbered(b'{"inputs":[{', b'"%d":0', b"}]}"),
    )
    build("parameters", lambda: with_parameters(b'{"inputs":[],"parameters":{'))
    build(
        "parameters of an input",
        lambda: with_parameters(
            b'{"inputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[1],"parameters":{',
            b"}}]}",
        ),
    )
    build("outputs", lambda: numbered(b'{"inputs":[' + INPUT + b'],"outputs":[', NAMED, b"]}"))
    build("inputs", lambda: numbered(b'{"inputs":[', INPUTS, b"]}"))
    build("inputs, empty objects", lambda: filled(b'{"inputs":[', b"{}", b"]}"))
    build("inputs of one parameter", lambda: numbered(b'{"inputs":[', WITH_PARAMETER, b"]}"))
    build("40,000 inputs", lambda: inputs(40_000))
    build("10,000 inputs", lambda: inputs(10_000))
    build("rows", lambda: filled(b'{"instances":[', b"7", b"]}"), NUMBERS)
    build("rows, objects", lambda: filled(b'{"instances":[', b'{"x":7}', b"]}"), NUMBERS)
    build("rows of one column", lambda: filled(b'{"instances":[', b"[7]", b"]}"), MATRIX)
    build("rows, texts", lambda: filled(b'{"instances":[', b'""', b"]}"), TEXTS)
    build("rows, base64 objects", lambda: filled(b'{"instances":[', b'{"b64":""}', b"]}"), TEXTS)
    build("columns", lambda: filled(b'{"inputs":{"x":[', b"7", b"]}}"), NUMBERS)
    build(
        "wide rows",
        lambda: b'{"instances":[{' + b",".join(b'"%d":0' % i for i in range(900_000)) + b"}]}",
        NUMBERS,
    )
    build("text, ASCII", lambda: b'{"x":"' + b"x" * (SIZE - 10) + b'"}', TEXTS)
    build("text, one wide character", lambda: ("😀" + "x" * (SIZE - 20)).join(TEXT).encode(), TEXTS)
    build("text, escapes", lambda: b'{"x":"' + b"\\n" * (SIZE // 2 - 10) + b'"}', TEXTS)
    build("text, \\u escapes", lambda: b'{"x":"' + b"\\u0100" * (SIZE // 6 - 10) + b'"}', TEXTS)
    build(
        "short texts, one wide character each",
        lambda: filled(b'{"x":[', '"😀aaaaaaaaaaaaaaaaaaaaaaaaaaa"'.encode(), b"]}"),
        TEXTS,
    )
    build("base64", lambda: b'{"x":{"b64":"' + b"A" * (SIZE // 4 * 4 - 40) + b'"}}', TEXTS)
    build("base64, invalid", lambda: b'{"x":{"b64":"' + b"A" * (SIZE - 40) + b'?"}}', TEXTS)
    build(
        "two inputs of one long name",
        lambda: b'{"inputs":[' + b",".join([INPUT.replace(b'"x"', LONG)] * 2) + b"]}",
    )
    build("a long id", lambda: b'{"id":%s,"inputs":[%s]}' % (LONG, INPUT))
    build("a number of 10 million digits", lambda: b'{"x":' + b"7" * (SIZE - 10) + b"}")
    build("white space", lambda: b" " * SIZE)


OBJECT_OF_SIX = b"{" + b",".join(b'"%c":0' % c for c in b"abcdef") + b"}"
OBJECT_OF_11 = b"{" + b",".join(b'"%c":0' % c for c in b"abcdefghijk") + b"}"
TEXT = ('{"x":"', '"}')
LONG = b'"' + b"\\u0001" * 800_000 + b'"'
INPUT = b'{"name":"x","datatype":"UINT8","shape":[1],"data":[1]}'
INPUTS = b'{"name":"x%d","datatype":"UINT8","shape":[1],"data":[1]}'
NAMED = b'{"name":"%d"}'
WITH_PARAMETER = b'{"name":"x%d","datatype":"UINT8","shape":[1],"data":[1],"parameters":{"a":1}}'


def inputs(count: int) -> bytes:
    """A V2 request with inputs of one element each, as large as a body may be."""
    entries = b",".join(INPUTS % i for i in range(count))
    return b'{"inputs":[%s]}' % entries


def with_parameters(begin: bytes, end: bytes = b"}}") -> bytes:
    """A V2 request with as many parameters as fit."""
    return numbered(begin, b'"%d":0', end)


def add_binary() -> None:
    """application/octet-stream."""

    def build(name: str, body: Callable[[], bytes], signature: Signature) -> None:
        CASES[f"octets {name}"] = lambda: request(body(), OCTETS, signature)

    build("raw FP32", lambda: bytes(SIZE), NUMBERS)
    flags = Signature("m", inputs=(declared("x", "BOOL", -1),))
    build("raw BOOL", lambda: bytes(SIZE), flags)
    build("raw BOOL, invalid", lambda: b"\xff" * SIZE, flags)
    build("one text", lambda: bytes(SIZE), TEXTS)

    def extended(name: str, body: Callable[[], tuple[bytes, bytes]]) -> None:
        def built() -> Case:
            head, data = body()
            headers = {"inference-header-content-length": str(len(head))}
            return request(head + data, OCTETS, ANYTHING, headers)

        CASES[f"binary {name}"] = built

    size = SIZE // 4 * 4 - 4096
    extended("empty texts", lambda: (binary_head(b"BYTES", size // 4, size), bytes(size)))
    extended("BOOL", lambda: (binary_head(b"BOOL", size, size), bytes(size)))
    begin = (
        b'{"inputs":[{"name":"x","datatype":"FP32","parameters":{"binary_data_size":0},"shape":['
    )
    extended("sizes in a shape", lambda: (filled(begin, b"7", b"]}]}", 250_000), b""))
    extended(
        "inputs",
        lambda: (
            numbered(
                b'{"inputs":[',
                b'{"name":"%d","datatype":"INT8","shape":[0],"parameters":{"binary_data_size":0}}',
                b"]}",
            ),
            b"",
        ),
    )


def binary_head(datatype: bytes, count: int, size: int) -> bytes:
    """The JSON of a tensor in binary data."""
    return (
        b'{"inputs":[{"name":"x","datatype":"%s","shape":[%d],'
        b'"parameters":{"binary_data_size":%d}}]}' % (datatype, count, size)
    )


CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def add_protobuf() -> None:
    """Protobuf."""

    def build(name: str, body: Callable[[], bytes], signature: Signature = ANYTHING) -> None:
        CASES[f"protobuf {name}"] = lambda: request(body(), PROTOBUF, signature)

    for datatype, width in {
        "BOOL": 1, "INT8": 1, "INT64": 1, "UINT8": 1, "UINT64": 1, "FP32": 4, "FP64": 8,
    }.items():  # fmt: skip
        count = (SIZE - 200) // width
        build(f"typed {datatype}", lambda d=datatype, n=count: typed(d, [0] * n))  # type: ignore[misc]
    build("typed UINT8, the last out of range", lambda: typed("UINT8", [0] * (SIZE - 99) + [300]))
    build("typed BYTES", lambda: typed("BYTES", [b""] * (SIZE // 2 - 99)))
    build("262,000 typed BYTES", lambda: typed("BYTES", [b""] * 262_000))
    build("typed BYTES, one element", lambda: typed("BYTES", [bytes(SIZE - 200)]))
    build("sizes in a shape", lambda: protobuf_shape([7] * 250_000))
    build("10 MiB of sizes in a shape", lambda: protobuf_shape([7] * (SIZE - 200)))
    build("zeros in a shape", lambda: protobuf_shape([0] * (SIZE - 200)))
    build("TensorRequest, sizes in a shape", lambda: tensor_request([7] * 250_000), NUMBERS)
    build("TensorRequest, 10 MiB in a shape", lambda: tensor_request([7] * (SIZE - 200)), NUMBERS)
    build("raw empty texts", lambda: raw("BYTES", SIZE // 4 - 50, 4))
    build("raw BOOL", lambda: raw("BOOL", SIZE - 200, 1))
    for count in (40_000, 60_000, 131_000):
        build(f"{count:,} inputs", lambda n=count: many_inputs(n))  # type: ignore[misc]
    build("262,000 empty inputs", lambda: b"\x2a\x00" * 262_000)
    build("87,000 parameters", lambda: many_parameters(87_000))
    build("87,000 outputs of one parameter", lambda: many_outputs(60_000))
    build("unknown fields", lambda: b"\x78\x00" * (SIZE // 2))
    build("unknown fields of 40 bytes", lambda: (b"\x7a\x26" + bytes(38)) * (SIZE // 40))
    build("fields, then invalid", lambda: (b"\x7a\x26" + bytes(38)) * (SIZE // 40) + b"\x7a\x7f")
    build("an input name of 10 MiB", lambda: name_twice(SIZE // 2 - 200))
    build("4 million typed UINT8", lambda: typed("UINT8", [7] * 4_100_000))
    build("4 million typed INT64", lambda: typed("INT64", [7] * 4_100_000))
    build("4 million typed BOOL", lambda: typed("BOOL", [1] * 4_100_000))
    build("40,950 parameters", lambda: many_parameters(40_950))
    build("20,000 outputs of one parameter", lambda: many_outputs(20_000))
    build("unpacked contents", lambda: unpacked_contents(SIZE // 2 - 50))
    build("unknown fields in contents", lambda: in_contents(b"\x78\x00" * (SIZE // 2 - 50)))
    build("empty unknown fields in contents", lambda: in_contents(b"\x7a\x00" * (SIZE // 2 - 50)))


def typed(datatype: str, values: list[int] | list[bytes]) -> bytes:
    """A ModelInferRequest with typed contents."""
    message = v2.ModelInferRequest()
    entry = message.inputs.add(name="x", datatype=datatype, shape=[len(values)])
    getattr(entry.contents, CONTENTS[datatype]).extend(values)
    return message.SerializeToString()


def protobuf_shape(shape: list[int]) -> bytes:
    """A ModelInferRequest with this shape."""
    message = v2.ModelInferRequest(raw_input_contents=[bytes(4)])
    message.inputs.add(name="x", datatype="FP32", shape=shape)
    return message.SerializeToString()


def tensor_request(shape: list[int]) -> bytes:
    """A TensorRequest with this shape."""
    return tensor_pb2.TensorRequest(data=bytes(4), shape=shape).SerializeToString()


def raw(datatype: str, count: int, width: int) -> bytes:
    """A ModelInferRequest with raw contents of zeros."""
    message = v2.ModelInferRequest(raw_input_contents=[bytes(count * width)])
    message.inputs.add(name="x", datatype=datatype, shape=[count])
    return message.SerializeToString()


def many_inputs(count: int) -> bytes:
    """A ModelInferRequest with inputs of one element each."""
    message = v2.ModelInferRequest()
    for i in range(count):
        message.inputs.add(name=f"{i}", datatype="INT8", shape=[1])
        message.raw_input_contents.append(b"\0")
    return message.SerializeToString()


def many_parameters(count: int) -> bytes:
    """A ModelInferRequest with parameters."""
    message = v2.ModelInferRequest(raw_input_contents=[b"\0"])
    message.inputs.add(name="x", datatype="INT8", shape=[1])
    for i in range(count):
        message.parameters[f"{i}"].bool_param = True
    return message.SerializeToString()


def many_outputs(count: int) -> bytes:
    """A ModelInferRequest with requested outputs."""
    message = v2.ModelInferRequest(raw_input_contents=[b"\0"])
    message.inputs.add(name="x", datatype="INT8", shape=[1])
    for i in range(count):
        message.outputs.add(name=f"{i}").parameters["binary_data"].bool_param = True
    return message.SerializeToString()


def name_twice(size: int) -> bytes:
    """A ModelInferRequest with two inputs of one long name."""
    message = v2.ModelInferRequest(raw_input_contents=[b"\0", b"\0"])
    for _ in range(2):
        message.inputs.add(name="\x01" * size, datatype="INT8", shape=[1])
    return message.SerializeToString()


def unpacked_contents(count: int) -> bytes:
    """A ModelInferRequest with typed contents that are not packed."""
    return in_contents(b"\x20\x07" * count, "UINT8", count)


def in_contents(contents: bytes, datatype: str = "UINT8", count: int = 1) -> bytes:
    """A ModelInferRequest with these bytes as contents of its input."""
    entry = v2.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=[count])
    inner = entry.SerializeToString() + b"\x2a" + varint(len(contents)) + contents
    return b"\x2a" + varint(len(inner)) + inner


def varint(value: int) -> bytes:
    """A protobuf varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))


def add_codings() -> None:
    """Content codings."""
    plain = b'{"x":"' + b"x" * (SIZE - 10) + b'"}'
    codings: dict[str, Callable[[bytes], bytes]] = {
        "gzip": lambda body: gzip.compress(body, 9),
        "deflate": zlib.compress,
        "br": lambda body: brotli.compress(body, quality=5),
    }
    for coding, compress in codings.items():
        CASES[f"{coding} of 10 MiB"] = lambda c=coding, f=compress: request(  # type: ignore[misc]
            f(plain), JSON, TEXTS, {"content-encoding": c}
        )
        CASES[f"{coding} of 1 GB"] = lambda c=coding, f=compress: request(  # type: ignore[misc]
            f(bytes(1 << 30)), JSON, TEXTS, {"content-encoding": c}
        )
    noise = np.random.default_rng(7).bytes
    CASES["gzip of 60 members, then 10 MiB"] = lambda: request(
        gzip.compress(b"") * 60 + gzip.compress(noise(SIZE - 10_000), 0),
        JSON,
        TEXTS,
        {"content-encoding": "gzip"},
    )
    CASES["gzip of empty blocks"] = lambda: request(
        empty_blocks(), JSON, TEXTS, {"content-encoding": "gzip"}
    )
    CASES["gzip of 10 MiB of noise"] = lambda: request(
        gzip.compress(noise(SIZE - 10_000)), JSON, TEXTS, {"content-encoding": "gzip"}
    )
    CASES["br of 10 MiB of noise"] = lambda: request(
        brotli.compress(noise(SIZE - 10_000), quality=1), JSON, TEXTS, {"content-encoding": "br"}
    )


def empty_blocks() -> bytes:
    """A gzip body of stored blocks without data (RFC 1951 section 3.2.4)."""
    block = b"\x00\x00\x00\xff\xff"
    head = gzip.compress(b"")[:10]
    return head + block * (SIZE // 5 - 10) + b"\x01\x00\x00\xff\xff" + bytes(8)


def add_headers() -> None:
    """Headers of at most 60 KiB, the limit of Envoy."""
    body = b'{"inputs":[' + INPUT + b"]}"
    for name, value in {
        "ranges": ",".join(["a/b"] * 15_000),
        "quotes": '"' * 60_000,
        "escapes": 'a;q="' + "\\" * 60_000 + '"',
        "parameters": "a/b" + ";a=b" * 15_000,
    }.items():
        CASES[f"Accept of {name}"] = lambda v=value: request(body, JSON, ANYTHING, {"accept": v})  # type: ignore[misc]
        CASES[f"Content-Type of {name}"] = lambda v=value: request(  # type: ignore[misc]
            raw("BOOL", 1, 1), PROTOBUF, ANYTHING, {"content-type": PROTOBUF + ";" + v}
        )


def add_multipart() -> None:
    """multipart/form-data."""
    image = TensorInput.model_validate(
        {
            "name": "image",
            "datatype": "UINT8",
            "shape": (-1, 8, 8, 3),
            "image": {"width": 8, "height": 8},
        }
    )
    signature = Signature("m", inputs=(image,))

    def build(name: str, body: Callable[[bytes], bytes], boundary: str) -> None:
        media = f'multipart/form-data; boundary="{boundary}"'
        CASES[f"multipart {name}"] = lambda: request(body(boundary.encode()), media, signature)

    periodic = "a" * 70
    build("of near boundaries", lambda b: near(b"\r\n--" + b[:-1]), periodic)
    build("of nearer boundaries", lambda b: near(b"a" * 69 + b"b"), periodic)
    build("of nearest boundaries", lambda b: near(b"b" + b"a" * 69), "b" + "a" * 69)
    build("of line ends", lambda b: near(b"\r\n"), periodic)
    build("of a boundary line", lambda b: b"--" + b + b" " * (SIZE - 100) + b"\r\n", periodic)
    build(
        "of 256 parts of headers",
        lambda b: (b"--" + b + b"\r\n" + b"a:b\r\n" * 800 + b"\r\n\r\n") * 256 + b"--" + b + b"--",
        periodic,
    )
    build(
        "of 256 parts of quotes",
        lambda b: (
            (b"--" + b + b'\r\nContent-Disposition: a;name="' + b"\\a" * 2000 + b'"\r\n\r\n\r\n')
            * 256
            + b"--" + b + b"--"
        ),
        periodic,
    )  # fmt: skip


def near(line: bytes) -> bytes:
    """A body that almost has a boundary everywhere."""
    return line * (SIZE // len(line))


def add_responses() -> None:
    """Responses of a model server. A client determines the size of many of them."""
    labels = TensorOutput(name="y", labels=("a", "b", "c"), top_k=2)
    plain, labeled = ANYTHING, Signature("m", outputs=(labels,))
    v1 = ResponseOptions(form="v1")

    def build(
        name: str,
        datatype: str,
        shape: tuple[int, ...],
        data: Callable[[], bytes],
        options: ResponseOptions = V2,
        signature: Signature = plain,
    ) -> None:
        def built() -> Case:
            message = v2.ModelInferResponse(raw_output_contents=[data()])
            message.outputs.add(name="y", datatype=datatype, shape=shape)
            return response(message.SerializeToString(), options, signature)

        CASES[f"response {name}"] = built

    def noise(dtype: str) -> Callable[[], bytes]:
        count = SIZE // np.dtype(dtype).itemsize
        return lambda: np.random.default_rng(7).normal(size=count).astype(dtype).tobytes()

    build("FP64", "FP64", (SIZE // 8,), noise("<f8"))
    build("FP32", "FP32", (SIZE // 4,), noise("<f4"))
    build("FP16", "FP16", (SIZE // 2,), noise("<f2"))
    build("BF16", "BF16", (SIZE // 2,), noise("<f2"))
    build("INT8", "INT8", (SIZE,), lambda: bytes(range(256)) * (SIZE // 256))
    build("BOOL", "BOOL", (SIZE,), lambda: bytes(SIZE))
    build("empty texts", "BYTES", (SIZE // 4,), lambda: bytes(SIZE))
    build("one text", "BYTES", (1,), lambda: struct.pack("<I", SIZE - 4) + b"x" * (SIZE - 4))
    build(
        "texts, base64",
        "BYTES",
        (SIZE // 5,),
        lambda: b"\x01\x00\x00\x00\xff" * (SIZE // 5),
    )
    build("FP32 rows of 4, V1", "FP32", (SIZE // 16, 4), noise("<f4"), v1)
    build("FP32 rows of 1, V1", "FP32", (SIZE // 4, 1), noise("<f4"), v1)
    build("empty texts, V1", "BYTES", (SIZE // 4,), lambda: bytes(SIZE), v1)
    build("FP32 top_k of one row", "FP32", (1, SIZE // 4), noise("<f4"), signature=labeled)
    build("FP32 top_k of rows of 3", "FP32", (873_813, 3), noise3, signature=labeled)
    build("INT8 labels", "INT8", (SIZE,), lambda: bytes(SIZE), signature=labeled)
    binary = ResponseOptions(encoding="binary")
    build("FP32, binary", "FP32", (SIZE // 4,), noise("<f4"), binary)
    build("empty texts, binary", "BYTES", (SIZE // 4,), lambda: bytes(SIZE), binary)
    build("sizes in a shape", "FP32", (7,) * 250_000, lambda: bytes(4))
    CASES["response typed UINT8"] = lambda: response(typed_response(), V2, plain)
    CASES["response two FP32, V1"] = lambda: response(two_outputs(), v1, plain)


def noise3() -> bytes:
    """FP32 data of rows of 3."""
    return np.random.default_rng(7).normal(size=873_813 * 3).astype("<f4").tobytes()


def response(body: bytes, options: ResponseOptions, signature: Signature) -> Case:
    """The conversion of a response of a gRPC server."""
    converter = Converters(signature, "grpc").choose(JSON)
    assert converter is not None
    headers = {"grpc-status": "0"}
    converter.convert_response(options, 200, headers, b"")
    return Case(lambda: converter.convert_response(options, 200, headers, body), len(body))


def typed_response() -> bytes:
    """A ModelInferResponse with typed contents."""
    message = v2.ModelInferResponse()
    entry = message.outputs.add(name="y", datatype="UINT8", shape=[SIZE - 200])
    entry.contents.uint_contents.extend([7] * (SIZE - 200))
    return message.SerializeToString()


def two_outputs() -> bytes:
    """A ModelInferResponse with two outputs of many rows."""
    rows = SIZE // 8
    message = v2.ModelInferResponse(raw_output_contents=[bytes(4 * rows)] * 2)
    for name in "yz":
        message.outputs.add(name=name, datatype="FP32", shape=[rows, 1])
    return message.SerializeToString()


def add_rest_requests() -> None:
    """Requests that are written as JSON for a REST server."""
    image = declared("x", "FP32", -1)
    for name, signature, body in (
        ("FP32", Signature("m", inputs=(image,)), lambda: bytes(SIZE)),
        ("UINT8", Signature("m", inputs=(declared("x", "UINT8", -1),)), lambda: bytes(SIZE)),
        ("BYTES", TEXTS, lambda: b"x" * SIZE),
    ):
        CASES[f"REST {name}"] = lambda s=signature, b=body: request(  # type: ignore[misc]
            b(), OCTETS, s, protocol="http"
        )


add_json()
add_json_within_memory()
add_binary()
add_protobuf()
add_codings()
add_headers()
add_multipart()
add_rest_requests()
add_responses()
