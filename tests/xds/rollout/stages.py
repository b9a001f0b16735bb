"""Envoys that get a config in a stage, with a clock and trials that the test controls."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from protos.base_pb2 import Node as NodeMessage
from protos.policy_pb2 import Policy
from sluice.config import GatewayConfig, policy_document
from sluice.config.checked import LoadedConfig
from sluice.contract.names import JWT_FILTER, POLICY, policy_model
from tests.xds.rollout.nodes_in_memory import Client, callout, native_envoy
from tests.xds.rollout.test_rollout import Fleet, run, start_fleet
from xds.protocol import resource_types
from xds.protocol.resource_types import CLUSTER, EXTENSION, ROUTE
from xds.protocol.snapshot import Resource, Snapshot
from xds.resources.compiled import CompiledConfig
from xds.resources.listener import listener
from xds.rollout.plan import TICK, Plan, Stage

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


def keys_of(client: Client) -> bytes:
    received = next(each for each in reversed(client.received) if each.type == EXTENSION)
    return received.resources[JWT_FILTER].body


async def answer(stages: Stages, client: Client) -> None:
    """Let a client answer all that it has got, and all that it will get."""
    client.automatic = True
    while client.waiting:
        client.acknowledge(client.waiting.pop(0))
    await stages.fleet.until_idle()


async def renew(stages: Stages, keys: str, revision: int | None = None) -> None:
    """Renew both configs, as the follower does."""
    rollout = stages.fleet.rollout
    assert rollout.base is not None
    assert rollout.latest is not None
    base = compiled(resources("one", "a", keys=keys), 1)
    rollout.submit(compiled(resources("two", "b", keys=keys), revision), base=base)
    await stages.fleet.until_idle()
