"""A stage that fails: the config before comes back."""

import pytest

from sluice.contract.names import JWT_FILTER, STAGED
from tests.xds.rollout.stages import (
    SOAK,
    THREE,
    Stages,
    StageVerdict,
    compiled,
    keys_of,
    renew,
    resources,
    staged,
)
from xds.rollout.choice import chosen
from xds.rollout.plan import TICK, Plan, Stage
from xds.rollout.stage import ABSENT


def test_a_staged_config_that_is_worse_goes_back_and_workers_keep_its_policy_longest() -> None:
    async def test(stages: Stages) -> None:
        trial = await stages.stage()
        await stages.settle()
        first = stages.first
        trial.reason = "model b: 50 % of 200 requests failed"
        stages.fleet.rollout.ended.clear()
        first.automatic = False
        await stages.advance(TICK)
        # The Envoy has the clusters again, and no route is marked for the old one any more.
        first.acknowledge(first.waiting.pop(0))
        await stages.fleet.until_idle()
        assert stages.fleet.rollout.step == "make"
        for response in first.waiting:
            first.acknowledge(response)
        first.waiting.clear()
        first.automatic = True
        await stages.fleet.until_idle()
        assert stages.fleet.rollout.step == "switch"
        assert f"{STAGED}policy" in stages.policies
        assert stages.has(first)[2] == b"tablehostsroutes of one"
        await stages.settle()
        stages.all_have("one", "a")
        assert stages.failure == trial.reason
        assert trial.ended == 1
        result = stages.fleet.rollout.result
        assert result is not None
        assert result.rejected is not None
        assert result.rejected.snapshot.version == "two"
        assert stages.fleet.rollout.ended.is_set()

    staged(test)


@pytest.mark.parametrize(
    ("rejected", "by"), [("b", "envoy"), (f"{STAGED}policy", "worker"), ("gateway", "envoy")]
)
def test_a_nack_in_any_step_to_the_stage_restores_the_config_before(rejected: str, by: str) -> None:
    async def test(stages: Stages) -> None:
        clients = stages.named.values() if by == "envoy" else [stages.worker]
        for client in clients:
            client.rejects = rejected
        stages.fleet.rollout.ended.clear()
        trial = await stages.stage()
        for client in clients:
            client.rejects = None
        await stages.settle()
        assert f"{rejected} is invalid" in str(stages.failure)
        assert stages.fleet.rollout.ended.is_set()
        assert (stages.fleet.rollout.version, stages.fleet.rollout.stage) == ("one", None)
        assert trial.judgements == 0
        await stages.advance(2 * SOAK)
        assert stages.policies == {"policy", "model/a"}
        assert stages.fleet.rollout.version == "one"

    staged(test)


def test_a_staged_envoy_that_rejects_the_config_late_undoes_the_stage() -> None:
    async def test(stages: Stages) -> None:
        (slow,) = chosen(list(stages.named), 0.1)
        stages.disconnect(slow)
        client = stages.connect(slow)
        await stages.fleet.until_idle()
        await stages.stage()
        await stages.settle()
        assert stages.first is client
        stages.disconnect(slow)
        again = stages.connect(slow)
        again.rejects = "b"
        await stages.fleet.until_idle()
        assert stages.fleet.rollout.stage is not None
        await stages.advance(2 * TICK)
        again.rejects = None
        await stages.settle()
        assert "b is invalid" in str(stages.failure)
        assert stages.fleet.rollout.version == "one"
        assert stages.fleet.rollout.stage is None

    staged(test)


def test_a_staged_envoy_that_rejects_what_the_others_have_too_does_not_end_the_stage() -> None:
    async def test(stages: Stages) -> None:
        await stages.stage()
        await stages.settle()
        name = stages.first.name
        stages.disconnect(name)
        stages.connect(name).rejects = JWT_FILTER
        await stages.advance(2 * TICK)
        assert stages.first.node.nack() is not None
        assert stages.fleet.rollout.stage is not None

    staged(test)


