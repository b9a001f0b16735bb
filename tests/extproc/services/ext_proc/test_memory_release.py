"""However its streams end, a worker releases all memory that they reserved."""

import asyncio
import gzip
import json
import struct
from collections import Counter
from collections.abc import Iterator
from random import Random

import pytest

from extproc.convert import ConversionPool
from extproc.framing import length_prefixed
from extproc.memory_budget import MemoryBudget
from extproc.policy.current import CurrentPolicy
from extproc.services.decider import Decider
from extproc.services.ext_proc.service import ExternalProcessor
from extproc.transport import Counters, TransportLimits
from extproc.transport.aio.call import ServerCall, ServerState
from extproc.transport.aio.deadlines import Deadlines
from extproc.transport.aio.turns import Turns
from extproc.transport.grpc.requests import GrpcRequest, request_parser
from extproc.transport.http2 import frames
from extproc.transport.http2.connection import Connection
from extproc.transport.http2.errors import ErrorCode
from extproc.transport.http2.header_blocks import encode_literal
from protos.ext_proc_pb2 import HttpBody, HttpHeaders, ProcessingRequest
from protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from sluice.config import PolicyDocument
from sluice.contract.headers import CLIENT_ADDRESS
from sluice.contract.paths import EXT_PROC
from tests.extproc.auth.tokens import NOW
from tests.extproc.decision.requests import VERSIONS, document

_STREAMS = 12
_REST, _CONVERTED_REST, _CHECKED = "json", "gzip", "grpc"


def _policy() -> PolicyDocument:
    grpc_versions = {"v1": {**VERSIONS["v1"], "protocol": "grpc"}}
    inputs = [{"name": "x", "datatype": "INT32", "shape": [-1]}]
    return document({"t": {"versions": grpc_versions, "inputs": inputs, "max_body": 200_000}})


class Worker:
    """The transport without sockets, the ext_proc service and its threads, with little memory."""

    def __init__(self, random: Random) -> None:
        self.memory = MemoryBudget(random.choice((100_000, 400_000, 2_000_000)))
        self.pool = ConversionPool(threads=2, queue=3, memory=self.memory)
        if random.random() < 0.3:
            self.pool.set_timeout(0.004)
        policy = CurrentPolicy()
        policy.apply(_policy())
        service = ExternalProcessor(Decider(policy, lambda: NOW), self.pool, self.memory)
        loop = asyncio.get_running_loop()
        limits = TransportLimits(max_message=self.memory.limit)
        self.state = ServerState(limits, Counters(), Deadlines(loop), self.memory, Turns(loop))
        self.connections = [
            Connection(
                limits=limits,
                counters=self.state.counters,
                parse_request=request_parser({EXT_PROC: service.open}),
                open_stream=self._open_stream,
                on_output=lambda: None,
                now=0.0,
            )
            for _ in range(2)
        ]
        for connection in self.connections:
            window = random.choice((100, frames.DEFAULT_WINDOW))
            settings = frames.settings({frames.INITIAL_WINDOW_SIZE: window})
            connection.receive_data(frames.PREFACE + settings, 0.0)

    def _open_stream(
        self, connection: Connection[GrpcRequest], stream_id: int, request: GrpcRequest
    ) -> ServerCall:
        return ServerCall(connection, stream_id, request, self.state)

    async def ended(self) -> None:
        """Wait until no thread and no task works any more."""
        while self.pool.pending or self.state.tasks:  # noqa: ASYNC110  (threads end on their own)
            await asyncio.sleep(0)
        self.pool.close()
        self.state.deadlines.close()


def _events(random: Random, worker: Worker) -> Iterator[None]:
    """Some streams, whose frames are interleaved. Each may end in any way after any frame."""
    streams = [
        (random.choice(worker.connections), 2 * number + 1, _frames(random, 2 * number + 1))
        for number in range(_STREAMS)
    ]
    begun: set[int] = set()
    while streams:
        # A connection accepts new streams in the order of their numbers.
        unbegun = [stream_id for _, stream_id, _ in streams if stream_id not in begun]
        allowed = begun | set(unbegun[:1])
        stream = random.choice([stream for stream in streams if stream[1] in allowed])
        connection, stream_id, parts = stream
        begun.add(stream_id)
        data = next(parts, None)
        choice = random.random()
        if data is None or choice < 0.04:
            data = random.choice(
                (
                    frames.rst_stream(stream_id, ErrorCode.CANCEL),
                    frames.frame(frames.DATA, frames.END_STREAM, stream_id, b""),
                )
            )
            streams.remove(stream)
        connection.receive_data(data, 0.0)
        if choice > 0.995:
            connection.connection_lost()
            streams = [stream for stream in streams if stream[0] is not connection]
        while connection.take_output() and random.random() < 0.9:
            pass
        yield


