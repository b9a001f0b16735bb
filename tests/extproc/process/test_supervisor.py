"""Real worker processes: started, killed, restarted, drained, never orphaned."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from bench.processes import free_port
from extproc.transport import TRANSPORTS, TransportName
from protos.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from sluice.contract.paths import EXT_PROC
from tests.extproc.decision.requests import document
from tests.extproc.policy.control_plane import ControlPlane, control_plane
from tests.extproc.services.callout import headers

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]

POLICY = document({"m": {}})
REQUEST = headers(
    [(":method", "GET"), (":path", "/v2/models/m"), ("x-model-version", "v1")], end_of_stream=True
)


@asynccontextmanager
async def supervised(
    server: ControlPlane,
    directory: Path,
    *,
    workers: int = 2,
    transport: TransportName = "asyncio",
    drain: float = 5.0,
    address: str | None = None,
    stderr: int | None = None,
) -> AsyncIterator[Process]:
    """`sluice callout`, for the length of a block, in a process group of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sluice.cli", "callout",
        "--xds", server.address,
        "--address", address or f"unix:{directory}/callout",
        "--metrics", f"127.0.0.1:{free_port()}",
        "--workers", str(workers),
        "--drain-timeout", str(drain),
        "--transport", transport,
        stdin=DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


OpenCall = grpc.aio.StreamStreamCall[ProcessingRequest, ProcessingResponse]


@asynccontextmanager
async def open_call(directory: Path) -> AsyncIterator[OpenCall]:
    """A call to the first worker whose request has been decided on, and that goes on."""
    async with grpc.aio.insecure_channel(f"unix:{directory}/callout-0") as channel:
        call: OpenCall = channel.stream_stream(
            EXT_PROC, ProcessingRequest.SerializeToString, ProcessingResponse.FromString
        )(timeout=20, wait_for_ready=True)
        await call.write(REQUEST)
        await call.read()
        yield call


async def goes_on_and_ends(call: OpenCall) -> None:
    await call.write(ProcessingRequest(request_trailers={}))
    passed = await call.read()
    assert passed.WhichOneof("response") == "request_trailers"
    await call.done_writing()
    assert await call.code() == grpc.StatusCode.OK


async def pids(server: ControlPlane, count: int) -> list[int]:
    """Process ids of so many workers that have the policy, in the order of their addresses."""
    return [int(node.metadata["pid"]) for node in await server.accepted(count)]


async def ask(directory: Path, worker: int) -> str:
    """The cluster that a worker sends a request to; waits until the worker listens."""
    return await answer(f"unix:{directory}/callout-{worker}")


