"""Configs that are judged after their rollout, with trials and a clock that the test controls."""

from dataclasses import dataclass, replace
from pathlib import Path

from sluice.config import GatewayConfig, policy_document
from sluice.config.checked import LoadedConfig
from tests.xds.rollout.nodes_in_memory import callout, envoy
from tests.xds.rollout.test_rollout import Fleet, run, snapshot, start_fleet
from xds.protocol import resource_types
from xds.protocol.snapshot import Snapshot
from xds.resources.compiled import CompiledConfig
from xds.rollout.plan import TICK, Plan


@dataclass
class Verdict:
    """A trial that finds what the test sets."""

    reason: str | None = None
    started: bool = False
    judgements: int = 0

    def start(self) -> None:
        self.started = True

    def failure(self) -> str | None:
        self.judgements += 1
        return self.reason


def submit(fleet: Fleet, new: Snapshot, trial: Verdict, watch: float = 60.0) -> None:
    compiled = CompiledConfig(GatewayConfig(), new)
    fleet.rollout.submit(compiled, plan=Plan(watch, trial))


async def judged(fleet: Fleet, new: Snapshot, watch: float = 60.0) -> Verdict:
    """Roll out a config, and return the trial that judges it."""
    trial = Verdict()
    submit(fleet, new, trial, watch)
    await fleet.until_idle()
    return trial


async def pass_time(fleet: Fleet) -> None:
    fleet.clock.pass_time()
    await fleet.until_idle()


def test_a_config_that_is_worse_is_rolled_back_in_steps() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            proxy, worker = envoy(fleet.nodes), callout(fleet.nodes)
            fleet.clients = [proxy, worker]
            await fleet.roll_out(snapshot("a"))
            trial = await judged(fleet, snapshot("a", "b"))
            assert fleet.rollout.version == "a,b"
            assert trial.started
            await pass_time(fleet)
            assert (trial.judgements, fleet.rollout.version) == (1, "a,b")
            trial.reason = "model b: 50 % of 200 requests failed"
            fleet.rollout.ended.clear()
            await pass_time(fleet)
            assert fleet.rollout.version == "a"
            # The worker has the old policy before Envoy loses the cluster that the new one names.
            assert worker.resources[resource_types.POLICY] == {"policy"}
            assert proxy.resources[resource_types.CLUSTER] == {"a", "b"}
            await pass_time(fleet)
            assert proxy.resources[resource_types.CLUSTER] == {"a"}
            result = fleet.rollout.result
            assert result is not None
            assert result.rejected is not None
            assert result.rejected.snapshot.version == "a,b"
            assert (result.nack, result.failure) == (None, trial.reason)
            assert fleet.rollout.ended.is_set()
            assert fleet.rollout.in_sync

    run(test)


def test_a_config_is_judged_only_for_its_time() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            await fleet.roll_out(snapshot("a"))
            trial = await judged(fleet, snapshot("b"), watch=2 * TICK)
            for _ in range(5):
                await pass_time(fleet)
            assert trial.judgements == 2
            trial.reason = "too late"
            await pass_time(fleet)
            assert fleet.rollout.version == "b"
            assert fleet.clock.sleepers == []

    run(test)


def test_a_newer_config_ends_the_judgement_and_is_compared_with_what_it_replaces() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            await fleet.roll_out(snapshot("a"))
            first, second = Verdict(), Verdict()
            submit(fleet, snapshot("b"), first)
            await fleet.until_idle()
            submit(fleet, snapshot("c"), second)
            await fleet.until_idle()
            await pass_time(fleet)
            first.reason = "nobody asks"
            await pass_time(fleet)
            assert fleet.rollout.version == "c"
            second.reason = "worse"
            await pass_time(fleet)
            assert fleet.rollout.version == "b"

    run(test)


def test_new_key_sets_do_not_end_the_judgement() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            await fleet.roll_out(snapshot("a"))
            trial = await judged(fleet, snapshot("b"))
            fleet.submit(snapshot("b", version="b"), renewal=True)
            await fleet.until_idle()
            await pass_time(fleet)
            trial.reason = "worse"
            await pass_time(fleet)
            assert fleet.rollout.version == "a"

    run(test)


def test_renewals_that_follow_each_other_closely_do_not_delay_the_judgement() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            await fleet.roll_out(snapshot("a"))
            trial = await judged(fleet, snapshot("b"), watch=4 * TICK)
            for number in range(10):
                fleet.submit(snapshot("b", version=f"b{number}"), renewal=True)
                await fleet.until_idle()
                fleet.clock.advance(TICK / 2)
                await fleet.until_idle()
            assert trial.judgements == 4
            assert fleet.rollout.watched is None
            assert fleet.clock.sleepers == []

    run(test)


def test_a_renewal_that_waits_does_not_bring_a_worse_config_back() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            await fleet.roll_out(snapshot("a"))
            trial = await judged(fleet, snapshot("b"))
            trial.reason = "worse"
            fleet.clock.advance(TICK)
            fleet.submit(snapshot("b", version="renewed"), renewal=True)
            await fleet.until_idle()
            assert fleet.rollout.version == "a"
            await pass_time(fleet)
            assert (fleet.rollout.version, fleet.rollout.step) == ("a", None)

    run(test)


def test_a_renewal_during_a_rollback_keeps_its_reason() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            worker = callout(fleet.nodes)
            fleet.clients = [worker]
            config = GatewayConfig()
            policy = policy_document(config, Path())
            loaded = LoadedConfig(config, policy, Path(), revision=1)
            good = CompiledConfig(config, snapshot("a"), loaded=loaded)
            fleet.rollout.submit(good)
            await fleet.until_idle()
            trial = Verdict("worse")
            submit(fleet, snapshot("b"), trial)
            await fleet.until_idle()
            worker.automatic = False
            await pass_time(fleet)
            await pass_time(fleet)
            assert fleet.rollout.step == "switch"
            fleet.rollout.submit(replace(good, snapshot=snapshot("a", version="renewed")))
            worker.automatic = True
            worker.acknowledge(worker.waiting.pop())
            await fleet.until_idle()
            assert fleet.rollout.version == "renewed"
            result = fleet.rollout.result
            assert result is not None
            assert result.failure == "worse"

    run(test)


def test_a_rejected_config_ends_the_judgement_of_the_one_that_stays() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            proxy = envoy(fleet.nodes)
            fleet.clients = [proxy]
            await fleet.roll_out(snapshot("a"))
            trial = await judged(fleet, snapshot("b"))
            proxy.rejects = "bad"
            await fleet.roll_out(snapshot("bad"))
            trial.reason = "worse"
            await pass_time(fleet)
            assert fleet.rollout.version == "b"

    run(test)


def test_the_first_config_is_not_judged() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            trial = Verdict("worse than nothing")
            submit(fleet, snapshot("a"), trial)
            await fleet.until_idle()
            await pass_time(fleet)
            assert (trial.judgements, fleet.rollout.version) == (0, "a")

    run(test)
