"""Rollouts to nodes in memory, with a clock that the test controls."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.xds.rollout.nodes_in_memory import Client, callout, envoy
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.snapshot import Resource, Snapshot
from xds.rollout.rollout import Rollout


@dataclass
class Clock:
    """Sleeps end when the test lets time pass."""

    sleepers: list[tuple[float, asyncio.Event]] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        over = asyncio.Event()
        self.sleepers.append((seconds, over))
        await over.wait()

    def pass_time(self) -> None:
        for _, over in self.sleepers:
            over.set()
        self.sleepers.clear()


@dataclass
class World:
    """A rollout and the clients that take part in it."""

    nodes: Nodes
    rollout: Rollout
    clock: Clock
    clients: list[Client] = field(default_factory=list)

    async def until_idle(self) -> None:
        """Let the clients receive and acknowledge until no client receives anything."""
        quiet = 0
        while quiet < 10:
            received = [client.receive() for client in self.clients]
            quiet = 0 if any(received) else quiet + 1
            await asyncio.sleep(0)

    async def roll_out(self, snapshot: Snapshot) -> None:
        """Roll out a snapshot to its end, and let all pauses pass."""
        self.rollout.submit(snapshot)
        await self.until_idle()
        while self.clock.sleepers:
            self.clock.pass_time()
            await self.until_idle()


@asynccontextmanager
async def world(ack_timeout: float = 60.0) -> AsyncIterator[World]:
    nodes, clock = Nodes(lambda: 0.0), Clock()
    rollout = Rollout(nodes, ack_timeout, clock.sleep)
    running = asyncio.create_task(rollout.run())
    try:
        yield World(nodes, rollout, clock)
    finally:
        running.cancel()


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await test()

    asyncio.run(limited())


def snapshot(*models: str, version: str | None = None) -> Snapshot:
    """Models with a cluster and endpoints each. Their names are the version by default."""
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
        async with world() as it:
            slow = envoy(it.nodes, "slow")
            worker = callout(it.nodes)
            it.clients = [envoy(it.nodes), slow, worker]
            await it.roll_out(snapshot("a"))
            slow.automatic = False
            received = len(worker.history)
            it.rollout.submit(snapshot("a", "b"))
            await it.until_idle()
            assert it.rollout.step == "make"
            assert len(worker.history) == received
            (clusters,) = slow.waiting
            slow.automatic = True
            slow.acknowledge(clusters)
            await it.until_idle()
            assert len(worker.history) == received + 1
            assert it.rollout.version == "a,b"
            assert it.rollout.in_sync

    run(test)


def test_a_cluster_is_removed_only_after_no_policy_names_it() -> None:
    async def test() -> None:
        async with world() as it:
            proxy, worker = envoy(it.nodes), callout(it.nodes)
            it.clients = [proxy, worker]
            await it.roll_out(snapshot("a", "b"))
            worker.automatic = False
            it.rollout.submit(snapshot("a"))
            await it.until_idle()
            assert proxy.resources[resource_types.CLUSTER] == {"a", "b"}
            worker.automatic = True
            worker.acknowledge(worker.waiting.pop())
            await it.until_idle()
            assert it.rollout.version == "a"
            assert proxy.resources[resource_types.CLUSTER] == {"a", "b"}
            it.clock.pass_time()
            await it.until_idle()
            assert proxy.resources[resource_types.CLUSTER] == {"a"}
            assert it.rollout.in_sync

    run(test)


def test_a_nack_restores_the_last_good_snapshot_everywhere_and_gives_the_reason() -> None:
    async def test() -> None:
        async with world() as it:
            picky, other, worker = envoy(it.nodes, "picky"), envoy(it.nodes), callout(it.nodes)
            it.clients = [other, picky, worker]
            await it.roll_out(snapshot("a"))
            picky.rejects = "bad"
            received = len(worker.history)
            await it.roll_out(snapshot("a", "bad"))
            assert it.rollout.version == "a"
            assert other.resources[resource_types.CLUSTER] == {"a"}
            assert picky.resources[resource_types.CLUSTER] == {"a"}
            assert len(worker.history) == received
            result = it.rollout.result
            assert result is not None
            assert str(result.nack) == "node picky rejected clusters: bad is invalid"
            await it.roll_out(snapshot("a", "c"))
            assert it.rollout.version == "a,c"
            assert it.rollout.result is not None
            assert it.rollout.result.nack is None

    run(test)


def test_a_nack_of_the_policy_restores_the_clusters_too() -> None:
    async def test() -> None:
        async with world() as it:
            proxy, worker = envoy(it.nodes), callout(it.nodes)
            it.clients = [proxy, worker]
            await it.roll_out(snapshot("a"))
            worker.rejects = "policy"
            await it.roll_out(snapshot("a", "b"))
            assert it.rollout.version == "a"
            assert proxy.resources[resource_types.CLUSTER] == {"a"}
            assert (proxy.node.version, worker.node.version) == ("a", "a")

    run(test)


def test_a_rollout_waits_for_an_unresponsive_node_only_until_the_timeout() -> None:
    async def test() -> None:
        async with world(ack_timeout=0.02) as it:
            silent, worker = envoy(it.nodes, "silent", automatic=False), callout(it.nodes)
            it.clients = [silent, worker]
            it.rollout.submit(snapshot("a"))
            while it.rollout.version != "a":
                await it.until_idle()
            assert worker.resources[resource_types.POLICY] == {"policy"}
            assert it.rollout.result is not None
            assert it.rollout.result.unresponsive == ("silent",)
            assert not it.rollout.in_sync

    run(test)


def test_a_rollout_does_not_wait_for_a_node_that_disconnected() -> None:
    async def test() -> None:
        async with world() as it:
            leaving = envoy(it.nodes, automatic=False)
            it.clients = [leaving]
            it.rollout.submit(snapshot("a"))
            await it.until_idle()
            assert it.rollout.step == "make"
            it.clients = []
            it.nodes.disconnect(leaving.node)
            await it.until_idle()
            assert it.rollout.version == "a"

    run(test)


def test_a_newer_snapshot_replaces_one_that_waits() -> None:
    async def test() -> None:
        async with world() as it:
            proxy = envoy(it.nodes)
            it.clients = [proxy]
            await it.roll_out(snapshot("a"))
            proxy.automatic = False
            it.rollout.submit(snapshot("a", "b"))
            await it.until_idle()
            it.rollout.submit(snapshot("a", "c"))
            await it.until_idle()
            proxy.automatic = True
            while proxy.waiting:
                proxy.acknowledge(proxy.waiting.pop())
            await it.until_idle()
            it.clock.pass_time()
            await it.until_idle()
            assert it.rollout.version == "a,c"
            assert proxy.resources[resource_types.CLUSTER] == {"a", "c"}

    run(test)


def test_a_node_that_connects_later_gets_the_snapshot_in_force() -> None:
    async def test() -> None:
        async with world() as it:
            await it.roll_out(snapshot("a"))
            late = envoy(it.nodes)
            it.clients = [late]
            await it.until_idle()
            assert late.resources[resource_types.CLUSTER] == {"a"}
            assert late.node.version == "a"
            assert it.rollout.in_sync

    run(test)


def test_a_nack_of_a_node_that_connects_later_changes_nothing_for_others() -> None:
    async def test() -> None:
        async with world() as it:
            proxy = envoy(it.nodes)
            it.clients = [proxy]
            await it.roll_out(snapshot("a"))
            late = envoy(it.nodes, "late")
            late.rejects = "a"
            it.clients.append(late)
            await it.until_idle()
            assert it.rollout.version == "a"
            assert late.node.stream.types[resource_types.CLUSTER].reason is not None
            assert late.node.version is None
            assert not it.rollout.in_sync

    run(test)


def test_a_config_that_changes_no_resource_is_in_force_and_sends_nothing() -> None:
    async def test() -> None:
        async with world() as it:
            proxy, worker = envoy(it.nodes), callout(it.nodes)
            it.clients = [proxy, worker]
            await it.roll_out(snapshot("a", version="v1"))
            received = len(proxy.history), len(worker.history)
            await it.roll_out(snapshot("a", version="v2"))
            assert it.rollout.version == "v2"
            assert [client.node.version for client in it.clients] == ["v2", "v2"]
            assert (len(proxy.history), len(worker.history)) == received

    run(test)


def test_a_node_has_the_version_that_it_accepted_completely() -> None:
    async def test() -> None:
        async with world() as it:
            proxy, worker = envoy(it.nodes), callout(it.nodes)
            it.clients = [proxy, worker]
            assert proxy.node.version is None
            await it.roll_out(snapshot("a"))
            assert (proxy.node.version, worker.node.version) == ("a", "a")
            worker.automatic = False
            it.rollout.submit(snapshot("a", "b"))
            await it.until_idle()
            assert (proxy.node.version, worker.node.version) == ("a,b", "a")
            worker.automatic = True
            worker.acknowledge(worker.waiting.pop())
            await it.until_idle()
            assert (proxy.node.version, worker.node.version) == ("a,b", "a,b")

    run(test)
