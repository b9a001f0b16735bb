"""Checks the messages of unconverted gRPC calls: each one must name the admitted model."""

import asyncio
import gzip
import inspect
import struct
import tracemalloc
import zlib
from itertools import pairwise

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from extproc.convert import ConversionPool
from extproc.decision import Reason, Refusal
from extproc.decision.refusals import MEMORY_EXHAUSTED
from extproc.memory_budget import MemoryBudget
from extproc.policy.compiled import Target
from extproc.services.ext_proc.grpc_body_check import BodyChecks, GrpcBodyCheck
from extproc.services.ext_proc.grpc_messages import STEP_MESSAGES
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
        memory = MemoryBudget(100 << 20)
        call = GrpcBodyCheck(TARGET, limit, headers(method, coding), BodyChecks(pool, memory))
        try:
            for index, piece in enumerate(pieces):
                found = call.check(piece, last=index == len(pieces) - 1)
                refusal = await found if inspect.isawaitable(found) else found
                if refusal is not None:
                    return refusal
            assert memory.used == 0
        finally:
            call.close()
            assert memory.used == 0
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


_CUTS = st.lists(st.integers(1, len(MESSAGE) + 4), max_size=4)


def pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    """The body, cut at these places."""
    places = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


@given(patches=_PATCHES, cut=st.integers(0, len(MESSAGE)), cuts=_CUTS)
def test_a_message_that_a_server_could_not_parse_is_refused(
    patches: list[tuple[int, int]], cut: int, cuts: list[int]
) -> None:
    broken = bytearray(MESSAGE)
    for place, value in patches:
        broken[place] = value
    message = bytes(broken[:cut])
    try:
        ModelInferRequest.FromString(message)
    except DecodeError:
        assert judged(*pieces(frame(message), cuts)) is Reason.MALFORMED_REQUEST
    else:
        assert judged(*pieces(frame(message), cuts)) is not Reason.MALFORMED_REQUEST


_FIELDS = st.sampled_from(
    [
        b"\x0a\x01m", b"\x0a\x01n", b"\x12\x02v1", b"\x3a\x03abc", b"\x3a\x83\x00abc",
        b"\xba\x00\x01a",
        b"\x3b\x08\x01\x3c", b"\x3c", b"\x38\x01", b"\x39" + bytes(8), b"\x3d" + bytes(4), b"\x00",
        b"\x07",
        b"\x0a\x02\xff\xff", b"\x3a\x80\x80\x80\x80\x80\x00", b"\x78" + b"\xff" * 9 + b"\x01",
        b"\x78" + b"\xff" * 10 + b"\x01", b"\x2a\x03\x0a\x01a", b"\x2a\x02\x0a\x05", b"\x3a\x05a",
    ]
)  # fmt: skip
"""Fields of a ModelRequest: valid, invalid, in unusual encodings, and of unknown numbers."""


@given(fields=st.lists(_FIELDS, max_size=6), cuts=_CUTS, many=st.booleans())
def test_a_message_in_pieces_is_judged_as_a_whole_one(
    fields: list[bytes], cuts: list[int], many: bool
) -> None:
    message = (b"\x38\x01" * 1200 if many else b"") + b"".join(fields)
    try:
        parsed = ModelRequest.FromString(message)
    except DecodeError:
        expected = Reason.MALFORMED_REQUEST
    else:
        admitted = parsed.name == "m" and parsed.version in ("", "v1")
        expected = None if admitted else Reason.MODEL_MISMATCH
    assert judged(*pieces(frame(message), cuts), limit=10_000) is expected


def checks(memory: MemoryBudget) -> BodyChecks:
    return BodyChecks(ConversionPool(), memory)


async def checked(call: GrpcBodyCheck, piece: bytes, *, last: bool = False) -> Refusal | None:
    found = call.check(piece, last=last)
    return await found if inspect.isawaitable(found) else found


