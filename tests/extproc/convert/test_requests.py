"""JSON, binary and protobuf requests become tensors, and invalid requests are refused."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable

import brotli
import numpy as np
import orjson
import pytest

from extproc.convert import ConversionError, ConversionLimits, Converters, Signature
from extproc.convert.converter import ServerProtocol
from protos import inference_pb2 as v2
from protos import tensor_pb2
from tests.extproc.convert.payloads import first_array, model, sent, tensor_input, to_grpc
from tests.sluice.images.pictures import encoded, gradient_image, image_input
from tests.zstd import zstd

JSON = "application/json"
OCTETS = "application/octet-stream"
PROTOBUF = "application/x-protobuf"
NUMBERS = model(tensor_input("x", "FP32", -1, 2))
TEXT = model(tensor_input("words", "BYTES", -1))
BOTH = model(tensor_input("x", "FP32", -1, 2), tensor_input("words", "BYTES", -1))


def v2_json(**changes: object) -> bytes:
    """A V2 request for NUMBERS, with changes to its tensor."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4], **changes}
    return orjson.dumps({"inputs": [{k: v for k, v in tensor.items() if v is not ...}]})


def packed(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def refusal(signature: Signature, media: str, body: bytes, **headers: str) -> tuple[int, str, str]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    with pytest.raises(ConversionError) as caught:
        to_grpc(signature, media, body, given, ConversionLimits(max_body=100_000))
    return caught.value.status, caught.value.reason, caught.value.field


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]], [1.0, 2, 3.0, 4]])
def test_data_in_v2_json_are_flat_or_nested(data: object) -> None:
    values = first_array(to_grpc(NUMBERS, JSON, v2_json(data=data)), "<f4")
    assert values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "body",
    [
        b'{"x": [[1, 2], [3, 4]]}',
        b'{"x": [1, 2, 3, 4]}',
        b'{"inputs": {"x": [[1, 2], [3, 4]]}}',
        b'{"instances": [[1, 2], [3, 4]]}',
        b'{"instances": [{"x": [1, 2]}, {"x": [3, 4]}], "signature_name": "serving_default"}',
    ],
)
def test_shorter_forms_get_shape_and_datatype_from_the_declaration(body: bytes) -> None:
    assert to_grpc(NUMBERS, JSON, body).body == to_grpc(NUMBERS, JSON, v2_json()).body


def test_data_without_a_batch_dimension_become_a_batch_of_one() -> None:
    assert first_array(to_grpc(NUMBERS, JSON, b'{"x": [1, 2]}'), "<f4").tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("body", "items"),
    [
        (b'{"text": "a"}', [b"a"]),
        (b'{"words": "a"}', [b"a"]),
        (b'{"text": ["a", "b"]}', [b"a", b"b"]),
        (b'{"instances": ["a", {"b64": "/w=="}]}', [b"a", b"\xff"]),
    ],
)
def test_text_needs_no_name_shape_or_datatype(body: bytes, items: list[bytes]) -> None:
    request = sent(to_grpc(TEXT, JSON, body))
    assert list(request.inputs[0].shape) == [len(items)]
    assert list(request.raw_input_contents) == [packed(*items)]


def test_an_image_in_json_becomes_the_same_tensor_as_an_image_body() -> None:
    import base64

    signature = model(image_input())
    data = encoded(gradient_image(), "PNG")
    text = base64.b64encode(data)
    alone = to_grpc(signature, "image/png", data).body
    for body in (b'{"instances": [{"b64": "%s"}]}', b'{"image": {"b64": "%s"}}'):
        assert to_grpc(signature, JSON, body % text).body == alone


