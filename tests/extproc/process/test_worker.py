"""A worker acknowledges a policy only when all of it is in force."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing import Pipe
from pathlib import Path

import grpc.aio
import pytest

from extproc.counter_table import create
from extproc.process.telemetry import TelemetrySettings, WorkerTelemetry
from extproc.process.worker import Worker, WorkerSettings
from extproc.protection import ProtectionSettings
from protos.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from sluice.config import PolicyDocument
from sluice.contract.headers import STAGE_METADATA
from sluice.contract.paths import EXT_PROC
from tests.extproc.auth.tokens import issuer
from tests.extproc.decision.requests import document
from tests.extproc.policy.control_plane import ControlPlane, control_plane
from tests.extproc.services.callout import headers, written

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]

POST = ((":method", "POST"), ("content-length", "2"))
UNSET = "SLUICE_TEST_PASSWORD_THAT_IS_NOT_SET"
ONCE = [
    {"name": "once", "rate": 1, "per": "day", "match": [{"part": "model", "values": ["m"]}]},
]
NEEDS_PASSWORD = {"kind": "redis", "urls": ["redis://127.0.0.1:1/0"], "password_env": UNSET}


@asynccontextmanager
async def worker(
    directory: Path, server: ControlPlane, socket: str = "callout"
) -> AsyncIterator[grpc.aio.Channel]:
    """A running worker, which listens on a socket in the directory. Yields a channel to it."""
    address = f"unix:{directory}/{socket}"
    create(directory / "counters", rows=1, columns=10_000)
    telemetry = WorkerTelemetry(TelemetrySettings(directory / "counters"), 0)
    settings = WorkerSettings(0, address, server.address, "asyncio", 0.0, 64 << 20)
    ours, theirs = Pipe(duplex=False)
    running = asyncio.create_task(Worker(settings, telemetry, ProtectionSettings()).run(ours))
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield channel
    finally:
        theirs.close()
        await running


async def response(channel: grpc.aio.Channel, model: str, stage: str = "") -> ProcessingResponse:
    call = channel.stream_stream(
        EXT_PROC, ProcessingRequest.SerializeToString, ProcessingResponse.FromString
    )(timeout=10, wait_for_ready=True, metadata=[(STAGE_METADATA, stage)] if stage else None)
    await call.write(headers((*POST, (":path", f"/v2/models/{model}/infer"))))
    first: ProcessingResponse = await call.read()
    await call.done_writing()
    return first


async def version(channel: grpc.aio.Channel, model: str = "m", stage: str = "") -> str:
    """The version that a request is admitted to. `stage`: the mark of the call."""
    mutation = (await response(channel, model, stage)).request_headers.response.header_mutation
    return written(mutation.set_headers)["x-model-version"]


async def refused(channel: grpc.aio.Channel, model: str = "m", stage: str = "") -> int:
    """The status of a request that is refused."""
    return int((await response(channel, model, stage)).immediate_response.status.code)


async def test_a_policy_is_acknowledged_when_its_limits_are_in_force_too(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, worker(tmp_path, server) as channel:
        server.publish(document({"m": {}}))
        await server.accepted()
        assert await version(channel) == "v1"
        server.publish(document({"m": {"stable": "v2"}}, limits={"rules": ONCE}))
        await server.accepted()
        assert await version(channel) == "v2"
        assert await refused(channel) == 429


async def test_a_policy_that_cannot_be_applied_is_refused_and_changes_nothing(
    tmp_path: Path,
) -> None:
    async with control_plane(tmp_path) as server, worker(tmp_path, server) as channel:
        models = {"m": {"stable": "v2"}, "n": {"stable": "v2"}}
        server.publish(document(models, limits={"rules": ONCE}))
        await server.accepted()
        assert await version(channel) == "v2"
        models = {"m": {"stable": "v3"}, "n": {"stable": "v3"}}
        server.publish(document(models, limits={"backend": NEEDS_PASSWORD}))
        assert "limits.backend.password_env" in await server.rejected()
        # Neither the new version nor the absence of rules is in force.
        assert await refused(channel) == 429
        assert await version(channel, "n") == "v2"
        server.publish(document({"m": {"stable": "v3"}}))
        await server.accepted()
        assert await version(channel) == "v3"


async def test_a_worker_listens_only_after_it_has_applied_a_policy(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, worker(tmp_path, server) as channel:
        server.publish(document({"m": {}}, limits={"backend": NEEDS_PASSWORD}))
        assert "limits.backend.password_env" in await server.rejected()
        assert not (tmp_path / "callout").exists()
        server.publish(document({"m": {}}))
        await server.accepted()
        assert await version(channel) == "v1"


BEFORE = document({"m": {}, "old": {}})
AFTER = document({"m": {"stable": "v2"}, "new": {}})


async def test_the_staged_policy_decides_only_on_calls_with_its_mark(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server, worker(tmp_path, server) as channel:
        server.publish(BEFORE)
        await server.accepted()
        assert await version(channel, stage=AFTER.version) == "v1"
        server.publish(BEFORE, AFTER, ["envoy-1"])
        await server.accepted()
        for mark, expected in (("", "v1"), (AFTER.version, "v2"), ("another", "v1")):
            assert await version(channel, stage=mark) == expected
        assert await refused(channel, "new") == 404
        assert await refused(channel, "old", AFTER.version) == 404
        assert await version(channel, "new", AFTER.version) == "v1"


async def test_a_worker_that_starts_during_a_stage_has_both_policies(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server:
        server.publish(BEFORE, AFTER, ["envoy-1"])
        async with worker(tmp_path, server) as channel:
            await server.accepted()
            assert await version(channel) == "v1"
            assert await version(channel, stage=AFTER.version) == "v2"


@pytest.mark.parametrize(("end", "expected"), [(AFTER, "v2"), (BEFORE, "v1")])
async def test_after_a_stage_all_calls_have_the_policy_in_force(
    tmp_path: Path, end: PolicyDocument, expected: str
) -> None:
    async with control_plane(tmp_path) as server, worker(tmp_path, server) as channel:
        server.publish(BEFORE, AFTER, ["envoy-1"])
        await server.accepted()
        assert await version(channel, stage=AFTER.version) == "v2"
        server.publish(end)
        await server.accepted()
        for mark in ("", AFTER.version):
            assert await version(channel, stage=mark) == expected


INVALID = document({"m": {"stable": "v3"}}, auth={"issuers": [issuer(jwks='{"keys": [{}]}')]})
UNREADY = document({"m": {"stable": "v3"}}, limits={"backend": NEEDS_PASSWORD})
NEXT = document({"m": {"stable": "v3"}})


@pytest.mark.parametrize(
    ("policy", "staged"), [(BEFORE, INVALID), (INVALID, NEXT), (UNREADY, NEXT), (INVALID, None)]
)
async def test_if_either_policy_is_invalid_both_old_ones_stay(
    tmp_path: Path, policy: PolicyDocument, staged: PolicyDocument | None
) -> None:
    async with control_plane(tmp_path) as server, worker(tmp_path, server) as channel:
        server.publish(BEFORE, AFTER, ["envoy-1"])
        await server.accepted()
        server.publish(policy, staged, ["envoy-1"])
        await server.rejected()
        marks = ("", AFTER.version, NEXT.version, INVALID.version)
        found = [await version(channel, stage=mark) for mark in marks]
        assert found == ["v1", "v2", "v1", "v1"]
        server.publish(BEFORE, NEXT, ["envoy-1"])
        await server.accepted()
        found = [await version(channel, stage=mark) for mark in marks]
        assert found == ["v1", "v1", "v3", "v1"]


async def test_each_policy_has_its_limits(tmp_path: Path) -> None:
    limited = document({"m": {"stable": "v2"}}, limits={"rules": ONCE})
    async with control_plane(tmp_path) as server, worker(tmp_path, server) as channel:
        server.publish(BEFORE, limited, ["envoy-1"])
        await server.accepted()
        assert await version(channel, stage=limited.version) == "v2"
        assert await refused(channel, stage=limited.version) == 429
        assert await version(channel) == "v1"
        server.publish(limited)
        await server.accepted()
        assert await refused(channel) == 429
