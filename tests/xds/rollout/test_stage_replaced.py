"""A newer config during a stage, or on the way to it."""

from tests.xds.rollout.stages import (
    SOAK,
    THREE,
    TWO,
    Stages,
    StageVerdict,
    answer,
    compiled,
    staged,
)
from xds.rollout.plan import TICK, Plan, Stage


def test_a_newer_config_replaces_the_stage() -> None:
    async def test(stages: Stages) -> None:
        trial = await stages.stage(revision=2)
        await stages.settle()
        trial.reason = "nobody asks"
        await stages.submit(compiled(THREE, 3))
        await stages.settle()
        stages.all_have("three", "c")
        assert trial.ended == 1
        await stages.advance(2 * SOAK)
        stages.all_have("three", "c")
        assert trial.judgements == 0

    staged(test)


def test_a_newer_config_may_have_a_stage_of_its_own() -> None:
    async def test(stages: Stages) -> None:
        former = await stages.stage(revision=2)
        await stages.settle()
        first = stages.first
        trial = await stages.stage(THREE, revision=3)
        # The Envoy has the config in force in between: workers have one staged policy.
        assert b"two" not in stages.has(first)[2]
        assert stages.has(first)[0] == "one"
        await stages.settle()
        await stages.settle()
        assert stages.first is first
        assert (former.ended, trial.ended, trial.nodes) == (1, 0, {first.name})
        assert stages.has(first)[:2] == ("three", {"c"})
        assert all(stages.has(each)[0] == "one" for each in stages.others)
        assert "staged/model/b" not in stages.policies
        trial.reason = "worse"
        await stages.advance(TICK)
        await stages.settle()
        stages.all_have("one", "a")

    staged(test)


def test_a_config_that_comes_during_the_way_to_the_stage_replaces_it() -> None:
    async def test(stages: Stages) -> None:
        stages.worker.automatic = False
        trial = await stages.stage()
        assert stages.fleet.rollout.step == "decide"
        stages.fleet.rollout.submit(compiled(THREE, 3))
        stages.worker.automatic = True
        stages.worker.acknowledge(stages.worker.waiting.pop())
        await stages.fleet.until_idle()
        await stages.settle()
        stages.all_have("three", "c")
        assert trial.nodes == ()

    staged(test)


def test_a_stage_that_replaces_a_rollout_is_on_top_of_it() -> None:
    async def test(stages: Stages) -> None:
        name = next(iter(stages.named))
        stages.named[name].automatic = False
        stages.fleet.rollout.submit(compiled(TWO, 2))
        await stages.fleet.until_idle()
        assert stages.fleet.rollout.step == "make"
        stages.fleet.rollout.submit(compiled(THREE, 3), plan=Plan(stage=Stage(0.1, SOAK, None, 3)))
        await answer(stages, stages.named[name])
        await stages.settle()
        assert stages.has(stages.first)[:2] == ("three", {"c"})
        assert {stages.has(each)[0] for each in stages.others} == {"two"}
        assert stages.fleet.rollout.version == "two"

    staged(test)


def test_a_later_config_of_the_same_stage_reaches_the_same_envoys_and_the_time_goes_on() -> None:
    async def test(stages: Stages) -> None:
        trial = await stages.stage(revision=2)
        await stages.advance(SOAK / 2)
        first = stages.first
        for name in ("new-1", "new-2"):
            stages.connect(name)
        plan = Plan(stage=Stage(0.1, SOAK / 2, StageVerdict(), 2))
        await stages.submit(compiled(THREE, 3), plan)
        await stages.settle()
        stage = stages.fleet.rollout.stage
        assert stage is not None
        assert (stage.revision, stage.begun, stage.remaining) == (3, 2, SOAK / 2 - 1)
        await stages.settle()
        assert stages.first is first
        assert stages.has(first)[:2] == ("three", {"c"})
        assert trial.ended == 0
        await stages.advance(SOAK / 2 - 3)
        assert stages.fleet.rollout.version == "one"
        await stages.advance(2)
        await stages.settle()
        stages.all_have("three", "c")

    staged(test)
