"""Bodies within `max_body` that make conversion expensive are refused before the work."""

import contextlib
import json
import multiprocessing
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping

import numpy as np
import orjson
import pytest

from bench.lock_hold import longest_hold
from extproc.convert import ConversionError, ConversionLimits, Converters, Signature
from extproc.convert.converter import ServerProtocol
from extproc.convert.errors import shape_text
from protos.inference_pb2 import ModelInferRequest
from protos.tensor_pb2 import TensorRequest
from sluice.config.tensors import TensorInput
from tests.extproc.convert.payloads import first_array, model, sent, tensor_input, to_grpc

JSON = "application/json"
OCTETS = "application/octet-stream"
PROTOBUF = "application/x-protobuf"
LIMITS = ConversionLimits()
MANY_SIZES = [3] * 150_000
LONG_NAME = "\x01" * 100_000
FLOATS = model(tensor_input("x", "FP32", -1))
TEXTS = model(tensor_input("x", "BYTES", -1))


def refused(
    signature: Signature, media: str, body: bytes, headers: Mapping[str, str] | None = None
) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        to_grpc(signature, media, body, headers)
    return caught.value


def tensor(**changes: object) -> dict[str, object]:
    return {"name": "x", "datatype": "UINT8", "shape": [1], "data": [1], **changes}


def v2(*tensors: object, **members: object) -> bytes:
    return orjson.dumps({"inputs": tensors, **members})


def extended(*tensors: object) -> tuple[bytes, dict[str, str]]:
    """A body of the binary extension without data, and its headers."""
    head = v2(*tensors)
    return head, {"inference-header-content-length": str(len(head))}


def message(count: int = 1, **entry: object) -> bytes:
    """A ModelInferRequest with inputs of one byte each."""
    request = ModelInferRequest(raw_input_contents=[b"\1"] * count)
    for i in range(count):
        request.inputs.add(**{"name": f"x{i}", "datatype": "UINT8", "shape": [1], **entry})
    return request.SerializeToString()


def test_a_long_shape_is_refused_before_its_sizes_are_multiplied() -> None:
    binary, headers = extended(
        {
            "name": "x",
            "datatype": "INT8",
            "shape": MANY_SIZES,
            "parameters": {"binary_data_size": 0},
        }
    )
    single = TensorRequest(data=b"1234", shape=MANY_SIZES).SerializeToString()
    started = time.thread_time()
    for error in (
        refused(model(), JSON, v2(tensor(shape=MANY_SIZES))),
        refused(model(), OCTETS, binary, headers),
        refused(model(), PROTOBUF, message(shape=MANY_SIZES)),
        refused(FLOATS, PROTOBUF, single),
    ):
        assert (error.status, error.reason) == (422, "wrong_shape")
        assert error.detail == "must have at most 16 dimensions"
    # The product of the sizes takes seconds.
    assert time.thread_time() - started < 0.3


@pytest.mark.parametrize(
    ("signature", "media", "body"),
    [
        (model(), JSON, v2(tensor(shape=[1 << 62] * 16))),
        (model(), JSON, v2(tensor(shape=[-(1 << 63)] * 16))),
        (model(), JSON, v2(tensor(name=LONG_NAME), tensor(name=LONG_NAME))),
        (model(), JSON, v2(tensor(datatype=LONG_NAME))),
        (model(), JSON, v2(tensor(data=[LONG_NAME]))),
        (model(), JSON, v2(tensor(data=[{LONG_NAME: 1}]))),
        (model(), JSON, v2(tensor(), parameters={LONG_NAME: []})),
        (model(), JSON, v2(tensor(parameters={LONG_NAME: []}))),
        (model(), JSON, v2(tensor(**{LONG_NAME: 1}))),
        (FLOATS, JSON, v2(tensor(name=LONG_NAME))),
        (FLOATS, JSON, orjson.dumps({LONG_NAME: 1})),
        (FLOATS, JSON, orjson.dumps({"inputs": {LONG_NAME: 1}})),
        (FLOATS, JSON, orjson.dumps({"instances": [{LONG_NAME: 1}]})),
        (model(), PROTOBUF, message(2, name=LONG_NAME)),
        (model(), PROTOBUF, message(shape=[1 << 62] * 16)),
        (FLOATS, PROTOBUF, TensorRequest(data=b"1", datatype=LONG_NAME).SerializeToString()),
        (model(), f"{PROTOBUF};messageType={LONG_NAME}", message()),
    ],
)  # fmt: skip
def test_an_error_quotes_at_most_a_line_of_the_body(
    signature: Signature, media: str, body: bytes
) -> None:
    error = refused(signature, media, body)
    assert len(error.field) <= 160
    assert len(error.detail) <= 320
    # `field` and `error` both have the place. JSON escapes a control character as six characters.
    assert len(error.problem()) < 2 * 6 * 160 + 400
    assert len(str(error)) < 600


