"""The supervisor starts, restarts and drains real worker processes, and leaves none behind."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import httpx
import pytest

from extproc.transport import TRANSPORTS, TransportName
from protos.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from sluice.contract.paths import EXT_PROC
from sluice.restart import MIN_RESTART_DELAY
from tests.extproc.decision.requests import document
from tests.extproc.policy.control_plane import ControlPlane, control_plane
from tests.extproc.services.callout import headers
from tests.integration.gateway import free_ports

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]

POLICY = document({"m": {}})
HANG = 20.0
"""Seconds after which a wait fails the test."""
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
    hang: float = HANG,
    address: str | None = None,
    stderr: int | None = None,
    metrics: str | None = None,
) -> AsyncIterator[Process]:
    """Run `sluice callout` in a process group of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sluice.cli", "callout",
        "--xds", server.address,
        "--address", address or f"unix:{directory}/callout",
        "--metrics", metrics or f"127.0.0.1:{free_ports(1)[0]}",
        "--workers", str(workers),
        "--drain-timeout", str(drain),
        "--hang-timeout", str(hang),
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


def open_stream(channel: grpc.aio.Channel) -> OpenCall:
    """Open an ext_proc call that waits until the worker listens."""
    call: OpenCall = channel.stream_stream(
        EXT_PROC, ProcessingRequest.SerializeToString, ProcessingResponse.FromString
    )(timeout=HANG, wait_for_ready=True)
    return call


@asynccontextmanager
async def open_call(directory: Path) -> AsyncIterator[OpenCall]:
    """A call to the first worker that stays open after the response to the request headers."""
    async with grpc.aio.insecure_channel(f"unix:{directory}/callout-0") as channel:
        call = open_stream(channel)
        await call.write(REQUEST)
        await call.read()
        yield call


async def finish(call: OpenCall) -> None:
    """Send the rest of an open call and check that it ends with OK."""
    await call.write(ProcessingRequest(request_trailers={}))
    response = await call.read()
    assert response.WhichOneof("response") == "request_trailers"
    await call.done_writing()
    assert await call.code() == grpc.StatusCode.OK


async def pids(server: ControlPlane, count: int) -> list[int]:
    """Process ids of the workers that have the policy, in the order of their addresses."""
    return [int(node.metadata["pid"]) for node in await server.accepted(count)]


