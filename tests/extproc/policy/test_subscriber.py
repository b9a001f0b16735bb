"""A worker subscribes to the policy of a real control plane, and keeps the last good policy."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from extproc.policy.current import CurrentPolicy
from extproc.policy.received import ReceivedPolicy
from extproc.policy.subscriber import PATIENCE, Apply, Sleep, fetch_policy, follow
from protos.base_pb2 import Node
from protos.policy_pb2 import Policy
from sluice.config import PolicyDocument
from tests.extproc.auth.tokens import issuer
from tests.extproc.decision.requests import document
from tests.extproc.policy.control_plane import ControlPlane, control_plane

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]

FIRST = document({"m": {}})
SECOND = document({"m": {"stable": "v2"}})


def awaitable(apply: Callable[[ReceivedPolicy], None]) -> Apply:
    async def applied(policy: ReceivedPolicy) -> None:
        apply(policy)

    return applied


@asynccontextmanager
async def following(
    address: str, apply: Callable[[ReceivedPolicy], None], sleep: Sleep = asyncio.sleep
) -> AsyncIterator[None]:
    task = asyncio.create_task(follow(address, Node(id="callout-test-0"), awaitable(apply), sleep))
    try:
        yield
    finally:
        assert not task.done(), task.result()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_each_policy_is_applied_and_accepted(tmp_path: Path) -> None:
    applied: list[PolicyDocument] = []

    def apply(policy: ReceivedPolicy) -> None:
        applied.append(policy.document())

    async with control_plane(tmp_path) as server, following(server.address, apply):
        server.publish(FIRST)
        (node,) = await server.accepted()
        server.publish(SECOND)
        await server.accepted()
        assert applied == [FIRST, SECOND]
        assert (node.id, node.kind) == ("callout-test-0", "callout")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\xff\xff", "Policy"),
        (Policy(config=b"{").SerializeToString(), "json"),
        (Policy(config=b'{"requests": {}}').SerializeToString(), "auth: missing"),
        (document(auth={"issuers": [issuer(jwks='{"keys": [{}]}')]}), "key"),
        (document(auth={"issuers": [issuer(jwks="[" * 100_000)]}), "not JSON"),
    ],
    ids=["no message", "no JSON", "no policy", "no keys", "too deep"],
)
async def test_an_invalid_policy_is_rejected_and_the_last_good_policy_stays_in_force(
    tmp_path: Path, bad: PolicyDocument | bytes, reason: str
) -> None:
    current_policy = CurrentPolicy()
    async with control_plane(tmp_path) as server, following(server.address, current_policy.apply):
        server.publish(FIRST)
        await server.accepted()
        server.publish(bad)
        assert reason in await server.rejected()
        assert current_policy.current is not None
        assert current_policy.current.version == FIRST.version
        server.publish(SECOND)
        await server.accepted()
        assert current_policy.current.version == SECOND.version


async def test_the_reason_of_a_nack_contains_no_key(tmp_path: Path) -> None:
    secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ"
    bad = f'{{"requests": {{}}, "auth": {{"issuers": [{{"jwks": "{secret}"}}]}}}}'
    async with control_plane(tmp_path) as server, following(server.address, CurrentPolicy().apply):
        server.publish(Policy(config=bad.encode()).SerializeToString())
        reason = await server.rejected()
        assert "auth.issuers.0.issuer: missing" in reason
        assert secret not in reason


async def test_an_unexpected_failure_is_a_nack_and_does_not_end_the_worker(
    tmp_path: Path,
) -> None:
    applied: list[PolicyDocument] = []

    def apply(policy: ReceivedPolicy) -> None:
        if policy.document() == FIRST:
            raise RuntimeError
        applied.append(policy.document())

    async with control_plane(tmp_path) as server, following(server.address, apply):
        server.publish(FIRST)
        assert "see its log" in await server.rejected()
        server.publish(SECOND)
        await server.accepted()
        assert applied == [SECOND]


async def test_a_worker_reconnects_to_a_control_plane_that_restarts(tmp_path: Path) -> None:
    current_policy = CurrentPolicy()
    async with control_plane(tmp_path) as server:
        task = asyncio.create_task(
            follow(server.address, Node(id="callout-test-0"), awaitable(current_policy.apply))
        )
        server.publish(FIRST)
        await server.accepted()
    assert current_policy.current is not None
    assert current_policy.current.version == FIRST.version
    async with control_plane(tmp_path) as server:
        server.publish(SECOND)
        await server.accepted()
        assert current_policy.current.version == SECOND.version
    assert not task.done()
    task.cancel()


async def test_a_worker_connects_to_another_control_plane_when_its_own_ends(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    current_policy = CurrentPolicy()
    async with control_plane(folders[1]) as two:
        async with control_plane(folders[0]) as one:
            addresses = f"{one.address},{two.address}"
            task = asyncio.create_task(
                follow(addresses, Node(id="callout-test-0"), awaitable(current_policy.apply))
            )
            one.publish(FIRST)
            await one.accepted()
        two.publish(SECOND)
        await two.accepted()
        task.cancel()
    assert current_policy.current is not None
    assert current_policy.current.version == SECOND.version


async def test_a_worker_that_starts_first_waits_for_the_control_plane(tmp_path) -> None:
    current_policy = CurrentPolicy()
    async with following(f"unix:{tmp_path}/xds", current_policy.apply):
        await asyncio.sleep(0)
        async with control_plane(tmp_path) as server:
            server.publish(FIRST)
            await server.accepted()
            assert current_policy.current is not None


async def test_a_control_plane_that_stays_unreachable_is_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pauses: list[float] = []
    failed_again = asyncio.Event()

    async def sleep(pause: float) -> None:
        pauses.append(pause)
        if sum(pauses) > 2 * PATIENCE:  # attempts after the warning have failed too
            failed_again.set()

    caplog.set_level(logging.INFO, "extproc.policy.subscriber")
    async with following("127.0.0.1:1", CurrentPolicy().apply, sleep), asyncio.timeout(60):
        await failed_again.wait()
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert all("127.0.0.1:1" in message for message in caplog.messages)


async def test_a_restart_of_the_control_plane_is_no_warning_and_the_new_connection_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "extproc.policy.subscriber")
    stopped = asyncio.Event()
    retried = asyncio.Event()

    async def sleep(pause: float) -> None:
        if stopped.is_set():
            retried.set()
        await asyncio.sleep(pause)

    async with following(f"unix:{tmp_path}/xds", CurrentPolicy().apply, sleep):
        async with control_plane(tmp_path) as server:
            server.publish(FIRST)
            await server.accepted()
            stopped.set()
        await retried.wait()
        async with control_plane(tmp_path) as server:
            server.publish(FIRST)
            await server.accepted()
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert sum(message.endswith(": connected") for message in caplog.messages) == 2


async def test_the_policy_can_be_fetched_once(tmp_path: Path) -> None:
    async with control_plane(tmp_path) as server:
        server.publish(FIRST)
        assert await fetch_policy(server.address, Node(id="explain")) == FIRST


async def test_fetching_a_policy_can_time_out() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await fetch_policy("127.0.0.1:1", Node(id="explain"))


async def test_many_workers_subscribe_to_one_control_plane(tmp_path) -> None:
    async def one(server: ControlPlane, number: int) -> None:
        apply = awaitable(CurrentPolicy().apply)
        await follow(server.address, Node(id=f"callout-test-{number}"), apply)

    async with control_plane(tmp_path) as server:
        tasks = [asyncio.create_task(one(server, number)) for number in range(5)]
        server.publish(FIRST)
        nodes = await server.accepted(5)
        assert [node.id for node in nodes] == [f"callout-test-{number}" for number in range(5)]
        for task in tasks:
            task.cancel()