def test_a_shape_in_an_error_is_cut() -> None:
    assert shape_text([1, -1, 3]) == "[1, -1, 3]"
    assert len(shape_text(MANY_SIZES)) == 80


def over(count: int) -> int:
    return LIMITS.max_entries + 1 - count


@pytest.mark.parametrize(
    ("media", "body", "field"),
    [
        (JSON, v2(*[7] * over(0)), "inputs"),
        (JSON, v2(tensor(), outputs=[7] * over(0)), "outputs"),
        (JSON, v2(tensor(), parameters={str(i): 1 for i in range(over(1))}), "body"),
        (JSON, v2(*[tensor(parameters={str(i): 1 for i in range(over(0) // 2)})] * 2), "body"),
        (PROTOBUF, message(over(0)), "body"),
    ],
    ids=["inputs", "outputs", "parameters", "parameters of inputs", "protobuf"],
)
def test_inputs_outputs_and_parameters_are_limited(media: str, body: bytes, field: str) -> None:
    error = refused(model(), media, body)
    assert (error.status, error.reason, error.field) == (413, "too_many_entries", field)


def test_a_table_of_forty_thousand_columns_is_accepted() -> None:
    columns = [tensor(name=f"feature_{i}", datatype="FP32", data=[0.5]) for i in range(40_000)]
    assert len(sent(to_grpc(model(), JSON, v2(*columns))).inputs) == 40_000
    assert len(sent(to_grpc(model(), PROTOBUF, message(40_000))).inputs) == 40_000


def test_the_time_of_a_table_is_linear_in_its_declared_columns() -> None:
    names = [f"x{i}" for i in range(16_000)]
    declared = TensorInput.model_validate({"name": "x", "datatype": "UINT8", "shape": (1,)})
    signature = Signature("m", "", tuple(declared.model_copy(update={"name": n}) for n in names))
    body = message(len(names))
    started = time.thread_time()
    assert len(sent(to_grpc(signature, PROTOBUF, body)).inputs) == len(names)
    # A search for each column takes several seconds.
    assert time.thread_time() - started < 0.5


def typed_texts(count: int) -> bytes:
    request = ModelInferRequest()
    entry = request.inputs.add(name="x", datatype="BYTES", shape=[count])
    entry.contents.bytes_contents.extend([b"word"] * count)
    return request.SerializeToString()


def raw_texts(count: int) -> bytes:
    request = ModelInferRequest(raw_input_contents=[bytes(4 * (count // 2))] * 2)
    for name in "xy":
        request.inputs.add(name=name, datatype="BYTES", shape=[count // 2])
    return request.SerializeToString()


def texts(count: int) -> bytes:
    return b'{"x": [%s]}' % b",".join([b'"word"'] * count)


@pytest.mark.parametrize(
    ("media", "body"),
    [(JSON, texts), (JSON, lambda n: v2(tensor(datatype="BYTES", shape=[n], data=["word"] * n))),
     (PROTOBUF, typed_texts), (PROTOBUF, raw_texts)],
    ids=["JSON", "V2 JSON", "typed", "raw"],
)  # fmt: skip
def test_bytes_elements_are_limited(media: str, body: Callable[[int], bytes]) -> None:
    signature = TEXTS if body is texts else model()
    assert sent(to_grpc(signature, media, body(250_000)))
    error = refused(signature, media, body(LIMITS.max_bytes_elements + 2))
    assert error.status == 413
    assert error.reason in ("too_many_elements", "too_many_fields")


def test_packed_numbers_are_counted_before_parsing() -> None:
    request = ModelInferRequest()
    entry = request.inputs.add(name="x", datatype="INT64", shape=[5_000_000])
    entry.contents.int64_contents.extend([7] * 5_000_000)
    body = request.SerializeToString() + b"\x0a"  # a truncated field, which the parser refuses
    error = refused(model(), PROTOBUF, body)
    assert (error.status, error.reason) == (413, "too_many_fields")


@pytest.mark.parametrize(
    ("datatype", "value", "reason"),
    [("UINT8", 256, "out_of_range"), ("FP32", 1e39, "out_of_range"),
     ("BF16", 3.4e38, "out_of_range"), ("FP32", "7", "wrong_element"),
     ("FP32", [7], "ragged")],
)  # fmt: skip
def test_an_error_names_the_element_in_a_long_tensor(
    datatype: str, value: object, reason: str
) -> None:
    data: list[object] = [1] * 50_000
    data[40_000] = value
    body = v2(tensor(datatype=datatype, shape=[50_000], data=data))
    error = refused(model(), JSON, body)
    assert (error.reason, error.field) == (reason, "inputs[0].data[40000]")


def test_an_error_names_the_text_in_a_long_tensor() -> None:
    data: list[object] = ["word"] * 50_000
    data[40_000] = {"b64": "?"}
    error = refused(TEXTS, JSON, orjson.dumps({"x": data}))
    assert (error.reason, error.field) == ("bad_base64", "x[40000].b64")


@pytest.mark.parametrize("datatype", ["UINT8", "FP16", "BF16", "FP64"])
def test_long_tensors_keep_the_order_of_their_elements(datatype: str) -> None:
    data = [i % 256 for i in range(50_000)]
    body = v2(tensor(datatype=datatype, shape=[len(data)], data=data))
    raw = sent(to_grpc(model(), JSON, body)).raw_input_contents[0]
    if datatype == "BF16":
        values = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    else:
        values = np.frombuffer(raw, {"UINT8": "u1", "FP16": "<f2", "FP64": "<f8"}[datatype])
    assert values.tolist() == data


def rows(item: str, size: int = 1) -> Callable[[int], bytes]:
    """A document with `count / size` items."""
    return lambda count: f'{{"x":[{",".join([item] * (count // size))}]}}'.encode()


ELEVEN = ",".join(f'"{name}":1.5' for name in "abcdefghijk")

DOCUMENTS: dict[str, tuple[Signature, Callable[[int], bytes]]] = {
    "floats": (FLOATS, rows("1.5")),
    "long floats": (FLOATS, rows("0.12345678901234567")),
    "empty arrays": (FLOATS, rows("[]")),
    "arrays of one number": (FLOATS, rows("[1.5]")),
    "deep arrays": (FLOATS, rows("[" * 15 + "1.5" + "]" * 15, 15)),
    "empty objects": (FLOATS, rows("{}")),
    "objects of one member": (FLOATS, rows('{"a":1.5}')),
    "objects of eleven members": (FLOATS, rows(f"{{{ELEVEN}}}", 11)),
    "deep objects": (FLOATS, rows('{"":' * 100 + "1.5" + "}" * 100, 100)),
    "members": (FLOATS, lambda n: b"{%s}" % b",".join(b'"%d":1.5' % i for i in range(n))),
    "short texts": (TEXTS, rows('"a"')),
    "wide texts": (TEXTS, rows(f'"😀{"x" * 30}"')),
    "one text": (TEXTS, lambda n: b'{"x":"%s"}' % (b"x" * 20 * n)),
    "one wide text": (TEXTS, lambda n: f'{{"x":"😀{"x" * 20 * n}"}}'.encode()),
    "escaped text": (TEXTS, lambda n: b'{"x":"%s"}' % (rb"\ud83d\ude00" + b"x" * 20 * n)),
    "instances": (FLOATS, lambda n: b'{"instances":[%s]}' % b",".join([b'{"x":1.5}'] * n)),
    "doubles": (
        model(),
        lambda n: v2(tensor(datatype="FP64", shape=[n], data=[0.1234567891234567] * n)),
    ),
}


JSON_LIMITS = ConversionLimits(
    max_body=1 << 30, max_json_memory=32 << 20, max_bytes_elements=1 << 30
)


def is_too_large(kind: str, body: bytes) -> bool:
    """Convert a document. Whether it is above the memory limit; it may be refused otherwise."""
    try:
        to_grpc(DOCUMENTS[kind][0], JSON, body, limits=JSON_LIMITS)
    except ConversionError as error:
        return error.reason == "json_too_large"
    return False


def memory_growth(kind: str, body: bytes) -> int:
    """Growth of the resident memory of this process at its peak, during a conversion."""
    is_too_large(kind, DOCUMENTS[kind][1](1000))
    return longest_hold(lambda: is_too_large(kind, body)).peak_bytes


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_document_within_the_memory_limit_takes_less_memory(kind: str) -> None:
    document = DOCUMENTS[kind][1]
    counts = [int(20_000 * 1.1**step) for step in range(50)]
    first = bisect_left(counts, True, key=lambda count: is_too_large(kind, document(count)))
    assert 0 < first < len(counts)
    # A new process has no free memory that would hide the growth.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        peak = pool.apply(memory_growth, (kind, document(counts[first - 1])))
    assert peak <= JSON_LIMITS.max_json_memory


def test_a_color_image_may_be_sent_as_nested_arrays() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 480, 640, 3), np.uint8)
    body = json.dumps({"instances": image.tolist()}).encode()
    converted = to_grpc(model(tensor_input("x", "UINT8", -1, -1, -1, 3)), JSON, body)
    assert (first_array(converted, "u1") == image).all()


def without_data(count: int) -> bytes:
    """The JSON of the binary extension, without inputs but with numbers."""
    return v2(numbers=[1.5] * count)


RESERVED: dict[str, Callable[[], tuple[str, ServerProtocol, bytes, dict[str, str]]]] = {
    "protobuf inputs": lambda: (PROTOBUF, "grpc", message(40_000), {}),
    "protobuf empty inputs": lambda: (PROTOBUF, "grpc", b"\x2a\x00" * 260_000, {}),
    "protobuf parameters": lambda: (PROTOBUF, "grpc", message_with_parameters(40_000), {}),
    "protobuf texts": lambda: (PROTOBUF, "grpc", typed_texts(260_000), {}),
    "protobuf numbers": lambda: (PROTOBUF, "grpc", typed_numbers(4_000_000), {}),
    "protobuf data": lambda: (PROTOBUF, "grpc", raw_numbers(8_000_000, "UINT8"), {}),
    "head of binary data": lambda: (
        OCTETS,
        "grpc",
        without_data(1_000_000),
        {"inference-header-content-length": str(len(without_data(1_000_000)))},
    ),
    "data for REST": lambda: (PROTOBUF, "http", raw_numbers(4_000_000, "FP16"), {}),
}


def message_with_parameters(count: int) -> bytes:
    request = ModelInferRequest.FromString(message())
    for i in range(count):
        request.parameters[str(i)].bool_param = True
    return request.SerializeToString()


def typed_numbers(count: int) -> bytes:
    request = ModelInferRequest()
    entry = request.inputs.add(name="x", datatype="INT64", shape=[count])
    entry.contents.int64_contents.extend([7] * count)
    return request.SerializeToString()


def raw_numbers(count: int, datatype: str) -> bytes:
    values = np.random.default_rng(7).normal(size=count)
    raw = values.astype("<f2" if datatype == "FP16" else "u1").tobytes()
    request = ModelInferRequest(raw_input_contents=[raw])
    request.inputs.add(name="x", datatype=datatype, shape=[count])
    return request.SerializeToString()


def reserved_and_taken(kind: str) -> tuple[int, int]:
    """The bytes that a conversion reserves, and the growth of this process's memory."""
    media, protocol, body, headers = RESERVED[kind]()
    signature = Signature("m") if protocol == "grpc" else model(tensor_input("x", "FP16", -1))
    converter = Converters(signature, protocol).choose(media)
    assert converter is not None
    headers = {"content-type": media, **headers}

    def convert() -> None:
        with contextlib.suppress(ConversionError):
            converter.convert_request(body, headers)

    return next(converter.request_steps(body, headers)), longest_hold(convert).peak_bytes


@pytest.mark.parametrize("kind", RESERVED)
def test_a_conversion_reserves_the_memory_that_it_takes(kind: str) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        reserved, taken = pool.apply(reserved_and_taken, (kind,))
    assert taken <= reserved


def test_ten_mebibytes_of_numbers_are_accepted() -> None:
    values = b",".join([b"0.12345678"] * 950_000)
    assert to_grpc(FLOATS, JSON, b'{"x":[%s]}' % values).body
