"""`python -m bench.memory [SCENARIO ...]`: memory of one callout worker under hostile bodies.

Each scenario starts a control plane and a worker, and sends bodies over ext_proc as Envoy does. It
prints the worker's resident memory before, its peak, and the time and result of honest requests
that run meanwhile. Exits with 1 if a peak exceeds `--max-mib`, or if an honest request fails.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc.aio

from bench.processes import free_port, local_address, process_tree, resident_bytes, serving
from extproc.framing import PREFIX, length_prefixed
from protos.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from protos.inference_pb2 import ModelInferRequest
from sluice.contract.paths import EXT_PROC

MIB = 1 << 20
CHUNK = 64 << 10
"""Bytes of a body in one message, for bodies that Envoy does not buffer."""

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
HONEST_BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]}
).encode()

Call: TypeAlias = grpc.aio.StreamStreamCall
Attack = Callable[["Client"], Awaitable[Mapping[str, int]]]


@dataclass(slots=True)
class Honest:
    """Results of honest requests: seconds, and those that were refused."""

    seconds: list[float] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)


class Client:
    """Opens ext_proc streams. They stay open until `close`, as those of a client that waits."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._open = channel.stream_stream(
            EXT_PROC, ProcessingRequest.SerializeToString, ProcessingResponse.FromString
        )
        self._calls: list[Call] = []

    async def request(
        self, path: str, *, compressed: bool = False, json_body: bool = False
    ) -> Call:
        """A stream whose request headers were admitted."""
        message = ProcessingRequest()
        pairs = {":method": "POST", ":path": path, ":authority": "bench"}
        pairs["content-type"] = "application/json" if json_body else "application/grpc"
        if path.startswith("/inference."):
            pairs |= {"x-model-name": "m", "te": "trailers"}
        if compressed:
            pairs["grpc-encoding"] = "gzip"
        for name, value in pairs.items():
            message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
        call = self._open()
        await call.write(message)
        response = await call.read()
        if not response.HasField("request_headers"):
            raise RuntimeError(f"the headers were refused: {response}")
        self._calls.append(call)
        return call

    def close(self) -> None:
        for call in self._calls:
            call.cancel()


async def send_body(call: Call, body: bytes, *, last: bool) -> int:
    """Send a body or a chunk. Returns 200 if it passed, else the status of the response; -1 if the
    call failed."""
    message = ProcessingRequest()
    message.request_body.body = body
    message.request_body.end_of_stream = last
    try:
        await call.write(message)
        response = await call.read()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return -1
    if response is grpc.aio.EOF:
        return -1
    if response.HasField("immediate_response"):
        return int(response.immediate_response.status.code)
    return 200


async def send_chunks(call: Call, body: bytes, *, last: bool) -> int:
    """Send a body in chunks. Returns the first status that is not 200, or 200."""
    for start in range(0, len(body), CHUNK):
        end = start + CHUNK
        status = await send_body(call, body[start:end], last=last and end >= len(body))
        if status != 200:
            return status
    return 200


def tally(statuses: list[int]) -> Mapping[str, int]:
    return {str(status): statuses.count(status) for status in sorted(set(statuses))}


# The scenarios.


async def incomplete_calls(client: Client) -> Mapping[str, int]:
    """60 gRPC calls of 10 MB each, without their last byte."""
    body = PREFIX.pack(0, 10 * MIB) + _request_of(10 * MIB - 1)

    async def one() -> int:
        return await send_chunks(await client.request(INFER), body, last=False)

    return tally([await one() for _ in range(60)])


