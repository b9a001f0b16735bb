"""Some Envoys get a config before the others."""

from dataclasses import replace

from protos.base_pb2 import Node as NodeMessage
from sluice.contract.names import STAGED
from tests.xds.rollout.nodes_in_memory import callout
from tests.xds.rollout.stages import ONE, SOAK, TWO, Stages, staged
from tests.xds.rollout.test_rollout import run, start_fleet
from tests.xds.rollout.test_watch import Verdict
from xds.protocol import resource_types
from xds.protocol.snapshot import NodeIdentity, Snapshot, Variant
from xds.rollout.plan import TICK, Plan


def test_a_share_of_the_envoys_gets_a_config_first_and_the_others_after_the_soak() -> None:
    async def test(stages: Stages) -> None:
        trial = await stages.stage()
        await stages.settle()
        rollout = stages.fleet.rollout
        assert rollout.stage is not None
        assert (rollout.stage.nodes, rollout.stage.share) == ((stages.first.name,), 0.1)
        assert (rollout.stage.version, rollout.stage.remaining) == ("two", SOAK - 1)
        assert (rollout.version, rollout.in_sync, rollout.step) == ("one", True, None)
        version, clusters, routes = stages.has(stages.first)
        assert (version, clusters) == ("two", {"b"})
        assert routes.endswith(b"routes of two")
        assert b"two" in routes.removesuffix(b"routes of two")
        for other in stages.others:
            assert stages.has(other) == ("one", {"a"}, b"tablehostsroutes of one")
        assert stages.policies == {
            *("policy", "model/a"),
            *(STAGED + each for each in ("policy", "model/b")),
        }
        assert trial.nodes == {stages.first.name}
        await stages.advance(SOAK - 2.0)
        assert rollout.version == "one"
        await stages.advance(1.0)
        assert (rollout.version, rollout.step) == ("two", "switch")
        await stages.settle()
        stages.all_have("two", "b")
        assert (trial.judgements, trial.ended) == (SOAK / TICK, 1)
        assert stages.failure is None

    staged(test)


def test_workers_have_the_staged_policy_before_any_envoy_has_routes_for_it() -> None:
    async def test(stages: Stages) -> None:
        stages.worker.automatic = False
        await stages.stage()
        assert stages.fleet.rollout.step == "decide"
        waiting = stages.worker.waiting.pop()
        assert f"{STAGED}policy" in waiting.resources
        assert all(b"two" not in stages.has(each)[2] for each in stages.named.values())
        # The clusters come even before.
        assert [stages.has(each)[1] for each in stages.named.values()].count({"a", "b"}) == 1
        stages.worker.automatic = True
        stages.worker.acknowledge(waiting)
        await stages.fleet.until_idle()
        assert b"two" in stages.has(stages.first)[2]

    staged(test)


def test_workers_have_the_staged_policy_first_also_if_all_envoys_are_in_groups() -> None:
    def grouped(snapshot: Snapshot) -> Snapshot:
        group = snapshot.with_types(
            {resource_types.POLICY: Snapshot.of({}, None).types[resource_types.POLICY]}
        )
        variants = {"group/g": Variant(lambda: group)}
        return replace(snapshot, variants=variants, variant_of=in_group)

    async def test(stages: Stages) -> None:
        stages.worker.automatic = False
        await stages.stage(grouped(TWO))
        assert stages.fleet.rollout.step == "decide"
        stages.worker.automatic = True
        stages.worker.acknowledge(stages.worker.waiting.pop())
        await stages.fleet.until_idle()
        await stages.settle()
        assert stages.first.node.variant == "staged/group/g"
        assert b"two" in stages.has(stages.first)[2]
        assert {each.node.variant for each in stages.others} == {"group/g"}
        await stages.advance(SOAK)
        await stages.settle()
        assert {each.node.variant for each in stages.named.values()} == {"group/g"}
        stages.all_have("two", "b")
        assert not [each for each in stages.fleet.nodes.snapshot.variants if STAGED in each]

    staged(test, first=grouped(ONE))


def in_group(node: NodeIdentity) -> str:
    return "" if node.id == "worker" else "group/g"


def test_envoys_that_connect_later_get_the_config_that_they_would_have_had() -> None:
    async def test(stages: Stages) -> None:
        await stages.stage()
        await stages.settle()
        name = stages.first.name
        stages.disconnect(name)
        again, new = stages.connect(name), stages.connect("new")
        await stages.fleet.until_idle()
        assert stages.has(again)[:2] == ("two", {"b"})
        assert stages.has(new) == ("one", {"a"}, b"tablehostsroutes of one")
        await stages.advance(SOAK)
        await stages.settle()
        stages.all_have("two", "b")

    staged(test)


def test_a_worker_that_connects_later_has_both_policies_whatever_its_id() -> None:
    async def test(stages: Stages) -> None:
        await stages.stage()
        await stages.settle()
        worker = callout(stages.fleet.nodes)
        message = NodeMessage(id=stages.first.name, user_agent_name="sluice-callout")
        stages.fleet.nodes.identify(worker.node, message)
        stages.fleet.clients.append(worker)
        await stages.fleet.until_idle()
        assert worker.resources[resource_types.POLICY] == stages.policies
        assert worker.node.version == "one"

    staged(test)


def test_an_event_says_which_envoys_have_a_config_first_and_until_when() -> None:
    async def test(stages: Stages) -> None:
        await stages.stage(revision=2)
        first = stages.first.name
        await stages.advance(SOAK + 1)
        told = [each for each in await stages.fleet.told() if each["version"] == "two"]
        steps = [each["step"] for each in told]
        # To the stage, with the removals, and then to all.
        assert steps[:4] == ["make", "decide", "switch", "staged"]
        assert steps[4:] == ["remove", "make", "decide", "switch", "in_force", "remove"]
        assert told[3] == {
            "version": "two",
            "revision": 2,
            "step": "staged",
            "until": SOAK,
            "nodes": [first],
            "number": 1,
            "unresponsive": [],
        }

    staged(test)


def test_the_first_config_has_no_stage() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            stages = Stages(fleet, callout(fleet.nodes))
            fleet.clients.append(stages.worker)
            for name in "xyz":
                stages.connect(name)
            await stages.stage()
            await stages.settle()
            stages.all_have("two", "b")

    run(test)


def test_a_promoted_config_is_watched() -> None:
    async def test(stages: Stages) -> None:
        verdict = Verdict()
        await stages.stage(revision=2, watch=Plan(SOAK, verdict))
        await stages.advance(SOAK - 1)
        assert (verdict.started, stages.fleet.rollout.watched) == (False, None)
        await stages.advance(1)
        assert (verdict.started, stages.fleet.rollout.watched) == (True, 2)
        verdict.reason = "worse for all"
        await stages.advance(2 * TICK)
        await stages.settle()
        assert stages.failure == "worse for all"
        stages.all_have("one", "a")

    staged(test)
