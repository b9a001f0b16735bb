"""Envoy's answers are those of `decide()`, for random policies and requests (`equality`)."""

import asyncio

from tests.integration.equality.compare import Tally, compare_world
from tests.integration.equality.conditions import ConditionCheck, omissions
from tests.integration.equality.gateway import equality_gateway

CONFIGS, REQUESTS = 6, 2_500
"""Random configs, and requests for each. `python -m bench.equality` compares many more."""


def test_envoy_answers_as_decide_does() -> None:
    tally = asyncio.run(_compare())
    assert not tally.differences, "\n\n".join(map(str, tally.differences[:5]))
    assert tally.native_share >= 0.4
    assert tally.edited >= 0.3 * tally.requests


async def _compare() -> Tally:
    total = Tally()
    async with equality_gateway() as gateway:
        for number in range(CONFIGS):
            total.add(await compare_world(gateway, f"test-{number}", REQUESTS))
    return total


def test_the_comparison_notices_each_condition_of_native_routes_that_is_left_out() -> None:
    unnoticed = asyncio.run(_unnoticed())
    assert not unnoticed


async def _unnoticed() -> list[str]:
    async with equality_gateway() as gateway:
        check = ConditionCheck(gateway)
        complete = await check.differences(None)
        assert not complete.differences, "\n\n".join(map(str, complete.differences[:5]))
        return [
            omission.name
            for omission in omissions()
            if not (await check.differences(omission)).differences
        ]
