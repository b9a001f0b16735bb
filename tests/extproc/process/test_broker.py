"""The supervisor serves budgets on a thread."""

import asyncio
from pathlib import Path

import pytest

from extproc.limits.arithmetic import Algorithm, LeaseRequest, Limit
from extproc.limits.broker import BrokerStore
from extproc.process.broker import serve_budgets_in_thread

LIMIT = Limit(Algorithm.TOKEN_BUCKET, 1, 1_000_000, 1)


def lease(path: Path, key: str) -> None:
    async def exchange() -> None:
        store = BrokerStore(path, max_keys=1)
        await store.exchange([LeaseRequest(key, LIMIT, "worker", 1, 0, 0, 1, 1_000_000)])
        await store.close()

    asyncio.run(exchange())


def test_evictions_are_counted_while_the_block_lasts(tmp_path: Path) -> None:
    counted: list[int] = []
    path = tmp_path / "broker"
    with serve_budgets_in_thread(path, counted.append):
        for key in "abc":
            lease(path, key)
    assert counted == [0, 1, 1]
    assert not path.exists()


def test_a_socket_that_cannot_be_bound_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError),
        serve_budgets_in_thread(tmp_path / "missing" / "broker", lambda _: None),
    ):
        pass
