"""Checks the messages of unconverted gRPC calls: each one must name the admitted model."""

import asyncio
import gzip
import inspect
import struct
import zlib

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from extproc.convert import ConversionPool
from extproc.decision import Reason, Refusal
from extproc.policy.compiled import Target
from extproc.services.ext_proc.grpc_body_check import GrpcBodyCheck
from protos.inference_pb2 import ModelInferRequest, ModelMetadataRequest, ModelReadyRequest
from protos.model_request_pb2 import ModelRequest

LIMIT = 1000
STREAM = "ModelStreamInfer"
TARGET = Target("m", "v1", "m/v1", "grpc")


def frame(message: bytes, *, compressed: bool = False) -> bytes:
    return struct.pack(">BI", compressed, len(message)) + message


def infer(model: str = "m", version: str = "", raw: bytes = bytes(100)) -> bytes:
    request = ModelInferRequest(model_name=model, model_version=version, raw_input_contents=[raw])
    return request.SerializeToString()


def headers(method: str = "ModelInfer", coding: str = "") -> dict[str, bytes]:
    path = f"/inference.GRPCInferenceService/{method}"
    return {":path": path.encode(), "grpc-encoding": coding.encode()}


def judged(
    *pieces: bytes, coding: str = "", limit: int = LIMIT, method: str = "ModelInfer"
) -> Reason | None:
    """The reason for which a body in chunks is refused; None if it passes."""

    async def read() -> Refusal | None:
        pool = ConversionPool()
        call = GrpcBodyCheck(TARGET, limit, headers(method, coding), pool)
        try:
            for index, piece in enumerate(pieces):
                found = call.check(piece, last=index == len(pieces) - 1)
                refusal = await found if inspect.isawaitable(found) else found
                if refusal is not None:
                    return refusal
        finally:
            pool.close()
        return None

    refusal = asyncio.run(read())
    return None if refusal is None else refusal.reason


@pytest.mark.parametrize(
    "message",
    [
        infer(),
        infer(version="v1"),
        ModelReadyRequest(name="m").SerializeToString(),
        ModelMetadataRequest(name="m", version="v1").SerializeToString(),
    ],
)
def test_a_message_that_names_the_admitted_model_passes(message: bytes) -> None:
    assert judged(frame(message)) is None


@pytest.mark.parametrize(
    "message",
    [
        infer("n"),
        infer("M"),
        infer("m "),
        infer(""),
        b"",
        infer(version="v2"),
        infer("m") + infer("n"),
        ModelReadyRequest(name="n").SerializeToString(),
    ],
    ids=["another", "case", "space", "empty", "nothing", "version", "a second name", "ready"],
)
def test_a_message_that_names_another_model_is_refused(message: bytes) -> None:
    assert judged(frame(message)) is Reason.MODEL_MISMATCH


def test_every_message_of_a_stream_is_checked() -> None:
    good, bad = frame(infer()), frame(infer("n"))
    assert judged(good + good, good, method=STREAM) is None
    assert judged(good + good, bad, method=STREAM) is Reason.MODEL_MISMATCH
    assert judged(good + bad + good, method=STREAM) is Reason.MODEL_MISMATCH


def test_a_method_without_streaming_takes_one_message() -> None:
    good = frame(infer())
    assert judged(good + good) is Reason.MALFORMED_REQUEST
    assert judged(good, good) is Reason.MALFORMED_REQUEST
    assert judged(good[:9], good[9:], b"") is None


@given(cuts=st.lists(st.integers(0, 400), max_size=6).map(sorted))
def test_chunk_boundaries_do_not_change_the_result(cuts: list[int]) -> None:
    for model, expected in (("m", None), ("n", Reason.MODEL_MISMATCH)):
        body = frame(infer()) + frame(infer()) + frame(infer(model))
        ends = [*cuts, len(body)]
        pieces = [body[start:end] for start, end in zip([0, *cuts], ends, strict=True)]
        assert judged(*pieces, method=STREAM) is expected


def test_the_server_never_gets_the_end_of_a_refused_message() -> None:
    body = frame(infer("n"))
    assert judged(body[:-1], b"") is Reason.MALFORMED_REQUEST
    assert judged(body[:-1], body[-1:]) is Reason.MODEL_MISMATCH


@pytest.mark.parametrize(
    "body",
    [b"\0\0\0", frame(infer())[:-1], frame(b"\xff\xff"), b"\2" + frame(infer())[1:]],
    ids=["prefix", "cut", "no protobuf", "flags"],
)
def test_an_incomplete_or_invalid_message_is_refused(body: bytes) -> None:
    assert judged(body) is Reason.MALFORMED_REQUEST


def whole() -> ModelInferRequest:
    request = ModelInferRequest(model_name="m", id="7")
    request.inputs.add(name="a", datatype="FP32", shape=[1, -1]).contents.fp32_contents[:] = [1, 2]
    request.inputs[0].parameters["p"].string_param = "é"
    request.outputs.add(name="b").parameters["q"].bool_param = True
    request.parameters["r"].double_param = 0.5
    return request


