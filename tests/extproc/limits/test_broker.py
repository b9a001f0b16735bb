"""Workers lease tokens from the broker; a failure costs an exchange, and never the broker."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from extproc.limits.arithmetic import Algorithm, LeaseRequest, Limit
from extproc.limits.broker import EXCHANGE_PATH, MAX_MESSAGE, BrokerStore
from extproc.limits.ledger import Ledger
from extproc.limits.store import StoreError
from extproc.process.broker import serve_budgets
from extproc.rpc import Call, Handler, RpcError, StatusCode
from extproc.services.budgets import BudgetService
from extproc.transport import serve
from extproc.transport.aio.client import ClientLimits, open_call
from protos.budgets_pb2 import ExchangeRequest, ExchangeResponse

pytestmark = pytest.mark.anyio

LIMIT = Limit(Algorithm.TOKEN_BUCKET, 10, 1_000_000, 10)
MAX_KEYS = 1000


def request(key: str, want: int = 1, sequence: int = 1) -> LeaseRequest:
    return LeaseRequest(key, LIMIT, "worker", sequence, 0, 0, want, 1_000_000)


def service(ledger: Ledger | None = None) -> BudgetService:
    return BudgetService(Ledger(MAX_KEYS) if ledger is None else ledger, lambda: 1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[BrokerStore]:
    store = BrokerStore(path, MAX_KEYS)
    yield store
    await store.close()


async def tokens(store: BrokerStore, requests: Sequence[LeaseRequest]) -> list[int]:
    return [grant.tokens for grant in await store.exchange(requests)]


async def test_every_request_gets_its_own_grant(path: Path, store: BrokerStore) -> None:
    async with serve_budgets(path, service()):
        assert await tokens(store, [request("a", 3), request("b", 20)]) == [3, 10]
        assert await tokens(store, [request("a", 20, sequence=2)]) == [7]


async def test_exchanges_may_overlap(path: Path, store: BrokerStore) -> None:
    async with serve_budgets(path, service()):
        exchanges = (tokens(store, [request(str(want), want)]) for want in range(10))
        assert await asyncio.gather(*exchanges) == [[want] for want in range(10)]


async def test_the_socket_is_private_to_the_user(path: Path) -> None:
    async with serve_budgets(path, service()):
        assert path.stat().st_mode & 0o777 == 0o600  # noqa: ASYNC240


async def test_the_broker_keeps_as_many_budgets_as_the_policy_of_the_latest_exchange(
    path: Path,
) -> None:
    ledger = Ledger(100)
    async with serve_budgets(path, service(ledger)):
        for max_keys in (5, 2, 3):
            store = BrokerStore(path, max_keys)
            for number in range(6):
                await store.exchange([request(f"key-{number}")])
            assert len(ledger) == max_keys
            await store.close()


async def test_a_store_works_again_when_the_broker_is_back(path: Path, store: BrokerStore) -> None:
    with pytest.raises(StoreError, match=str(path)):
        await store.exchange([request("a")])
    for _ in range(2):
        async with serve_budgets(path, service()):
            assert await tokens(store, [request("a", 4)]) == [4]
        with pytest.raises(StoreError, match=str(path)):
            await store.exchange([request("a")])


async def test_a_canceled_exchange_leaves_the_others_their_grants(
    path: Path, store: BrokerStore
) -> None:
    async with serve_budgets(path, service()):
        await store.exchange([request("connected")])
        canceled = asyncio.create_task(store.exchange([request("a", 1)]))
        other = asyncio.create_task(tokens(store, [request("b", 2)]))
        await asyncio.sleep(0)
        canceled.cancel()
        assert await other == [2]
        assert await tokens(store, [request("c", 3)]) == [3]


def malformed(**changes: object) -> bytes:
    lease = {"key": "a", "algorithm": "token_bucket", "rate": 1, "unit": 1, "capacity": 1}
    return ExchangeRequest(leases=[{**lease, **changes}]).SerializeToString()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\xff", StatusCode.INVALID_ARGUMENT),
        (malformed(algorithm="leaky_bucket"), StatusCode.INVALID_ARGUMENT),
        (malformed(rate=0), StatusCode.INVALID_ARGUMENT),
        (malformed(key="a" * MAX_MESSAGE), StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["not protobuf", "unknown algorithm", "no rate", "too large"],
)
async def test_a_malformed_message_ends_only_its_own_call(
    path: Path, store: BrokerStore, message: bytes, code: StatusCode
) -> None:
    async with serve_budgets(path, service()):
        assert await tokens(store, [request("a", 3)]) == [3]
        call = await open_call(f"unix:{path}", EXCHANGE_PATH, ClientLimits())
        call.send(message)
        with pytest.raises(RpcError) as ended:
            await call.receive()
        assert ended.value.code is code
        assert await tokens(store, [request("b", 4)]) == [4]


class FakeBroker(Handler):
    """Responds to a message as the test says."""

    def __init__(
        self, call: Call, respond: Callable[[Call], None], canceled: asyncio.Event
    ) -> None:
        self._call = call
        self._respond = respond
        self._canceled = canceled

    def on_message(self, message: bytes) -> None:
        self._respond(self._call)

    def on_half_close(self) -> None: ...

    def on_cancel(self) -> None:
        self._canceled.set()


@asynccontextmanager
async def fake_broker(path: Path, respond: Callable[[Call], None]) -> AsyncIterator[asyncio.Event]:
    """Serve a fake broker; gives an event that is set when a client has ended its call."""
    canceled = asyncio.Event()
    services = {EXCHANGE_PATH: lambda call: FakeBroker(call, respond, canceled)}
    server = serve("asyncio", services, f"unix:{path}")
    await server.start()
    yield canceled
    await server.close()


@pytest.mark.parametrize(
    "respond",
    [
        lambda call: call.send(b"\xff"),
        lambda call: call.send(b" " * (MAX_MESSAGE + 1)),
        lambda call: call.finish(),
        lambda call: call.finish(StatusCode.UNAVAILABLE, "away"),
    ],
    ids=["not protobuf", "too large", "ended", "failed"],
)
async def test_all_exchanges_under_way_fail_with_the_call(
    path: Path, store: BrokerStore, respond: Callable[[Call], None]
) -> None:
    async with fake_broker(path, respond):
        exchanges = (store.exchange([request(key)]) for key in "abc")
        results = await asyncio.gather(*exchanges, return_exceptions=True)
        assert [type(result) for result in results] == [StoreError] * 3


async def test_a_response_without_a_request_ends_the_call(path: Path, store: BrokerStore) -> None:
    def respond_twice(call: Call) -> None:
        for _ in range(2):
            call.send(ExchangeResponse().SerializeToString())

    async with fake_broker(path, respond_twice) as canceled:
        assert await store.exchange([request("a")]) == []
        await canceled.wait()