async def compressed_calls(client: Client) -> Mapping[str, int]:
    """One gRPC call of 971 KB: many messages that inflate to 10 MB each."""
    deflate = zlib.compressobj(9, wbits=31)
    message = deflate.compress(_request_of(10 * MIB)) + deflate.flush()
    framed = PREFIX.pack(1, len(message)) + message
    body = framed * (971_000 // len(framed))
    call = await client.request(STREAM_INFER, compressed=True)
    return tally([await send_body(call, body, last=False)])


async def refused_bodies(client: Client) -> Mapping[str, int]:
    """20 bodies over the limit of 10 MiB, and 20 of nearly 10 MiB that are not valid."""
    statuses = []
    for body in (bytes(12 * MIB), b'{"inputs":"' + b"a" * (10 * MIB - 20)):
        for _ in range(20):
            call = await client.request("/v2/models/m/infer", json_body=True)
            statuses.append(await send_body(call, body, last=True))
    return tally(statuses)


async def tiny_messages(client: Client) -> Mapping[str, int]:
    """A million gRPC messages in one piece."""
    body = length_prefixed(ModelInferRequest(model_name="m").SerializeToString()) * 1_000_000
    call = await client.request(STREAM_INFER)
    return tally([await send_body(call, body, last=False)])


async def concurrent_bodies(client: Client) -> Mapping[str, int]:
    """60 bodies of nearly 10 MiB to convert, all at once."""
    body = b'{"inputs":[{"name":"x","shape":[1],"data":["' + b"a" * (10 * MIB - 60) + b'"]}]}'
    calls = [await client.request("/v2/models/m/infer", json_body=True) for _ in range(60)]
    return tally(await asyncio.gather(*[send_body(call, body, last=True) for call in calls]))


async def tiny_fields(client: Client) -> Mapping[str, int]:
    """10 gRPC messages of 10 MB, of fields of two bytes."""
    message = ModelInferRequest(model_name="m").SerializeToString() + b"\x78\x00" * (5 * MIB - 10)
    statuses = []
    for _ in range(10):
        call = await client.request(INFER)
        statuses.append(await send_body(call, length_prefixed(message), last=True))
    return tally(statuses)


SCENARIOS: Mapping[str, Attack] = {
    attack.__name__: attack
    for attack in (
        incomplete_calls,
        compressed_calls,
        refused_bodies,
        tiny_messages,
        concurrent_bodies,
        tiny_fields,
    )
}


def _request_of(size: int) -> bytes:
    """A serialized ModelInferRequest of this size, at most; the last field is not complete."""
    whole = ModelInferRequest(model_name="m", raw_input_contents=[bytes(size - 8)])
    serialized = whole.SerializeToString()
    assert len(serialized) <= size + 1, len(serialized)
    return serialized[:size]


# The worker.


@contextmanager
def worker(directory: Path) -> Iterator[tuple[str, int]]:
    """A control plane and a callout with one worker; yields the worker's address and process."""
    http, xds, address, metrics = (local_address(free_port()) for _ in range(4))
    inputs = [{"name": "x", "datatype": "BYTES", "shape": [-1]}]
    version = {"protocol": "grpc", "endpoints": [{"address": "127.0.0.1:1"}]}
    model = {"access": {"public": True}, "versions": {"v1": version}, "inputs": inputs}
    config = {
        "control_plane": {"http": http, "xds": xds},
        "callout": {"address": address, "workers": 1},
        "telemetry": {"metrics": {"address": metrics}},
        "models": {"m": model},
    }
    file = directory / "gateway.json"
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "sluice.cli"]
    callout = [*command, "callout", "--xds", xds, "--address", address, "--workers", "1"]
    with (
        (directory / "log").open("w") as log,
        serving([*command, "control-plane", str(file)], xds, stdout=log, stderr=log),
        serving([*callout, "--metrics", metrics], address, stdout=log, stderr=log) as supervisor,
    ):
        yield address, worker_process(supervisor.pid)


def worker_process(supervisor: int) -> int:
    """The worker: the fork server forks it."""
    forked = [
        pid
        for pid in process_tree(supervisor)
        if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return max(forked)


def peak_bytes(pid: int) -> int:
    """The largest resident memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@asynccontextmanager
async def honest_requests(address: str) -> AsyncIterator[Honest]:
    """Send honest requests, one after the other, while the block runs."""
    honest = Honest()

    async def send(client: Client) -> None:
        while True:
            started = time.perf_counter()
            call = await client.request("/v2/models/m/infer", json_body=True)
            status = await send_body(call, HONEST_BODY, last=True)
            honest.seconds.append(time.perf_counter() - started)
            if status != 200:
                honest.refused.append(status)
            call.cancel()
            await asyncio.sleep(0.01)

    async with grpc.aio.insecure_channel(address) as channel:
        task = asyncio.create_task(send(Client(channel)))
        await asyncio.sleep(0.2)
        try:
            yield honest
            await asyncio.sleep(0.2)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def run(attack: Attack, address: str, pid: int) -> tuple[Honest, Mapping[str, int], int]:
    """Run an attack. Returns also the resident memory at its end, while its streams are open."""
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with (
        grpc.aio.insecure_channel(address, unlimited) as channel,
        honest_requests(address) as honest,
    ):
        client = Client(channel)
        statuses = await attack(client)
        held = resident_bytes(pid)
        client.close()
    return honest, statuses, held


def measure(name: str, max_bytes: int) -> bool:
    """Run a scenario in a new worker, and print its results. Returns whether it passed."""
    with tempfile.TemporaryDirectory() as folder, worker(Path(folder)) as (address, pid):
        before = resident_bytes(pid)
        honest, statuses, held = asyncio.run(run(SCENARIOS[name], address, pid))
        peak = peak_bytes(pid)
    slowest = max(honest.seconds, default=float("inf"))
    print(
        f"{name:18} before {before >> 20:4} MiB   peak {peak >> 20:4} MiB   "
        f"at the end {held >> 20:4} MiB   statuses {dict(statuses)}   honest: "
        f"{len(honest.seconds)} requests, {len(honest.refused)} refused, slowest "
        f"{slowest * 1000:.0f} ms",
        flush=True,
    )
    return peak <= max_bytes and not honest.refused and bool(honest.seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenario", nargs="*", default=list(SCENARIOS), help=", ".join(SCENARIOS))
    parser.add_argument("--max-mib", type=int, default=400, help="limit of the peak")
    options = parser.parse_args()
    passed = [measure(name, options.max_mib << 20) for name in options.scenario]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
