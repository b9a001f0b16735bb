"""Rollouts to nodes in memory, with a clock that the test controls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sluice.config import GatewayConfig, Problem
from tests.xds.rollout.nodes_in_memory import Client, callout, envoy
from xds.events import Events
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.snapshot import Resource, ResourceSet, Snapshot
from xds.resources.compiled import CompiledConfig
from xds.rollout.rollout import Rollout


@dataclass
class Clock:
    """Sleeps end when the test lets time pass. `sleepers`: when each ends, and its event."""

    now: float = 0.0
    sleepers: list[tuple[float, asyncio.Event]] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        sleeper = self.now + seconds, over
        self.sleepers.append(sleeper)
        try:
            await over.wait()
        finally:
            self.sleepers.remove(sleeper)

    def pass_time(self) -> None:
        """Let every sleep end."""
        self.advance(max((until for until, _ in self.sleepers), default=self.now) - self.now)

    def advance(self, seconds: float) -> None:
        """Let these seconds pass."""
        self.now += seconds
        for until, over in self.sleepers:
            if until <= self.now:
                over.set()


@dataclass
class Fleet:
    """A rollout and the clients that take part in fleet."""

    nodes: Nodes
    rollout: Rollout
    clock: Clock
    clients: list[Client] = field(default_factory=list)
    events: Events = field(default_factory=Events)

    async def told(self) -> list[Mapping[str, object]]:
        """The events of rollouts so far."""
        self.events.close()
        events = self.events.after(self.events.oldest - 1)
        return [each.data async for each in events if each.kind == "rollout"]

    async def until_idle(self) -> None:
        """Let the clients receive and acknowledge until there are no more responses."""
        quiet = 0
        while quiet < 10:
            received = [client.receive() for client in self.clients]
            quiet = 0 if any(received) else quiet + 1
            await asyncio.sleep(0)

    def submit(self, snapshot: Snapshot, *, renewal: bool = False) -> None:
        """Submit a config with this snapshot."""
        self.rollout.submit(CompiledConfig(GatewayConfig(), snapshot), renewal=renewal)

    async def roll_out(self, snapshot: Snapshot) -> None:
        """Roll out a snapshot to its end, and let all pauses pass."""
        self.submit(snapshot)
        await self.until_idle()
        while self.clock.sleepers:
            self.clock.pass_time()
            await self.until_idle()


@asynccontextmanager
async def start_fleet(ack_timeout: float = 60.0, propagation: float = 0.0) -> AsyncIterator[Fleet]:
    events, clock = Events(), Clock()
    nodes = Nodes(lambda: 0.0)
    rollout = Rollout(nodes, ack_timeout, clock.sleep, events, lambda: clock.now, propagation)
    running = asyncio.create_task(rollout.run())
    try:
        yield Fleet(nodes, rollout, clock, events=events)
    finally:
        running.cancel()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(limited())


def snapshot(*models: str, version: str | None = None) -> Snapshot:
    """A cluster and endpoints for each model. By default, the version is the list of models."""
    resources = dict.fromkeys(models, Resource.of(b"1"))
    return Snapshot.of(
        {
            resource_types.CLUSTER: resources,
            resource_types.ENDPOINT: resources,
            resource_types.LISTENER: {"gateway": Resource.of(b"listener")},
            resource_types.POLICY: {"policy": Resource.of(repr(models).encode())},
        },
        version or ",".join(models),
    )


def test_a_worker_gets_a_new_model_only_after_every_envoy_has_its_cluster() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            slow = envoy(fleet.nodes, "slow")
            worker = callout(fleet.nodes)
            fleet.clients = [envoy(fleet.nodes), slow, worker]
            await fleet.roll_out(snapshot("a"))
            slow.automatic = False
            received = len(worker.history)
            fleet.submit(snapshot("a", "b"))
            await fleet.until_idle()
            assert fleet.rollout.step == "make"
            assert len(worker.history) == received
            (clusters,) = slow.waiting
            slow.automatic = True
            slow.acknowledge(clusters)
            await fleet.until_idle()
            assert len(worker.history) == received + 1
            assert fleet.rollout.version == "a,b"
            assert fleet.rollout.in_sync

    run(test)


def test_a_cluster_is_removed_only_after_no_policy_names_it() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            proxy, worker = envoy(fleet.nodes), callout(fleet.nodes)
            fleet.clients = [proxy, worker]
            await fleet.roll_out(snapshot("a", "b"))
            worker.automatic = False
            fleet.submit(snapshot("a"))
            await fleet.until_idle()
            assert proxy.resources[resource_types.CLUSTER] == {"a", "b"}
            worker.automatic = True
            worker.acknowledge(worker.waiting.pop())
            await fleet.until_idle()
            assert fleet.rollout.version == "a"
            assert proxy.resources[resource_types.CLUSTER] == {"a", "b"}
            fleet.clock.pass_time()
            await fleet.until_idle()
            assert proxy.resources[resource_types.CLUSTER] == {"a"}
            assert fleet.rollout.in_sync

    run(test)


def test_a_nack_restores_the_last_good_snapshot_on_every_node_and_gives_the_reason() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            picky, other, worker = (
                envoy(fleet.nodes, "picky"),
                envoy(fleet.nodes),
                callout(fleet.nodes),
            )
            fleet.clients = [other, picky, worker]
            await fleet.roll_out(snapshot("a"))
            picky.rejects = "bad"
            received = len(worker.history)
            await fleet.roll_out(snapshot("a", "bad"))
            assert fleet.rollout.version == "a"
            assert other.resources[resource_types.CLUSTER] == {"a"}
            assert picky.resources[resource_types.CLUSTER] == {"a"}
            assert len(worker.history) == received
            result = fleet.rollout.result
            assert result is not None
            assert str(result.nack) == "node picky rejected clusters: bad is invalid"
            await fleet.roll_out(snapshot("a", "c"))
            assert fleet.rollout.version == "a,c"
            assert fleet.rollout.result is not None
            assert fleet.rollout.result.nack is None

    run(test)


def test_a_nack_does_not_restore_what_an_earlier_config_removed() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            proxy, worker = envoy(fleet.nodes), callout(fleet.nodes)
            fleet.clients = [proxy, worker]
            await fleet.roll_out(snapshot("a", "b"))
            await fleet.roll_out(snapshot("a"))
            worker.rejects = "policy"
            await fleet.roll_out(snapshot("a", "c"))
            assert fleet.rollout.version == "a"
            assert proxy.resources[resource_types.CLUSTER] == {"a"}

    run(test)


def test_the_first_rollout_removes_nothing_while_clusters_warm() -> None:
    """Nodes of an earlier control plane keep their listeners and policy until the new ones come."""

    async def test() -> None:
        async with start_fleet() as fleet:
            proxy, worker = envoy(fleet.nodes), callout(fleet.nodes)
            fleet.clients = [proxy, worker]
            # Envoy sends the ACK of new clusters when they are warm.
            proxy.automatic = False
            fleet.submit(snapshot("a"))
            await fleet.until_idle()
            assert fleet.rollout.step == "make"
            assert {resource_type for resource_type, _ in proxy.history} == {resource_types.CLUSTER}
            assert worker.history == []
            proxy.automatic = True
            for response in proxy.waiting:
                proxy.acknowledge(response)
            await fleet.until_idle()
            assert proxy.resources[resource_types.LISTENER] == {"gateway"}
            assert worker.history == [(resource_types.POLICY, frozenset({"policy"}))]
            assert fleet.rollout.in_sync

    run(test)


def test_a_nack_of_the_policy_restores_the_clusters_too() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            proxy, worker = envoy(fleet.nodes), callout(fleet.nodes)
            fleet.clients = [proxy, worker]
            await fleet.roll_out(snapshot("a"))
            worker.rejects = "policy"
            await fleet.roll_out(snapshot("a", "b"))
            assert fleet.rollout.version == "a"
            assert proxy.resources[resource_types.CLUSTER] == {"a"}
            assert (proxy.node.version, worker.node.version) == ("a", "a")

    run(test)


def test_a_rollout_waits_for_an_unresponsive_node_only_until_the_timeout() -> None:
    async def test() -> None:
        async with start_fleet(ack_timeout=0.02) as fleet:
            silent, worker = envoy(fleet.nodes, "silent", automatic=False), callout(fleet.nodes)
            fleet.clients = [silent, worker]
            fleet.submit(snapshot("a"))
            while fleet.rollout.version != "a":
                await fleet.until_idle()
            assert worker.resources[resource_types.POLICY] == {"policy"}
            assert fleet.rollout.result is not None
            assert fleet.rollout.result.unresponsive == ("silent",)
            assert not fleet.rollout.in_sync

    run(test)


def test_a_rollout_does_not_wait_for_a_node_that_disconnected() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            leaving = envoy(fleet.nodes, automatic=False)
            fleet.clients = [leaving]
            fleet.submit(snapshot("a"))
            await fleet.until_idle()
            assert fleet.rollout.step == "make"
            fleet.clients = []
            fleet.nodes.disconnect(leaving.node)
            await fleet.until_idle()
            assert fleet.rollout.version == "a"

    run(test)


def test_a_newer_snapshot_replaces_a_snapshot_that_waits_for_a_node() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            proxy = envoy(fleet.nodes)
            fleet.clients = [proxy]
            await fleet.roll_out(snapshot("a"))
            proxy.automatic = False
            fleet.submit(snapshot("a", "b"))
            await fleet.until_idle()
            fleet.submit(snapshot("a", "c"))
            await fleet.until_idle()
            proxy.automatic = True
            while proxy.waiting:
                proxy.acknowledge(proxy.waiting.pop())
            await fleet.until_idle()
            fleet.clock.pass_time()
            await fleet.until_idle()
            assert fleet.rollout.version == "a,c"
            assert proxy.resources[resource_types.CLUSTER] == {"a", "c"}

    run(test)


def test_a_cluster_of_a_replaced_rollout_reaches_every_envoy_before_a_policy_names_it() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            proxy, worker = envoy(fleet.nodes), callout(fleet.nodes)
            fleet.clients = [proxy, worker]
            await fleet.roll_out(snapshot("a"))
            before = len(worker.history)
            proxy.automatic = False
            for version in ("first", "second"):
                fleet.submit(snapshot("a", "b", version=version))
                await fleet.until_idle()
                assert fleet.rollout.step == "make"
                assert len(worker.history) == before
            proxy.automatic = True
            while proxy.waiting:
                proxy.acknowledge(proxy.waiting.pop())
            await fleet.until_idle()
            assert fleet.rollout.version == "second"
            assert len(worker.history) > before

    run(test)


def test_a_node_that_connects_later_gets_the_snapshot_in_force() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            await fleet.roll_out(snapshot("a"))
            late = envoy(fleet.nodes)
            fleet.clients = [late]
            await fleet.until_idle()
            assert late.resources[resource_types.CLUSTER] == {"a"}
            assert late.node.version == "a"
            assert fleet.rollout.in_sync

    run(test)


def test_a_nack_of_a_node_that_connects_later_changes_nothing_for_others() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            proxy = envoy(fleet.nodes)
            fleet.clients = [proxy]
            await fleet.roll_out(snapshot("a"))
            late = envoy(fleet.nodes, "late")
            late.rejects = "a"
            fleet.clients.append(late)
            await fleet.until_idle()
            assert fleet.rollout.version == "a"
            assert late.node.stream.types[resource_types.CLUSTER].reason is not None
            assert late.node.version is None
            assert not fleet.rollout.in_sync

    run(test)


def test_a_config_that_changes_no_resource_is_in_force_and_sends_nothing() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            proxy, worker = envoy(fleet.nodes), callout(fleet.nodes)
            fleet.clients = [proxy, worker]
            await fleet.roll_out(snapshot("a", version="v1"))
            received = len(proxy.history), len(worker.history)
            await fleet.roll_out(snapshot("a", version="v2"))
            assert fleet.rollout.version == "v2"
            assert [client.node.version for client in fleet.clients] == ["v2", "v2"]
            assert (len(proxy.history), len(worker.history)) == received

    run(test)


def test_a_config_is_in_force_only_after_its_rollout() -> None:
    """Also if it has the version of the config in force, and other warnings."""

    async def test() -> None:
        async with start_fleet() as fleet:
            same = snapshot("a")
            await fleet.roll_out(same)
            warning = Problem("gateway.yaml", 1, "models", "")
            changed = CompiledConfig(GatewayConfig(), same, warnings=(warning,))
            fleet.rollout.submit(changed)
            assert fleet.rollout.in_force is not None
            assert fleet.rollout.in_force.warnings == ()
            await fleet.until_idle()
            assert fleet.rollout.in_force.warnings == (warning,)

    run(test)


def test_a_node_has_the_version_that_it_accepted_completely() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            proxy, worker = envoy(fleet.nodes), callout(fleet.nodes)
            fleet.clients = [proxy, worker]
            assert proxy.node.version is None
            await fleet.roll_out(snapshot("a"))
            assert (proxy.node.version, worker.node.version) == ("a", "a")
            worker.automatic = False
            fleet.submit(snapshot("a", "b"))
            await fleet.until_idle()
            assert (proxy.node.version, worker.node.version) == ("a,b", "a")
            worker.automatic = True
            worker.acknowledge(worker.waiting.pop())
            await fleet.until_idle()
            assert (proxy.node.version, worker.node.version) == ("a,b", "a,b")

    run(test)


def with_hosts(*hosts: str) -> Snapshot:
    """A config with these hosts in a mesh."""
    entries = {host: Resource.of(host.encode()) for host in hosts}
    found = {resource_types.SERVICE_ENTRY: ResourceSet.of(entries, ",".join(hosts))}
    return snapshot(*hosts).with_types(found)


def test_workers_get_a_policy_when_the_mesh_has_had_time_for_its_hosts() -> None:
    async def test() -> None:
        async with start_fleet(propagation=3.0) as fleet:
            worker = callout(fleet.nodes)
            fleet.clients = [envoy(fleet.nodes), worker]
            await fleet.roll_out(with_hosts("a"))
            received = len(worker.history)
            fleet.submit(with_hosts("a", "b"))
            await fleet.until_idle()
            fleet.clock.advance(2.9)
            await fleet.until_idle()
            assert fleet.rollout.step == "make"
            assert len(worker.history) == received
            fleet.clock.advance(0.2)
            await fleet.until_idle()
            assert len(worker.history) > received

    run(test)


def test_a_rollout_that_replaces_another_waits_for_the_rest_of_the_time() -> None:
    async def test() -> None:
        async with start_fleet(propagation=3.0) as fleet:
            worker = callout(fleet.nodes)
            fleet.clients = [envoy(fleet.nodes), worker]
            await fleet.roll_out(with_hosts("a"))
            fleet.submit(with_hosts("a", "b"))
            await fleet.until_idle()
            fleet.clock.advance(2.0)
            received = len(worker.history)
            fleet.submit(with_hosts("b", "a"))
            await fleet.until_idle()
            assert fleet.rollout.step == "make"
            assert len(worker.history) == received
            fleet.clock.advance(1.1)
            await fleet.until_idle()
            assert fleet.rollout.step is None
            assert len(worker.history) > received

    run(test)
