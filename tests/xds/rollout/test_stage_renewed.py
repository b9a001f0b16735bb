"""A stage goes on when its configs get other key sets or files."""

from tests.xds.rollout.stages import (
    SOAK,
    Stages,
    answer,
    compiled,
    keys_of,
    renew,
    resources,
    staged,
)
from xds.rollout.plan import TICK, Plan, Stage


def test_both_configs_get_new_key_sets_and_the_stage_goes_on() -> None:
    async def test(stages: Stages) -> None:
        trial = await stages.stage()
        await stages.settle()
        before = stages.fleet.rollout.stage
        assert stages.fleet.rollout.base is stages.fleet.rollout.in_force
        for number in range(10):
            await renew(stages, f"keys {number}")
            assert {keys_of(each) for each in stages.named.values()} == {b"keys %d" % number}
            await stages.advance(TICK / 2)
        stage = stages.fleet.rollout.stage
        assert before is not None
        assert stage is not None
        assert stage.nodes == before.nodes
        assert stage.remaining == before.remaining - 5 * TICK
        assert b"two" in stages.has(stages.first)[2]
        trial.reason = "worse"
        await stages.advance(TICK)
        await stages.settle()
        stages.all_have("one", "a")
        # The config before comes back with the latest keys.
        assert {keys_of(each) for each in stages.named.values()} == {b"keys 9"}

    staged(test)


def test_new_key_sets_that_wait_are_promoted_with_the_config() -> None:
    async def test(stages: Stages) -> None:
        await stages.stage()
        await stages.settle()
        stages.fleet.clock.advance(SOAK)
        await renew(stages, "renewed")
        await stages.settle()
        stages.all_have("two", "b")
        assert {keys_of(each) for each in stages.named.values()} == {b"renewed"}

    staged(test)


def test_new_key_sets_on_the_way_to_the_stage_keep_it() -> None:
    async def test(stages: Stages) -> None:
        stages.worker.automatic = False
        trial = await stages.stage()
        assert stages.fleet.rollout.step == "decide"
        assert stages.fleet.rollout.base is stages.fleet.rollout.in_force
        stages.worker.automatic = True
        stages.worker.acknowledge(stages.worker.waiting.pop())
        await renew(stages, "renewed")
        await stages.settle()
        assert stages.fleet.rollout.stage is not None
        assert {keys_of(each) for each in stages.named.values()} == {b"renewed"}
        assert trial.nodes == {stages.first.name}
        await stages.advance(SOAK)
        await stages.settle()
        stages.all_have("two", "b")

    staged(test)


def test_new_key_sets_during_the_promotion_reach_all() -> None:
    async def test(stages: Stages) -> None:
        await stages.stage(revision=2)
        await stages.settle()
        stages.worker.automatic = False
        await stages.advance(SOAK)
        rollout = stages.fleet.rollout
        assert (rollout.step, rollout.base) == ("decide", None)
        rollout.submit(compiled(resources("two", "b", keys="renewed"), 2))
        stages.worker.automatic = True
        stages.worker.acknowledge(stages.worker.waiting.pop())
        await stages.fleet.until_idle()
        await stages.settle()
        stages.all_have("two", "b")
        assert {keys_of(each) for each in stages.named.values()} == {b"renewed"}

    staged(test)


def test_a_change_of_the_staged_config_keeps_a_renewal_of_the_other_one() -> None:
    async def test(stages: Stages) -> None:
        await stages.stage(revision=2)
        await stages.settle()
        stages.others[0].automatic = False
        await renew(stages, "new", 2)
        assert stages.fleet.rollout.step == "switch"
        # A file that the staged config names has changed meanwhile.
        target = compiled(resources("two", "b", "c", keys="new"), 2)
        stages.fleet.rollout.submit(target, plan=Plan(stage=Stage(0.1, SOAK, None, 2)))
        await answer(stages, stages.others[0])
        await stages.settle()
        assert {keys_of(each) for each in stages.named.values()} == {b"new"}
        assert stages.has(stages.first)[1] == {"b", "c"}

    staged(test)