def _frames(random: Random, stream_id: int) -> Iterator[bytes]:
    block = b"\x83\x86" + encode_literal(b":path", EXT_PROC.encode())
    block += encode_literal(b"content-type", b"application/grpc")
    if random.random() < 0.1:
        block += encode_literal(b"grpc-timeout", b"3m")
    yield frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, block)
    content = b"".join(length_prefixed(part.SerializeToString()) for part in _parts(random))
    while content:
        size = random.choice((100, 5_000, frames.DEFAULT_FRAME_SIZE))
        yield frames.frame(frames.DATA, 0, stream_id, content[:size])
        content = content[size:]


def _parts(random: Random) -> Iterator[ProcessingRequest]:
    kind = random.choice((_REST, _CONVERTED_REST, _CHECKED))
    numbers = list(range(random.choice((2, 5_000, 20_000))))
    headers = {":method": b"POST", CLIENT_ADDRESS: b"10.0.%d.1" % random.randrange(3)}
    if kind == _CHECKED:
        message = ModelInferRequest(model_name="t", raw_input_contents=[bytes(8)])
        message.inputs.add(name="x" * len(numbers), datatype="INT32", shape=[2])
        plain = message.SerializeToString()
        sent = [gzip.compress(plain, 1) if random.random() < 0.5 else plain for _ in range(3)]
        body = b"".join(struct.pack(">BI", m[:2] == b"\x1f\x8b", len(m)) + m for m in sent)
        headers[":path"] = b"/inference.GRPCInferenceService/ModelStreamInfer"
        headers |= {"content-type": b"application/grpc", "grpc-encoding": b"gzip"}
        headers["x-model-name"] = b"t"
    else:
        tensor = {"name": "x", "datatype": "INT32", "shape": [len(numbers)], "data": numbers}
        body = json.dumps({"inputs": [tensor]}).encode()
        headers |= {":path": b"/v2/models/t/infer", "content-type": b"application/json"}
        if kind == _CONVERTED_REST:
            headers["content-encoding"] = b"gzip"
            body = gzip.compress(body, 1)
        headers["content-length"] = b"%d" % len(body)
    yield ProcessingRequest(request_headers=_headers(headers))
    size = random.choice((1_000, 100_000)) if kind == _CHECKED else len(body)
    for start in range(0, len(body), size):
        piece = HttpBody(body=body[start : start + size], end_of_stream=start + size >= len(body))
        yield ProcessingRequest(request_body=piece)
    if kind != _CHECKED:
        answer = ModelInferResponse(model_name="t", raw_output_contents=[bytes(4 * len(numbers))])
        answer.outputs.add(name="y", datatype="INT32", shape=[len(numbers)])
        framed = length_prefixed(answer.SerializeToString())
        fields = {":status": b"200", "content-type": b"application/grpc"}
        yield ProcessingRequest(response_headers=_headers(fields))
        yield ProcessingRequest(response_body=HttpBody(body=framed, end_of_stream=True))


def _headers(fields: dict[str, bytes]) -> HttpHeaders:
    message = HttpHeaders()
    for name, value in fields.items():
        message.headers.headers.add(key=name, raw_value=value)
    return message


# A task that is cancelled before its first step never awaits its coroutine.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_all_memory_is_released_however_streams_end() -> None:
    ends: Counter[str] = Counter()

    async def run(seed: int) -> None:
        random = Random(seed)
        worker = Worker(random)
        pauses = random.choice((0.0, 0.3, 0.9))
        for _ in _events(random, worker):
            assert 0 <= worker.memory.used <= worker.memory.limit
            if random.random() < pauses:
                await asyncio.sleep(random.choice((0, 0, 0.001)))
        for connection in worker.connections:
            connection.connection_lost()
        await worker.ended()
        assert worker.memory.used == 0, f"seed {seed}"
        ends["refused for memory"] += worker.memory.refused
        ends["refused in the queue"] += worker.pool.refused
        ends["converted"] += sum(each.count for each in worker.pool.counts.values())
        ends["expired"] += worker.state.counters.deadlines_exceeded
        ends["reset"] += worker.state.counters.streams_reset_by_peer

    for seed in range(100):
        asyncio.run(run(seed))
    assert min(ends.values()) > 0, ends
