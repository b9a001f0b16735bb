"""Some Envoys get a config before the others, with a clock and trials that the test controls."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from protos.base_pb2 import Node as NodeMessage
from protos.policy_pb2 import Policy
from sluice.config import GatewayConfig, policy_document
from sluice.config.checked import LoadedConfig
from sluice.contract.names import JWT_FILTER, POLICY, STAGED, policy_model
from tests.xds.rollout.nodes_in_memory import Client, callout, native_envoy
from tests.xds.rollout.test_rollout import Fleet, run, start_fleet
from tests.xds.rollout.test_watch import Verdict
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.resource_types import CLUSTER, EXTENSION, ROUTE
from xds.protocol.snapshot import NodeIdentity, Resource, Snapshot, Variant
from xds.resources.compiled import CompiledConfig
from xds.resources.listener import listener
from xds.rollout.choice import chosen, envoys
from xds.rollout.plan import TICK, Plan, Stage
from xds.rollout.stage import ABSENT, RETURN

SOAK = 60.0
LISTENER = Resource.of(bytes(listener(GatewayConfig(), Path(), answers_readiness=False)))


@dataclass
class StageVerdict:
    """A trial of a stage that finds what the test sets."""

    reason: str | None = None
    nodes: Collection[str] = ()
    judgements: int = 0
    ended: int = 0

    def start(self, nodes: Collection[str]) -> None:
        assert not self.nodes
        self.nodes = nodes

    def failure(self) -> str | None:
        self.judgements += 1
        return self.reason

    def end(self) -> None:
        self.ended += 1


def resources(version: str, *models: str, keys: str = "keys") -> Snapshot:
    """A config of these models, whose other resources have the version as text."""
    policy = {POLICY: Resource.of(Policy(version=version).SerializeToString())}
    policy |= {policy_model(each): Resource.of(b"m") for each in models}
    return Snapshot.of(
        {
            resource_types.CLUSTER: dict.fromkeys(models, Resource.of(b"c")),
            resource_types.ENDPOINT: dict.fromkeys(models, Resource.of(b"e")),
            resource_types.LISTENER: {"gateway": LISTENER},
            EXTENSION: {JWT_FILTER: Resource.of(keys.encode())},
            ROUTE: {"gateway": Resource.of(b"table", b"hosts", f"routes of {version}".encode())},
            resource_types.POLICY: policy,
        },
        version,
    )


def compiled(snapshot: Snapshot, revision: int | None = None) -> CompiledConfig:
    config = GatewayConfig()
    policy = policy_document(config, Path())
    loaded = LoadedConfig(config, policy, Path(), revision=revision)
    return CompiledConfig(config, snapshot, loaded=loaded)


ONE, TWO, THREE = resources("one", "a"), resources("two", "b"), resources("three", "c")


@dataclass
class Stages:
    """A fleet whose Envoys have the config `ONE`."""

    fleet: Fleet
    worker: Client
    named: dict[str, Client] = field(default_factory=dict)

    def connect(self, name: str) -> Client:
        client = native_envoy(self.fleet.nodes, name)
        self.fleet.nodes.identify(client.node, NodeMessage(id=name))
        self.fleet.clients.append(client)
        self.named[name] = client
        return client

    def disconnect(self, name: str) -> None:
        client = self.named.pop(name)
        self.fleet.clients.remove(client)
        self.fleet.nodes.disconnect(client.node)

    async def submit(self, config: CompiledConfig, plan: Plan | None = None) -> None:
        self.fleet.rollout.submit(config, plan=plan or Plan())
        await self.fleet.until_idle()

    async def stage(
        self,
        snapshot: Snapshot = TWO,
        trial: StageVerdict | None = None,
        *,
        share: float = 0.1,
        revision: int | None = None,
        watch: Plan | None = None,
    ) -> StageVerdict:
        trial = trial or StageVerdict()
        stage = Stage(share, SOAK, trial, revision)
        plan = replace(watch or Plan(), stage=stage)
        await self.submit(compiled(snapshot, revision), plan)
        return trial

    async def settle(self) -> None:
        """Let the pause before the removals pass."""
        await self.advance(1.0)

    async def advance(self, seconds: float) -> None:
        """Let time pass in ticks."""
        end = self.fleet.clock.now + seconds
        while self.fleet.clock.now < end:
            self.fleet.clock.advance(min(TICK, end - self.fleet.clock.now))
            await self.fleet.until_idle()

    @property
    def first(self) -> Client:
        """An Envoy that is staged."""
        assert self.fleet.rollout.stage is not None
        return self.named[self.fleet.rollout.stage.nodes[0]]

    @property
    def others(self) -> list[Client]:
        return [each for each in self.named.values() if each is not self.first]

    def has(self, client: Client) -> tuple[str | None, set[str], bytes]:
        """The version of an Envoy, its clusters, and its routes."""
        routes = next(each for each in reversed(client.received) if each.type == ROUTE)
        return client.node.version, client.resources[CLUSTER], routes.resources["gateway"].body

    def all_have(self, version: str, *models: str) -> None:
        for client in self.named.values():
            wanted = version, set(models), f"tablehostsroutes of {version}".encode()
            assert self.has(client) == wanted
        assert self.policies == {"policy", *map(policy_model, models)}
        assert self.fleet.rollout.version == version
        assert self.fleet.rollout.stage is None
        assert self.fleet.rollout.in_sync

    @property
    def policies(self) -> set[str]:
        return self.worker.resources[resource_types.POLICY]

    @property
    def failure(self) -> str | None:
        result = self.fleet.rollout.result
        return None if result is None else result.failure


def staged(
    test: Callable[[Stages], Awaitable[None]], envoys: int = 3, first: Snapshot = ONE
) -> None:
    """Run a test with some Envoys and a worker."""

    async def with_fleet() -> None:
        async with start_fleet() as fleet:
            stages = Stages(fleet, callout(fleet.nodes))
            fleet.nodes.identify(stages.worker.node, NodeMessage(id="worker"))
            fleet.clients.append(stages.worker)
            for number in range(envoys):
                stages.connect(f"envoy-{number}")
            await stages.submit(compiled(first, 1))
            await test(stages)

    run(with_fleet)


@pytest.mark.parametrize(
    ("connected", "share", "number"),
    [(0, 0.5, 0), (1, 0.5, 0), (2, 0.01, 1), (10, 0.1, 1), (11, 0.1, 2), (3, 0.99, 2), (2, 1, 1)],
)
def test_at_least_one_envoy_is_chosen_and_not_all(
    connected: int, share: float, number: int
) -> None:
    ids = [f"envoy-{n}" for n in range(connected)]
    assert len(chosen(ids, share)) == number


def test_the_same_envoys_are_chosen_again_and_a_larger_share_has_them_too() -> None:
    ids = [f"envoy-{n}" for n in range(50)]
    few, more = chosen(ids, 0.1), chosen(ids[::-1], 0.3)
    assert few < more
    assert chosen(ids[::-1], 0.1) == few
    assert few != set(ids[:5])


def test_only_envoys_that_say_who_they_are_count_and_each_once() -> None:
    nodes = Nodes(lambda: 0.0)
    names = ("twice", "twice", "", "other")
    for name in names:
        client = native_envoy(nodes, name)
        nodes.identify(client.node, NodeMessage(id=name))
    nodes.identify(callout(nodes).node, NodeMessage(id="worker"))
    native_envoy(nodes, "unidentified")
    assert envoys(nodes) == {"twice", "other"}


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


async def renew(stages: Stages, keys: str, revision: int | None = None) -> None:
    """Renew both configs, as the follower does."""
    rollout = stages.fleet.rollout
    assert rollout.base is not None
    assert rollout.latest is not None
    base = compiled(resources("one", "a", keys=keys), 1)
    rollout.submit(compiled(resources("two", "b", keys=keys), revision), base=base)
    await stages.fleet.until_idle()


def keys_of(client: Client) -> bytes:
    received = next(each for each in reversed(client.received) if each.type == EXTENSION)
    return received.resources[JWT_FILTER].body


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


async def answer(stages: Stages, client: Client) -> None:
    """Let a client answer all that it has got, and all that it will get."""
    client.automatic = True
    while client.waiting:
        client.acknowledge(client.waiting.pop(0))
    await stages.fleet.until_idle()


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


@pytest.mark.parametrize("connected", [0, 1])
def test_with_fewer_than_two_envoys_all_get_the_config_at_once(connected: int) -> None:
    async def test(stages: Stages) -> None:
        trial = await stages.stage()
        await stages.settle()
        stages.all_have("two", "b")
        assert trial.nodes == ()
        told = [each for each in await stages.fleet.told() if each["step"] == "not_staged"]
        reason = "fewer than two Envoys are connected"
        assert told == [
            {"version": "two", "revision": None, "step": "not_staged", "reason": reason}
        ]

    staged(test, envoys=connected)


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
