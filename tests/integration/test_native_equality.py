"""Envoy's answers are those of `decide()`, for random policies and requests (`equality`)."""

import asyncio

from tests.integration.equality.compare import Tally, compare_world
from tests.integration.equality.every_rule import every_rule
from tests.integration.equality.gateway import equality_gateway
from tests.integration.equality.mutations.check import MutationCheck, Outcome, Report
from tests.integration.equality.mutations.mutation import distinct

CONFIGS, REQUESTS = 6, 2_500
"""Random configs, and requests for each. `python -m bench.equality` compares many more."""

REQUESTS_PER_MUTANT = 1_300
"""Most mutants need a hundred. `python -m bench.equality --mutations` has more mutants."""


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


def test_the_comparison_notices_each_matcher_of_native_routes_that_is_left_out() -> None:
    """Matchers in the same place of different models are one here: `bench.equality --mutations`
    leaves out all of them.
    """
    report = asyncio.run(_mutate())
    assert not report.differences, "\n\n".join(map(str, report.differences[:5]))
    assert report.names(Outcome.NOTICED)
    assert report.unexpected() == []


async def _mutate() -> Report:
    async with equality_gateway() as gateway:
        check = MutationCheck(gateway, every_rule(gateway.model_port), REQUESTS_PER_MUTANT)
        await check.check(distinct(await check.start()))
    return check.report