MESSAGE = whole().SerializeToString()
_PATCHES = st.lists(st.tuples(st.integers(0, len(MESSAGE) - 1), st.integers(0, 255)), max_size=3)


@given(patches=_PATCHES, cut=st.integers(0, len(MESSAGE)))
def test_a_message_that_a_server_could_not_parse_is_refused(
    patches: list[tuple[int, int]], cut: int
) -> None:
    broken = bytearray(MESSAGE)
    for place, value in patches:
        broken[place] = value
    message = bytes(broken[:cut])
    try:
        ModelInferRequest.FromString(message)
    except DecodeError:
        assert judged(frame(message)) is Reason.MALFORMED_REQUEST
    else:
        assert judged(frame(message)) is not Reason.MALFORMED_REQUEST


def test_model_request_has_the_fields_of_the_protocol() -> None:
    """The same numbers and types. Repeated messages, strings and bytes are singular in ours."""
    single = {FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}

    def fields(one: Descriptor) -> set[tuple[int, int, bool]]:
        return {
            (field.number, field.type, field.is_repeated and field.type not in single)
            for field in one.fields
        }

    pairs, seen = [(ModelRequest.DESCRIPTOR, ModelInferRequest.DESCRIPTOR)], 0
    while pairs:
        ours, theirs = pairs.pop()
        assert fields(ours) == fields(theirs), ours.full_name
        seen += 1
        for field in ours.fields:
            if field.message_type is not None:
                other = theirs.fields_by_number[field.number].message_type
                assert other is not None
                pairs.append((field.message_type, other))
    assert seen > 5


@pytest.mark.parametrize("method", ["ServerLive", "ServerReady?x=1", "ServerMetadata"])
def test_a_message_to_a_server_method_must_be_complete(method: str) -> None:
    assert judged(frame(b""), method=method) is None
    assert judged(frame(infer("n")), method=method) is None
    assert judged(frame(gzip.compress(b""), compressed=True), coding="gzip", method=method) is None
    for body in (b"\0\0", frame(b"12345")[:-1], frame(b"\xff\xff"), frame(b"x", compressed=True)):
        assert judged(body, coding="gzip", method=method) is Reason.MALFORMED_REQUEST
    assert judged(frame(bytes(LIMIT + 1))[:5], method=method) is Reason.BODY_TOO_LARGE


def test_a_too_large_message_is_refused_when_its_prefix_arrives() -> None:
    assert judged(frame(infer(raw=bytes(LIMIT)))[:5]) is Reason.BODY_TOO_LARGE
    assert judged(*[frame(infer())] * 20, method=STREAM) is None


@pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_compressed_message_is_checked_too(coding: str, compress: object) -> None:
    assert callable(compress)
    good, bad = (frame(compress(infer(model)), compressed=True) for model in "mn")
    assert judged(frame(infer()) + good, coding=coding, method=STREAM) is None
    assert judged(good + bad, coding=coding, method=STREAM) is Reason.MODEL_MISMATCH
    bomb = frame(compress(infer(raw=bytes(LIMIT))), compressed=True)
    assert judged(bomb, coding=coding) is Reason.BODY_TOO_LARGE


@pytest.mark.parametrize(
    "message",
    [gzip.compress(infer())[:-1], gzip.compress(infer()) * 2, gzip.compress(infer()) + b"\0", b"x"],
    ids=["cut", "two members", "trailing", "no gzip"],
)
def test_a_message_that_servers_decompress_differently_is_refused(message: bytes) -> None:
    assert judged(frame(message, compressed=True), coding="gzip") is Reason.MALFORMED_REQUEST


@pytest.mark.parametrize("coding", ["", "identity", "snappy"])
def test_an_unsupported_encoding_is_refused(coding: str) -> None:
    message = frame(gzip.compress(infer()), compressed=True)
    assert judged(message, coding=coding) is Reason.UNSUPPORTED_MEDIA_TYPE


def test_a_full_decompression_queue_refuses_with_retry_after() -> None:
    async def read() -> None:
        pool = ConversionPool(threads=1, queue=0)
        message = frame(gzip.compress(infer(raw=bytes(1 << 20))), compressed=True)
        calls = [GrpcBodyCheck(TARGET, 2 << 20, headers(coding="gzip"), pool) for _ in range(2)]
        one, two = (call.check(message, last=True) for call in calls)
        assert inspect.isawaitable(one)
        assert inspect.isawaitable(two)
        admitted, refused = await asyncio.gather(one, two)
        assert admitted is None
        assert isinstance(refused, Refusal)
        assert (refused.status, refused.headers) == (503, (("retry-after", "1"),))
        pool.close()

    asyncio.run(read())
