"""The broker keeps as many budgets as the policy of those who ask it says."""

from pathlib import Path

import pytest

from extproc.limits.arithmetic import Algorithm, LeaseRequest, Limit
from extproc.limits.broker import Broker, BrokerStore
from extproc.limits.ledger import Ledger

pytestmark = pytest.mark.anyio

LIMIT = Limit(Algorithm.TOKEN_BUCKET, 10, 1_000_000, 10)


def ask(key: str) -> LeaseRequest:
    return LeaseRequest(key, LIMIT, "worker", 1, 0, 0, 1, 1_000_000)


async def test_the_room_is_what_the_policy_gives_and_a_new_one_may_give_less(
    tmp_path: Path,
) -> None:
    ledger, path = Ledger(100), tmp_path / "socket"
    async with Broker(path, ledger, lambda: 1.0):
        for room in (5, 2, 3):
            store = BrokerStore(path, room)
            for number in range(6):
                await store.exchange([ask(f"key-{number}")])
            assert len(ledger) == room
            await store.close()