@pytest.mark.parametrize(
    ("body", "status", "reason", "field"),
    [
        (b"", 400, "empty_body", "body"),
        (b"{", 400, "not_json", "body"),
        (b"[]", 400, "not_an_object", "body"),
        (b"[" * 5000, 400, "not_json", "body"),
        (b'{"x": ' + b"[" * 20 + b"1" + b"]" * 20 + b"}", 400, "too_deep", "x"),
        (b'{"inputs": []}', 400, "no_inputs", "inputs"),
        (b'{"inputs": [7]}', 400, "wrong_type", "inputs[0]"),
        (b'{"inputs": [], "nope": 1}', 422, "unknown_member", "nope"),
        (b'{"instances": []}', 400, "no_inputs", "instances"),
        (b'{"instances": [{"x": [1, 2]}, {}]}', 422, "uneven_rows", "instances[1]"),
        (b'{"instances": [{"y": 1}]}', 422, "unknown_input", "instances[].y"),
        (b'{"y": 1}', 422, "unknown_input", "y"),
        (b'{"x": [1, 2, 3]}', 422, "wrong_count", "x"),
        (b'{"x": [[1, 2, 3]]}', 422, "wrong_shape", "x"),
        (b'{"x": [[1, 2], [3]]}', 400, "ragged", "x"),
        (b'{"x": [[1, 2], 3]}', 400, "ragged", "x"),
        (b'{"x": [1, [2]]}', 400, "ragged", "x[1]"),
        (b'{"x": [NaN, 1]}', 400, "not_json", "body"),
        (v2_json(data=[None, 1, 2, 3]), 422, "wrong_element", "inputs[0].data[0]"),
        (v2_json(data=[1, True, 2, 3]), 422, "wrong_element", "inputs[0].data[1]"),
        (v2_json(data=[1, 2, 3, "4"]), 422, "wrong_element", "inputs[0].data[3]"),
        (v2_json(data=[1, 2, 3, 1e39]), 422, "out_of_range", "inputs[0].data[3]"),
        (v2_json(data=[1, 2, 3]), 422, "wrong_count", "inputs[0].data"),
        (v2_json(data=[[1, 2, 3, 4]]), 422, "wrong_shape", "inputs[0].data"),
        (v2_json(data=5), 400, "wrong_type", "inputs[0].data"),
        (v2_json(data=...), 400, "no_data", "inputs[0].data"),
        (v2_json(shape=[4]), 422, "wrong_shape", "inputs[0].shape"),
        (v2_json(shape=[-2, -2]), 422, "wrong_shape", "inputs[0].shape"),
        (v2_json(shape=["2"]), 400, "wrong_type", "inputs[0].shape"),
        (v2_json(shape=...), 400, "wrong_type", "inputs[0].shape"),
        (v2_json(datatype="FP64"), 422, "wrong_datatype", "inputs[0].datatype"),
        (v2_json(datatype="FLOAT"), 422, "unknown_datatype", "inputs[0].datatype"),
        (v2_json(name="y"), 422, "unknown_input", "inputs[0].name"),
        (v2_json(name=""), 400, "wrong_type", "inputs[0].name"),
        (v2_json(extra=1), 422, "unknown_member", "inputs[0].extra"),
        (v2_json(parameters={"p": {}}), 422, "wrong_parameter", "inputs[0].parameters.p"),
    ],
)  # fmt: skip
def test_an_error_in_json_names_the_reason_and_the_place(
    body: bytes, status: int, reason: str, field: str
) -> None:
    assert refusal(NUMBERS, JSON, body) == (status, reason, field)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("UINT8", 256), ("UINT8", -1), ("INT8", 128), ("UINT16", 65536), ("INT16", -32769),
        ("UINT32", 1 << 32), ("INT32", 1 << 31), ("INT64", 1 << 63), ("UINT64", -1),
        ("FP16", 70000), ("BF16", 3.4e38), ("FP32", 3.5e38),
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_refused(datatype: str, value: float) -> None:
    body = v2_json(datatype=datatype, shape=[2], data=[0, value])
    assert refusal(model(), JSON, body) == (422, "out_of_range", "inputs[0].data[1]")


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("INT32", 1.0), ("INT32", True), ("BOOL", 1), ("BYTES", 1), ("FP64", "1"), ("UINT64", None)],
)
def test_a_value_of_another_type_is_refused(datatype: str, value: object) -> None:
    body = v2_json(datatype=datatype, shape=[1], data=[value])
    assert refusal(model(), JSON, body) == (422, "wrong_element", "inputs[0].data[0]")


def test_every_required_input_must_occur_exactly_once() -> None:
    tensor = orjson.loads(v2_json())["inputs"][0]
    twice = orjson.dumps({"inputs": [tensor, tensor]})
    assert refusal(NUMBERS, JSON, twice) == (422, "input_twice", "inputs[1].name")
    assert refusal(BOTH, JSON, v2_json()) == (422, "missing_input", "inputs")
    spare = model(*NUMBERS.inputs, tensor_input("words", "BYTES", -1, optional=True))
    assert len(sent(to_grpc(spare, JSON, v2_json())).inputs) == 1


def test_json_above_the_memory_limit_is_refused_before_parsing() -> None:
    body = b'{"x": [' + b",".join([b"{}"] * 600_000) + b"]}"
    with pytest.raises(ConversionError) as caught:
        to_grpc(NUMBERS, JSON, body, limits=ConversionLimits(max_json_memory=64 << 20))
    assert (caught.value.status, caught.value.reason) == (413, "json_too_large")