async def chosen_cluster(address: str) -> str:
    """The cluster that a worker chooses for a request; waits until the worker listens."""
    async with grpc.aio.insecure_channel(
        address,
        options=[("grpc.max_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)],
    ) as channel:
        call = open_stream(channel)
        await call.write(REQUEST)
        response = await call.read()
        await call.done_writing()
    mutations = response.request_headers.response.header_mutation.set_headers
    return next(m.header.raw_value for m in mutations if m.header.key == "x-model-service").decode()


async def chosen_by(directory: Path, worker: int) -> str:
    """The cluster that a worker with a Unix socket chooses."""
    return await chosen_cluster(f"unix:{directory}/callout-{worker}")


async def exit_status(process: Process) -> int:
    return await asyncio.wait_for(process.wait(), HANG)


async def ended(pid: int) -> None:
    """Wait until a process that is not a child of this one has ended."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        event = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, event.set)
        try:
            await asyncio.wait_for(event.wait(), HANG)
        finally:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)


async def restart_delays(process: Process, count: int) -> list[float]:
    """The delays of the first `count` restarts, as the supervisor logs them."""
    assert process.stderr is not None
    delays: list[float] = []
    async with asyncio.timeout(HANG):
        while len(delays) < count:
            line = await process.stderr.readline()
            delays += [float(delay) for delay in re.findall(rb"restarting in ([0-9.]+) s", line)]
    return delays


async def logged(process: Process) -> str:
    """The log of a supervisor that has ended."""
    assert process.stderr is not None
    return (await process.stderr.read()).decode()


def forkserver(supervisor: int) -> int:
    """The process id of the server that forks a supervisor's workers."""
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
async def test_every_worker_listens_at_its_own_address(
    tmp_path: Path, transport: TransportName
) -> None:
    async with (
        control_plane(tmp_path) as server,
        supervised(server, tmp_path, transport=transport),
    ):
        server.publish(POLICY)
        assert [node.id.rpartition("-")[2] for node in await server.accepted(2)] == ["0", "1"]
        assert [await chosen_by(tmp_path, worker) for worker in (0, 1)] == ["m/v1", "m/v1"]


async def test_a_worker_listens_only_after_it_has_a_policy(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, supervised(server, tmp_path, workers=1):
        await server.until(lambda: any(node.kind == "callout" for node in server.nodes))
        assert not (tmp_path / "callout-0").exists()
        server.publish(POLICY)
        await server.accepted()
        assert await chosen_by(tmp_path, 0) == "m/v1"


async def test_a_killed_worker_is_restarted_while_the_other_one_serves(tmp_path: Path) -> None:
    async with (
        control_plane(tmp_path) as server,
        supervised(server, tmp_path, stderr=PIPE) as process,
    ):
        server.publish(POLICY)
        first, second = await pids(server, 2)
        await chosen_by(tmp_path, 0)
        os.kill(first, signal.SIGKILL)
        await ended(first)
        assert await chosen_by(tmp_path, 1) == "m/v1"
        assert await chosen_by(tmp_path, 0) == "m/v1"
        assert await restart_delays(process, 1) == [MIN_RESTART_DELAY]
        restarted = await pids(server, 2)
        assert restarted[1] == second
        assert restarted[0] != first


async def test_a_worker_that_hangs_is_replaced_while_the_other_one_serves(tmp_path: Path) -> None:
    async with (
        control_plane(tmp_path) as server,
        supervised(server, tmp_path, hang=2.0, stderr=PIPE) as process,
    ):
        server.publish(POLICY)
        first, second = await pids(server, 2)
        await chosen_by(tmp_path, 0)
        os.kill(first, signal.SIGSTOP)
        await ended(first)
        assert await chosen_by(tmp_path, 1) == "m/v1"
        assert await chosen_by(tmp_path, 0) == "m/v1"
        assert await restart_delays(process, 1) == [MIN_RESTART_DELAY]
        replaced = await pids(server, 2)
        assert replaced[1] == second
        assert replaced[0] != first


async def test_a_worker_that_hangs_does_not_delay_a_stop_until_the_drain_timeout(
    tmp_path: Path,
) -> None:
    async with (
        control_plane(tmp_path) as server,
        supervised(server, tmp_path, drain=10 * HANG, hang=1.0, stderr=PIPE) as process,
    ):
        server.publish(POLICY)
        workers = await pids(server, 2)
        os.kill(workers[0], signal.SIGSTOP)
        process.terminate()
        assert await exit_status(process) == 0
        text = await logged(process)
        assert "worker 0" in text
        assert "hangs" in text
        assert "restarting" not in text


async def test_a_stop_lets_open_calls_end_and_leaves_no_process(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, supervised(server, tmp_path) as process:
        server.publish(POLICY)
        workers = await pids(server, 2)
        async with open_call(tmp_path) as call:
            process.terminate()
            await ended(workers[1])
            await finish(call)
        assert await exit_status(process) == 0
        await ended(workers[0])


async def until_status(url: str, status: int) -> None:
    """Wait until a probe has this status."""
    async with asyncio.timeout(HANG), httpx.AsyncClient(verify=False) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(url)).status_code == status:
                    return
            await asyncio.sleep(0.05)


async def test_the_callout_is_ready_while_a_worker_serves(tmp_path: Path) -> None:
    metrics = f"127.0.0.1:{free_ports(1)[0]}"
    live, ready = f"http://{metrics}/healthz", f"http://{metrics}/readyz"
    async with (
        control_plane(tmp_path) as server,
        supervised(server, tmp_path, metrics=metrics) as process,
    ):
        await server.until(lambda: any(node.kind == "callout" for node in server.nodes))
        await until_status(live, 200)
        await until_status(ready, 503)
        server.publish(POLICY)
        workers = await pids(server, 2)
        await until_status(ready, 200)
        os.kill(workers[1], signal.SIGKILL)
        await until_status(ready, 200)
        async with open_call(tmp_path) as call:
            process.terminate()
            await until_status(ready, 503)
            await until_status(live, 200)
            await finish(call)
        assert await exit_status(process) == 0


async def test_a_call_that_does_not_end_is_cancelled_at_the_drain_timeout(tmp_path: Path) -> None:
    async with (
        control_plane(tmp_path) as server,
        supervised(server, tmp_path, drain=0.3, stderr=PIPE) as process,
    ):
        server.publish(POLICY)
        await server.accepted(2)
        async with open_call(tmp_path):
            process.terminate()
            assert await exit_status(process) == 0
        assert "killed" not in await logged(process)


async def test_a_worker_that_does_not_drain_is_killed(tmp_path: Path) -> None:
    async with (
        control_plane(tmp_path) as server,
        supervised(server, tmp_path, drain=0.0, stderr=PIPE) as process,
    ):
        server.publish(POLICY)
        workers = await pids(server, 2)
        os.kill(workers[0], signal.SIGSTOP)
        process.terminate()
        assert await exit_status(process) == 0
        assert "worker 0 did not drain in time: killed" in await logged(process)


async def test_workers_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, supervised(server, tmp_path) as process:
        server.publish(POLICY)
        workers = await pids(server, 2)
        process.kill()
        for pid in workers:
            await ended(pid)


async def test_a_worker_without_a_policy_stops_at_a_stop_signal(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, supervised(server, tmp_path) as process:
        await server.until(lambda: any(node.kind == "callout" for node in server.nodes))
        process.terminate()
        assert await exit_status(process) == 0


async def test_an_interrupt_of_the_whole_process_group_lets_open_calls_end(tmp_path: Path) -> None:
    """Ctrl-C sends SIGINT to the workers, too. They leave the stop to the supervisor."""
    async with control_plane(tmp_path) as server, supervised(server, tmp_path) as process:
        server.publish(POLICY)
        workers = await pids(server, 2)
        async with open_call(tmp_path) as call:
            os.killpg(process.pid, signal.SIGINT)
            await ended(workers[1])
            await finish(call)
        assert await exit_status(process) == 0


async def test_a_worker_that_cannot_start_is_restarted_until_it_can(tmp_path: Path) -> None:
    with taken_port() as (taken, port):
        address = f"127.0.0.1:{port}"
        async with (
            control_plane(tmp_path) as server,
            supervised(server, tmp_path, address=address, stderr=PIPE) as process,
        ):
            server.publish(POLICY)
            await restart_delays(process, 3)
            assert await chosen_cluster(f"127.0.0.1:{port + 1}") == "m/v1"
            taken.close()
            assert await chosen_cluster(address) == "m/v1"


async def test_workers_are_restarted_when_the_fork_server_is_killed(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, supervised(server, tmp_path) as process:
        server.publish(POLICY)
        before = await pids(server, 2)
        os.kill(forkserver(process.pid), signal.SIGKILL)
        for pid in before:
            await ended(pid)
        for worker in (0, 1):
            assert await chosen_by(tmp_path, worker) == "m/v1"
        process.terminate()
        assert await exit_status(process) == 0
