"""Random inputs of a hostile or broken peer, and the invariants that hold for each of them.

`test_fuzz.py` runs a few thousand inputs, `bench/fuzz.py` any number of them.
"""

import asyncio
from itertools import pairwise
from random import Random

from extproc.memory_budget import MemoryBudget
from extproc.rpc import Call, Services, unary
from extproc.transport.aio.call import ServerCall, ServerState
from extproc.transport.aio.deadlines import Deadlines
from extproc.transport.aio.turns import Turns
from extproc.transport.counters import Counters
from extproc.transport.grpc.requests import GrpcRequest, request_parser
from extproc.transport.http2 import frames
from extproc.transport.http2.connection import Connection
from extproc.transport.http2.header_blocks import encode_literal
from extproc.transport.limits import KIB, Rate, TransportLimits

LIMITS = TransportLimits(
    max_message=64 * KIB,
    max_send_queue=256 * KIB,
    max_concurrent_streams=4,
    resets=Rate(burst=3, per_second=1),
    empty_frames=Rate(burst=3, per_second=1),
    settings=Rate(burst=4, per_second=1),
)
OUTPUT_BOUND = 4 * 1024 * KIB
"""Bytes sent for one input of at most a few hundred KiB: echoes, acknowledgements and resets."""


class _Echo:
    def __init__(self, call: Call) -> None:
        self._call = call

    def on_message(self, message: bytes) -> None:
        self._call.send(message)

    def on_half_close(self) -> None:
        self._call.finish()

    def on_cancel(self) -> None:
        pass


SERVICES: Services = {"/e": _Echo, "/u": unary(lambda message: message)}

_NAMES = [b":method", b":path", b":scheme", b"te", b"content-type", b"grpc-timeout", b"x-bin", b"X"]
_VALUES = [b"POST", b"/e", b"/u", b"http", b"trailers", b"application/grpc", b"1S", b"%%", b"\0"]


def _call_block(random: Random) -> bytes:
    path = random.choice([b"/e", b"/e", b"/u", b"/none"])
    block = (
        b"\x83\x86"
        + encode_literal(b":path", path)
        + encode_literal(b"content-type", b"application/grpc")
    )
    if random.random() < 0.2:
        block += encode_literal(random.choice(_NAMES), random.choice(_VALUES))
    if random.random() < 0.1:
        # A literal with incremental indexing, or an index that may or may not exist.
        block += random.choice([b"\x40\x01a\x01b", bytes((random.randrange(0x80, 0x100),))])
    return block


def _message(random: Random) -> bytes:
    size = random.choice([0, 1, 10, 100, 5000])
    flag = 0 if random.random() < 0.95 else random.randrange(256)
    stated = size if random.random() < 0.9 else random.randrange(2 * size + 10)
    return bytes((flag,)) + stated.to_bytes(4, "big") + bytes(size)


def _frame(random: Random, stream_id: int) -> bytes:
    choice = random.random()
    if choice < 0.1:
        flags = 4 if random.random() < 0.95 else random.choice([5, 0, 0x2C])
        return frames.frame(frames.HEADERS, flags, stream_id, _call_block(random))
    if choice < 0.8:
        flags = 0 if random.random() < 0.8 else random.choice([1, 8])
        return frames.frame(frames.DATA, flags, stream_id, _message(random)[:16_384])
    if choice < 0.85:
        increment = random.choice(
            [1, 300, 1000, 65_535] if random.random() < 0.95 else [0, 2**31 - 1]
        )
        return frames.window_update(random.choice([0, stream_id]), increment)
    if choice < 0.9:
        if random.random() < 0.8:
            return frames.settings({frames.INITIAL_WINDOW_SIZE: random.choice([0, 1, 100, 65_535])})
        return frames.settings({random.randrange(8): random.choice([0, 1, 2**31 - 1, 2**32 - 1])})
    if choice < 0.93:
        return frames.frame(frames.RST_STREAM, 0, stream_id, bytes(4))
    payload = random.randbytes(random.choice([0, 4, 5, 8, 20]))
    if choice < 0.98:
        return frames.frame(*random.choice([(frames.PING, 0, 0, bytes(8)), (0x77, 0, 1, b"")]))
    kind, flags = random.randrange(12), random.choice([0, 1, 4, 8, 0xFF])
    return frames.frame(kind, flags, random.choice([0, stream_id]), payload)


def input_of(seed: int) -> list[bytes]:
    """The reads of one connection: mostly well-formed frames, some with changed bytes."""
    random = Random(seed)
    parts = [frames.PREFACE + frames.settings({})] if random.random() < 0.98 else []
    stream_id = 1
    if random.random() < 0.95:
        parts.append(frames.frame(frames.HEADERS, 4, stream_id, _call_block(random)))
    for _ in range(random.randrange(1, 12)):
        if random.random() < 0.3:
            stream_id += 2
            parts.append(frames.frame(frames.HEADERS, 4, stream_id, _call_block(random)))
        frame = _frame(random, stream_id if random.random() < 0.99 else stream_id + 1)
        parts.append(frame * (8 if random.random() < 0.03 else 1))
    sent = bytearray(b"".join(parts))
    if random.random() < 0.3:
        for _ in range(random.randrange(1, 4)):
            sent[random.randrange(len(sent))] = random.randrange(256)
    cuts = sorted(random.randrange(len(sent) + 1) for _ in range(random.randrange(4)))
    bounds = [0, *cuts, len(sent)]
    return [bytes(sent[low:high]) for low, high in pairwise(bounds)]


class Target:
    """HTTP/2 and gRPC without sockets; each input gets its own connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        turns = Turns(loop, clock=lambda: 0.0)
        memory = MemoryBudget(256 * KIB)
        self.state = ServerState(LIMITS, Counters(), Deadlines(loop), memory, turns)
        self._parse_request = request_parser(SERVICES)

    def connect(self) -> Connection[GrpcRequest]:
        return Connection(
            limits=LIMITS,
            counters=self.state.counters,
            parse_request=self._parse_request,
            open_stream=lambda connection, i, request: ServerCall(
                connection, i, request, self.state
            ),
            on_output=lambda: None,
            now=0.0,
        )

    def check(self, reads: list[bytes]) -> None:
        """Run one input. Raises AssertionError for a broken invariant."""
        connection = self.connect()
        output = b""
        for number, data in enumerate(reads):
            connection.receive_data(data, float(number))
            while sent := connection.take_output():
                output += sent
            if number % 2:
                connection.check_timeouts(float(number))
        assert len(output) < OUTPUT_BOUND
        assert 0 <= self.state.memory.used <= self.state.memory.limit
        _check_output(output)
        connection.connection_lost()
        counters = self.state.counters
        assert counters.streams_opened == counters.streams_closed
        assert self.state.memory.used == 0


def _check_output(output: bytes) -> None:
    """The output has only whole frames of known types, within the default maximum size."""
    position = 0
    while position < len(output):
        word, _, _ = frames.HEADER.unpack_from(output, position)
        assert word >> 8 <= frames.DEFAULT_FRAME_SIZE
        assert word & 0xFF <= frames.CONTINUATION
        position += frames.HEADER_SIZE + (word >> 8)
    assert position == len(output)