def _extended(*tensors: tuple[str, str, list[int], bytes], **members: object) -> tuple[str, bytes]:
    head = orjson.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "datatype": datatype,
                    "shape": shape,
                    "parameters": {"binary_data_size": len(raw)},
                }
                for name, datatype, shape, raw in tensors
            ],
            **members,
        }
    )
    return str(len(head)), head + b"".join(raw for *_, raw in tensors)


RAW = np.array([1, 2, 3, 4], "<f4").tobytes()


@pytest.mark.parametrize("media", [OCTETS, JSON, ""])
def test_binary_tensors_are_forwarded_unchanged(media: str) -> None:
    length, body = _extended(("x", "FP32", [2, 2], RAW), ("words", "BYTES", [1], packed(b"a")))
    request = sent(to_grpc(BOTH, media, body, {"inference-header-content-length": length}))
    assert list(request.raw_input_contents) == [RAW, packed(b"a")]
    assert not request.inputs[0].parameters


@pytest.mark.parametrize(
    ("length", "tail", "status", "reason", "field"),
    [
        ("x", b"", 400, "bad_header_length", "inference-header-content-length"),
        ("99999", b"", 400, "bad_header_length", "inference-header-content-length"),
        ("-1", b"", 400, "bad_header_length", "inference-header-content-length"),
        (None, b"more", 400, "trailing_bytes", "body"),
        (None, None, 400, "bad_data_size", "inputs[0].parameters.binary_data_size"),
    ],
)
def test_binary_tensors_with_inconsistent_lengths_are_refused(
    length: str | None, tail: bytes | None, status: int, reason: str, field: str
) -> None:
    true_length, body = _extended(("x", "FP32", [2, 2], RAW))
    body = body[:-1] if tail is None else body + tail
    given = {"inference_header_content_length": length or true_length}
    assert refusal(NUMBERS, OCTETS, body, **given) == (status, reason, field)


def test_a_bytes_element_longer_than_the_data_is_refused() -> None:
    length, body = _extended(("words", "BYTES", [1], b"\xff\xff\xff\x7fab"))
    assert refusal(TEXT, OCTETS, body, inference_header_content_length=length) == (
        400, "bytes_truncated", "inputs[0].data",
    )  # fmt: skip


def test_raw_bytes_become_the_only_input() -> None:
    assert to_grpc(NUMBERS, OCTETS, RAW).body == to_grpc(NUMBERS, JSON, v2_json()).body
    assert list(sent(to_grpc(TEXT, OCTETS, b"hi")).raw_input_contents) == [packed(b"hi")]
    assert refusal(NUMBERS, OCTETS, RAW[:-1]) == (422, "wrong_count", "body")
    assert refusal(NUMBERS, OCTETS, RAW[:12]) == (422, "wrong_count", "body")
    assert refusal(NUMBERS, OCTETS, b"") == (400, "empty_body", "body")
    assert refusal(BOTH, OCTETS, RAW) == (422, "input_not_named", "body")


def test_raw_pixels_get_the_declared_image_size() -> None:
    declared = image_input().model_copy(update={"shape": (-1, -1, -1, 3)})
    request = sent(to_grpc(model(declared), OCTETS, bytes(2 * 12 * 16 * 3)))
    assert list(request.inputs[0].shape) == [2, 12, 16, 3]


def test_a_tensor_request_with_only_data_gets_the_rest_from_the_declaration() -> None:
    wanted = to_grpc(NUMBERS, JSON, v2_json()).body
    for message in (
        tensor_pb2.TensorRequest(data=RAW),
        tensor_pb2.TensorRequest(data=RAW, shape=[2, 2], datatype="FP32", name="x"),
    ):
        assert to_grpc(NUMBERS, PROTOBUF, message.SerializeToString()).body == wanted
    bare = tensor_pb2.TensorRequest(data=RAW, shape=[4], datatype="FP32")
    assert refusal(model(), PROTOBUF, bare.SerializeToString())[:2] == (422, "input_not_named")


def _infer(**contents: object) -> v2.ModelInferRequest:
    request = v2.ModelInferRequest(model_name="another", model_version="9", id="7")
    request.inputs.add(name="x", datatype="FP32", shape=[2, 2], contents=contents or None)
    return request


def test_a_model_infer_request_gets_raw_contents_and_the_authorized_model() -> None:
    raw = _infer()
    raw.raw_input_contents.append(RAW)
    for message in (raw, _infer(fp32_contents=[1, 2, 3, 4])):
        request = sent(to_grpc(NUMBERS, "application/protobuf", message.SerializeToString()))
        assert (request.model_name, request.model_version, request.id) == ("m", "1", "7")
        assert list(request.raw_input_contents) == [RAW]