async def answer(address: str) -> str:
    """The same, of the worker at an address."""
    async with grpc.aio.insecure_channel(
        address,
        options=[("grpc.max_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)],
    ) as channel:
        call = channel.stream_stream(
            EXT_PROC, ProcessingRequest.SerializeToString, ProcessingResponse.FromString
        )(timeout=10, wait_for_ready=True)
        await call.write(REQUEST)
        answered = await call.read()
        await call.done_writing()
    found = answered.request_headers.response.header_mutation.set_headers
    return next(h.header.raw_value for h in found if h.header.key == "x-model-service").decode()


async def gone(pid: int, within: float) -> None:
    """Wait until a process that is no child of ours has ended."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), within)
        finally:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


async def restarts(process: Process, count: int) -> list[float]:
    """When the supervisor has told that a worker ended, so many times in a row."""
    assert process.stderr is not None
    told: list[float] = []
    async with asyncio.timeout(20):
        while len(told) < count:
            if b"restarting" in await process.stderr.readline():
                told.append(time.monotonic())
    return told


def forkserver(supervisor: int) -> int:
    """The process id of what forks a supervisor's workers."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    (pid,) = (c for c in children if b"forkserver" in Path(f"/proc/{c}/cmdline").read_bytes())
    return int(pid)


@contextlib.contextmanager
def taken_port() -> Iterator[tuple[socket.socket, int]]:
    """A socket that listens, and its port; the next port is free."""
    for _ in range(100):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with socket.socket() as next_one:
                if port == 65535 or next_one.connect_ex(("127.0.0.1", port + 1)) == 0:
                    continue
            yield taken, port
            return


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_worker_answers_at_its_own_address(
    tmp_path: Path, transport: TransportName
) -> None:
    async with (
        control_plane(tmp_path) as server,
        supervised(server, tmp_path, transport=transport),
    ):
        server.show(POLICY)
        assert [node.id.rpartition("-")[2] for node in await server.accepted(2)] == ["0", "1"]
        assert [await ask(tmp_path, worker) for worker in (0, 1)] == ["m/v1", "m/v1"]


async def test_a_worker_listens_only_once_it_has_a_policy(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, supervised(server, tmp_path, workers=1):
        await server.until(lambda: any(node.kind == "callout" for node in server.nodes))
        assert not (tmp_path / "callout-0").exists()
        server.show(POLICY)
        await server.accepted()
        assert await ask(tmp_path, 0) == "m/v1"


async def test_a_worker_that_is_killed_is_back_at_once_and_its_peer_does_not_notice(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path) as server, supervised(server, tmp_path):
        server.show(POLICY)
        first, second = await pids(server, 2)
        await ask(tmp_path, 0)
        os.kill(first, signal.SIGKILL)
        began = time.monotonic()
        await gone(first, 1)
        assert await ask(tmp_path, 1) == "m/v1"
        assert await ask(tmp_path, 0) == "m/v1"
        assert time.monotonic() - began < 1.0
        again = await pids(server, 2)
        assert again[1] == second
        assert again[0] != first


async def test_a_stop_lets_open_calls_end_and_leaves_no_process(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, supervised(server, tmp_path) as process:
        server.show(POLICY)
        workers = await pids(server, 2)
        async with open_call(tmp_path) as call:
            process.terminate()
            await gone(workers[1], 3)
            await goes_on_and_ends(call)
        assert await asyncio.wait_for(process.wait(), 5) == 0
        await gone(workers[0], 1)


async def test_a_call_that_does_not_end_is_cut_at_the_drain_timeout(tmp_path: Path) -> None:
    async with (
        control_plane(tmp_path) as server,
        supervised(server, tmp_path, drain=0.3) as process,
    ):
        server.show(POLICY)
        await server.accepted(2)
        async with open_call(tmp_path):
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 3) == 0


async def test_workers_do_not_outlive_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, supervised(server, tmp_path) as process:
        server.show(POLICY)
        workers = await pids(server, 2)
        process.kill()
        for pid in workers:
            await gone(pid, 3)


async def test_a_worker_that_waits_for_a_policy_stops_when_it_is_told(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, supervised(server, tmp_path) as process:
        await server.until(lambda: any(node.kind == "callout" for node in server.nodes))
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 3) == 0


async def test_an_interrupt_of_the_whole_group_lets_open_calls_end(tmp_path: Path) -> None:
    """Ctrl-C reaches workers too, and does not cut what they are about to answer."""
    async with control_plane(tmp_path) as server, supervised(server, tmp_path) as process:
        server.show(POLICY)
        workers = await pids(server, 2)
        async with open_call(tmp_path) as call:
            os.killpg(process.pid, signal.SIGINT)
            await gone(workers[1], 3)
            await goes_on_and_ends(call)
        assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_a_worker_that_cannot_start_is_tried_ever_more_rarely_and_its_peer_serves(
    tmp_path: Path,
) -> None:
    with taken_port() as (taken, port):
        address = f"127.0.0.1:{port}"
        async with (
            control_plane(tmp_path) as server,
            supervised(server, tmp_path, address=address, stderr=PIPE) as process,
        ):
            server.show(POLICY)
            told = await restarts(process, 7)
            # All six together: when this process reads of a single one is a matter of chance.
            assert told[-1] - told[0] >= 0.05 * (2**6 - 1)
            assert await answer(f"127.0.0.1:{port + 1}") == "m/v1"
            taken.close()
            assert await answer(address) == "m/v1"


async def test_workers_are_back_when_the_process_they_are_forked_from_is_killed(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path) as server, supervised(server, tmp_path) as process:
        server.show(POLICY)
        before = await pids(server, 2)
        os.kill(forkserver(process.pid), signal.SIGKILL)
        for pid in before:
            await gone(pid, 5)
        for worker in (0, 1):
            assert await ask(tmp_path, worker) == "m/v1"
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == 0