def test_a_nack_of_an_envoy_that_is_not_staged_does_not_end_the_stage() -> None:
    async def test(stages: Stages) -> None:
        await stages.stage()
        await stages.settle()
        new = stages.connect("new")
        new.rejects = "a"
        await stages.advance(2 * TICK)
        assert stages.fleet.rollout.stage is not None

    staged(test)


def test_a_nack_of_the_promotion_restores_the_config_before() -> None:
    async def test(stages: Stages) -> None:
        trial = await stages.stage()
        await stages.settle()
        other = stages.others[0]
        other.rejects = "b"
        await stages.advance(SOAK)
        other.rejects = None
        await stages.settle()
        assert f"node {other.name} rejected clusters" in str(stages.failure)
        assert (stages.fleet.rollout.version, stages.fleet.rollout.stage) == ("one", None)
        assert trial.ended == 1
        assert stages.policies == {"policy", "model/a"}

    staged(test)


def test_an_envoy_that_rejects_a_renewal_undoes_the_stage() -> None:
    async def test(stages: Stages) -> None:
        trial = await stages.stage(revision=2)
        await stages.settle()
        first = stages.first
        first.rejects = "b"
        stages.fleet.rollout.ended.clear()
        base = compiled(resources("one", "a"), 1)
        stages.fleet.rollout.submit(compiled(resources("two", "b", "c"), 2), base=base)
        await stages.fleet.until_idle()
        first.rejects = None
        await stages.settle()
        assert "b is invalid" in str(stages.failure)
        assert stages.fleet.rollout.ended.is_set()
        assert (stages.fleet.rollout.version, stages.fleet.rollout.stage) == ("one", None)
        assert trial.ended == 1

    staged(test)


def test_a_stage_is_undone_with_the_renewal_that_waits() -> None:
    async def test(stages: Stages) -> None:
        trial = await stages.stage(revision=2)
        await stages.settle()
        trial.reason = "worse"
        stages.fleet.clock.advance(TICK)
        await renew(stages, "new", 2)
        await stages.settle()
        stages.all_have("one", "a")
        assert stages.failure == "worse"
        assert {keys_of(each) for each in stages.named.values()} == {b"new"}

    staged(test)


def test_a_stage_fails_when_none_of_its_envoys_is_connected_for_long() -> None:
    async def test(stages: Stages) -> None:
        await stages.stage()
        await stages.settle()
        name = stages.first.name
        stages.disconnect(name)
        await stages.advance(2 * TICK)
        stages.connect(name)
        await stages.advance(2 * TICK)
        assert stages.fleet.rollout.stage is not None
        stages.disconnect(name)
        await stages.advance(ABSENT + 2 * TICK)
        await stages.settle()
        assert stages.failure == f"no staged Envoy is connected: {name}"
        stages.all_have("one", "a")

    staged(test)


def test_a_config_is_not_promoted_while_its_envoys_are_away() -> None:
    async def test(stages: Stages) -> None:
        await stages.stage()
        await stages.advance(SOAK - 1)
        name = stages.first.name
        stages.disconnect(name)
        await stages.advance(TICK)
        assert (stages.fleet.rollout.version, stages.fleet.rollout.step) == ("one", None)
        stages.connect(name)
        await stages.advance(TICK)
        await stages.settle()
        stages.all_have("two", "b")

    staged(test)


def test_a_later_config_of_a_stage_that_fails_meanwhile_is_rejected_with_it() -> None:
    async def test(stages: Stages) -> None:
        trial = await stages.stage(revision=2)
        await stages.settle()
        trial.reason = "worse"
        stages.fleet.clock.advance(TICK)
        plan = Plan(stage=Stage(0.1, SOAK / 2, StageVerdict(), 2))
        await stages.submit(compiled(THREE, 3), plan)
        await stages.settle()
        stages.all_have("one", "a")
        result = stages.fleet.rollout.result
        assert result is not None
        assert result.rejected is not None
        assert result.rejected.revision == 3

    staged(test)