def test_invalid_protobuf_is_refused() -> None:
    both = _infer(fp32_contents=[1, 2, 3, 4])
    both.raw_input_contents.append(RAW)
    many = _infer()
    many.raw_input_contents.extend((RAW, RAW))
    for message, reason in ((both, "data_twice"), (many, "wrong_entry_count")):
        assert refusal(NUMBERS, PROTOBUF, message.SerializeToString())[:2] == (400, reason)
    assert refusal(NUMBERS, PROTOBUF, b"\xff\xff") == (400, "not_protobuf", "body")
    assert refusal(NUMBERS, PROTOBUF, b"") == (400, "empty_body", "body")
    named = f"{PROTOBUF}; messageType=sluice.v1.TensorRequest"
    assert refusal(NUMBERS, named, _infer().SerializeToString())[1] == "not_protobuf"
    assert refusal(NUMBERS, f'{PROTOBUF}; proto="x.Y"', b"a")[:2] == (415, "unknown_message")


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body)[2:-4]),
        ("br", brotli.compress),
        ("zstd", zstd.compress),
        ("zstd", lambda body: zstd.compress(body[:9]) + zstd.compress(body[9:])),
        ("identity", bytes),
        ("br, gzip", lambda body: gzip.compress(brotli.compress(body))),
        ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
    ],
)
def test_compressed_bodies_are_decompressed(coding: str, compress: object) -> None:
    assert callable(compress)
    converted = to_grpc(NUMBERS, JSON, compress(v2_json()), {"content-encoding": coding})
    assert converted.body == to_grpc(NUMBERS, JSON, v2_json()).body
    assert "content-encoding" in converted.remove


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", brotli.compress),
        ("zstd", zstd.compress),
    ],
)
def test_too_large_or_damaged_compressed_bodies_are_refused(coding: str, compress: object) -> None:
    assert callable(compress)
    bomb = compress(bytes(50_000_000))
    given = {"content_encoding": coding}
    assert refusal(NUMBERS, JSON, bomb, **given) == (413, "body_too_large", "body")
    whole = compress(v2_json())
    assert refusal(NUMBERS, JSON, whole[:-3], **given) == (400, "broken_coding", "body")
    assert refusal(NUMBERS, JSON, whole + b"more", **given) == (400, "broken_coding", "body")
    assert refusal(NUMBERS, JSON, b"plain", **given) == (400, "broken_coding", "body")


@pytest.mark.parametrize(("coding", "member"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_too_many_compressed_members_are_refused(
    coding: str, member: Callable[[bytes], bytes]
) -> None:
    body = member(b" ") * 4000
    assert refusal(NUMBERS, JSON, body, content_encoding=coding)[1] == "broken_coding"


def test_a_zstd_window_over_8_mib_is_refused() -> None:
    """As RFC 9659 demands: the decoder would allocate the window."""
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 24}
    padded = v2_json() + b" " * (9 << 20)
    with io.BytesIO() as written:
        # A file does not know its size when it begins, so the window is as large as the option.
        with zstd.open(written, "wb", options=options) as file:
            file.write(padded)
        body = written.getvalue()
    assert refusal(NUMBERS, JSON, body, content_encoding="zstd")[:2] == (400, "broken_coding")


def test_unknown_and_too_many_codings_are_refused() -> None:
    assert refusal(NUMBERS, JSON, b"x", content_encoding="compress")[:2] == (
        415, "unknown_coding",
    )  # fmt: skip
    many = refusal(NUMBERS, JSON, b"x", content_encoding="br, br, br")
    assert many[:2] == (415, "too_many_codings")


def test_a_wrong_content_length_is_refused() -> None:
    assert refusal(NUMBERS, JSON, v2_json(), content_length="7") == (
        400, "content_length_mismatch", "content-length",
    )  # fmt: skip


def test_a_rest_server_gets_v2_json() -> None:
    converter = Converters(BOTH, "http").choose(OCTETS)
    assert converter is not None
    length, body = _extended(("x", "FP32", [1, 2], RAW[:8]), ("words", "BYTES", [1], packed(b"a")))
    headers = {"inference-header-content-length": length, "content-type": OCTETS}
    kept = converter.convert_request(body, headers)
    assert kept.body == body
    assert "inference-header-content-length" not in kept.remove
    plain = Converters(BOTH, "http").choose(JSON)
    assert plain is not None
    converted = plain.convert_request(b'{"x": [[1, 0.1]], "text": "a"}', {})
    assert orjson.loads(converted.body) == {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 0.1]},
            {"name": "words", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        ]
    }
    assert converted.headers[":path"] == "/v2/models/m/versions/1/infer"
    own = b' {"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]},' \
          b'{"name":"words","datatype":"BYTES","shape":[1],"data":["a"]}]}'  # fmt: skip
    assert plain.convert_request(own, {}).body == own