def test_an_incomplete_message_holds_no_tensor_contents() -> None:
    memory = MemoryBudget(2 << 20)
    shared = checks(memory)
    body = frame(infer(raw=bytes(10 << 20)))
    for _ in range(60):
        call = GrpcBodyCheck(TARGET, 20 << 20, headers(), shared)
        for start in range(0, len(body) - 1, 1 << 20):
            assert call.check(body[start : start + (1 << 20)][:-1], last=False) is None
    assert memory.used < 60 * 1000


def typed() -> bytes:
    """A message without raw contents, which must be held until it is complete."""
    request = ModelInferRequest(model_name="m")
    request.inputs.add(name="a", datatype="FP32").contents.fp32_contents[:] = [0] * 10_000
    return frame(request.SerializeToString())


def test_incomplete_messages_are_refused_when_they_take_half_of_the_memory() -> None:
    memory = MemoryBudget(200_000)
    shared = checks(memory)
    body = typed()
    calls = [GrpcBodyCheck(TARGET, 100_000, headers(), shared) for _ in range(3)]
    refusals = [call.check(body[:-1], last=False) for call in calls]
    assert refusals == [None, None, MEMORY_EXHAUSTED]
    assert (MEMORY_EXHAUSTED.status, MEMORY_EXHAUSTED.headers) == (503, (("retry-after", "1"),))
    assert 70_000 < memory.used <= 100_000
    assert memory.refused == 1
    assert calls[0].check(body[-1:], last=True) is None
    assert memory.used < 50_000
    for call in calls:
        call.close()
        call.close()
    assert memory.used == 0


def test_many_compressed_messages_are_inflated_one_by_one() -> None:
    bomb = frame(gzip.compress(infer(raw=bytes(10 << 20))), compressed=True)

    async def read() -> None:
        call = GrpcBodyCheck(
            TARGET, 20 << 20, headers(STREAM, "gzip"), checks(MemoryBudget(1 << 20))
        )
        tracemalloc.start()
        try:
            assert await checked(call, bomb * 20, last=True) is None
            assert tracemalloc.get_traced_memory()[1] < 5 << 20
        finally:
            tracemalloc.stop()

    asyncio.run(read())


def test_an_incomplete_compressed_message_reserves_the_memory_of_zlib() -> None:
    memory = MemoryBudget(10 << 20)

    async def read() -> None:
        call = GrpcBodyCheck(TARGET, LIMIT, headers(coding="gzip"), checks(memory))
        assert await checked(call, frame(gzip.compress(infer()), compressed=True)[:-1]) is None
        assert memory.used >= 32 << 10
        call.close()
        assert memory.used == 0

    asyncio.run(read())


def test_other_work_runs_between_the_steps_of_many_messages() -> None:
    turns = 0

    async def other_work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def read() -> None:
        shared = checks(MemoryBudget(1 << 20))
        calls = [GrpcBodyCheck(TARGET, LIMIT, headers(STREAM), shared) for _ in range(2)]
        other = asyncio.create_task(other_work())
        body = frame(infer(raw=b"")) * 50 * STEP_MESSAGES
        await asyncio.gather(*[checked(call, body, last=True) for call in calls])
        other.cancel()

    asyncio.run(read())
    assert turns >= 2 * 49  # both calls together take one step in a turn


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
        checks = BodyChecks(pool, MemoryBudget(100 << 20))
        calls = [
            GrpcBodyCheck(TARGET, 2 << 20, headers(coding="gzip"), checks, caller)
            for caller in ("a", "b")
        ]
        one, two = (call.check(message, last=True) for call in calls)
        assert inspect.isawaitable(one)
        assert inspect.isawaitable(two)
        admitted, refused = await asyncio.gather(one, two)
        assert admitted is None
        assert isinstance(refused, Refusal)
        assert (refused.status, refused.headers) == (503, (("retry-after", "1"),))
        pool.close()

    asyncio.run(read())
