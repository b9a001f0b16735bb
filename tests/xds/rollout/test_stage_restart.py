"""A control plane that starts in the middle of a stage."""

from tests.xds.rollout.nodes_in_memory import callout
from tests.xds.rollout.stages import ONE, SOAK, TWO, Stages, StageVerdict, compiled
from tests.xds.rollout.test_rollout import run, start_fleet
from xds.protocol.resource_types import CLUSTER
from xds.rollout.plan import TICK, Plan, Stage
from xds.rollout.stage import RETURN


def test_a_control_plane_that_starts_in_a_stage_goes_on_with_the_same_envoys() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            stages, trial = Stages(fleet, callout(fleet.nodes)), StageVerdict()
            fleet.clients.append(stages.worker)
            stage = Stage(0.1, SOAK, trial, 2, frozenset({"envoy-1"}))
            target, base = compiled(TWO, 2), compiled(ONE, 1)
            fleet.rollout.submit(target, base=base, plan=Plan(stage=stage))
            await fleet.until_idle()
            assert (fleet.rollout.version, fleet.rollout.latest) == ("one", target)
            await stages.advance(RETURN - TICK)
            assert fleet.rollout.stage is not None
            for number in range(3):
                stages.connect(f"envoy-{number}")
            await fleet.until_idle()
            assert stages.first.name == "envoy-1"
            assert stages.has(stages.first)[:2] == ("two", {"b"})
            assert all(stages.has(each)[:2] == ("one", {"a"}) for each in stages.others)
            # No Envoy had another config meanwhile.
            assert {names for kind, names in stages.first.history if kind == CLUSTER} == {
                frozenset({"b"})
            }
            await stages.advance(SOAK)
            await stages.settle()
            stages.all_have("two", "b")

    run(test)


def test_a_control_plane_that_starts_in_a_stage_undoes_it_if_its_envoys_do_not_return() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            stages = Stages(fleet, callout(fleet.nodes))
            fleet.clients.append(stages.worker)
            stage = Stage(0.1, 2 * SOAK, None, 2, frozenset({"gone"}))
            fleet.rollout.submit(compiled(TWO, 2), base=compiled(ONE, 1), plan=Plan(stage=stage))
            stages.connect("other")
            await stages.advance(RETURN + TICK)
            await stages.settle()
            assert "gone" in str(stages.failure)
            stages.all_have("one", "a")

    run(test)