def test_a_rest_server_gets_no_values_that_json_cannot_represent() -> None:
    converter = Converters(NUMBERS, "http").choose(OCTETS)
    assert converter is not None
    with pytest.raises(ConversionError) as caught:
        converter.convert_request(np.array([np.nan, 1], "<f4").tobytes(), {})
    assert (caught.value.status, caught.value.reason) == (422, "not_finite")


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("media", [JSON, ""])
def test_a_byte_order_mark_before_json_is_ignored(media: str) -> None:
    converter = Converters(NUMBERS, "grpc").choose(media)
    assert converter is not None
    plain = converter.convert_request(v2_json(), {"content-type": media})
    assert converter.convert_request(BOM + v2_json(), {"content-type": media}).body == plain.body


def test_a_byte_order_mark_is_not_sent_to_a_rest_server() -> None:
    converter = Converters(NUMBERS, "http").choose(JSON)
    assert converter is not None
    assert converter.convert_request(BOM + v2_json(), {"content-type": JSON}).body == v2_json()


def test_a_byte_order_mark_before_binary_data_counts_in_the_length_of_the_header() -> None:
    length, body = _extended(("x", "FP32", [2, 2], RAW))
    converter = Converters(NUMBERS, "grpc").choose(OCTETS)
    assert converter is not None
    plain = converter.convert_request(body, {"inference-header-content-length": length})
    longer = {"inference-header-content-length": str(int(length) + len(BOM))}
    assert converter.convert_request(BOM + body, longer).body == plain.body


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_json_that_is_not_utf_8_is_refused_with_the_cause(encoding: str) -> None:
    converter = Converters(NUMBERS, "grpc").choose(JSON)
    assert converter is not None
    with pytest.raises(ConversionError) as caught:
        converter.convert_request(v2_json().decode().encode(encoding), {})
    assert (caught.value.status, caught.value.reason) == (400, "not_json")
    assert caught.value.detail == "must be JSON in UTF-8, not in UTF-16 or UTF-32"


@pytest.mark.parametrize("media", ["text/json", "application/vnd.example+json; charset=utf-8"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_other_names_of_json_are_converted_as_json(media: str, protocol: ServerProtocol) -> None:
    converters = Converters(NUMBERS, protocol)
    converter = converters.choose(media)
    assert converter is not None
    assert converter is converters.choose(JSON)
    converted = converter.convert_request(v2_json(), {"content-type": media})
    assert converted == converter.convert_request(v2_json(), {"content-type": JSON})


def test_bodies_that_need_no_conversion_have_no_converter() -> None:
    assert Converters(NUMBERS, "grpc").choose("application/grpc") is None
    assert Converters(NUMBERS, "grpc").choose("application/grpc+proto") is None
    assert Converters(model(), "http").choose(JSON) is None
    assert Converters(NUMBERS, "http").choose("text/csv") is None


@pytest.mark.parametrize("media", ["text/csv", "image/jpeg", "multipart/form-data", "video/mp4"])
def test_a_media_type_that_a_grpc_server_cannot_read_is_refused(media: str) -> None:
    with pytest.raises(ConversionError) as caught:
        Converters(NUMBERS, "grpc").choose(media)
    assert (caught.value.status, caught.value.field) == (415, "content-type")


@pytest.mark.parametrize("sizes", [(40_000,), (8, 40_000), (40_000, 8), (40_000, 40_000), (8, 8)])
def test_large_tensors_are_not_copied_into_the_message(sizes: tuple[int, ...]) -> None:
    head = orjson.dumps(
        {
            "inputs": [
                {
                    "name": f"x{i}",
                    "datatype": "UINT8",
                    "shape": [size],
                    "parameters": {"binary_data_size": size},
                }
                for i, size in enumerate(sizes)
            ]
        }
    )
    body = head + b"".join(bytes((i,)) * size for i, size in enumerate(sizes))
    converted = to_grpc(model(), OCTETS, body, {"inference-header-content-length": str(len(head))})
    raw = sent(converted).raw_input_contents
    assert list(raw) == [bytes((i,)) * size for i, size in enumerate(sizes)]
    content = converted.content
    buffers = () if isinstance(content, bytes) else content.buffers
    views = [buffer for buffer in buffers if isinstance(buffer, memoryview)]
    assert all(view.obj is body for view in views)
    assert len(views) == sum(size >= 40_000 for size in sizes)
