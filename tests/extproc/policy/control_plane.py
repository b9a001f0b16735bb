"""The real xDS server with a policy as its only resource."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from sluice.config import PolicyDocument
from sluice.contract.names import POLICY
from xds.protocol import resource_types
from xds.protocol.nodes import Node, Nodes
from xds.protocol.server import XdsServer
from xds.protocol.snapshot import Resource, Resources, Snapshot
from xds.resources.policy import PolicyCache
from xds.resources.stage import staged_policies

TIMEOUT = 60.0


class ControlPlane:
    """Serves policies to every subscriber."""

    def __init__(self, address: str, nodes: Nodes) -> None:
        self.address = address
        self.nodes = nodes

    def publish(
        self,
        policy: PolicyDocument | bytes,
        staged: PolicyDocument | None = None,
        nodes: Collection[str] = (),
    ) -> None:
        """Serve a policy, or one whose settings are these bytes, and perhaps a staged one."""
        resources: Resources
        if isinstance(policy, PolicyDocument):
            resources = PolicyCache().resources(policy)
        else:
            resources = {POLICY: Resource.of(policy)}
        if staged is not None:
            of_stage = staged_policies(PolicyCache().resources(staged), nodes)
            resources = {**resources, **of_stage}
        self.nodes.publish(Snapshot.of({resource_types.POLICY: resources}, "v1"))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true. It is checked after each request of a node."""
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self.nodes.progress.clear()
                await self.nodes.progress.wait()

    async def accepted(self, count: int = 1) -> list[Node]:
        """Wait until `count` nodes have accepted the current snapshot; returns the nodes."""
        types = (resource_types.POLICY,)

        def in_sync() -> bool:
            subscribed = [node for node in self.nodes if node.kind == "callout"]
            return len(subscribed) >= count and not self.nodes.out_of_sync(types)

        await self.until(in_sync)
        return sorted(self.nodes, key=lambda node: node.id)

    async def rejected(self) -> str:
        """Wait until a node has rejected the current snapshot. Returns the reason."""
        await self.until(lambda: self.nodes.nack() is not None)
        nack = self.nodes.nack()
        assert nack is not None
        return nack.reason


@asynccontextmanager
async def control_plane(directory: Path) -> AsyncIterator[ControlPlane]:
    """Run a control plane while the block runs. Its address depends only on the directory."""
    address = f"unix:{directory}/xds"
    nodes = Nodes(time.time)
    server = XdsServer(nodes, address)
    await server.start()
    try:
        yield ControlPlane(address, nodes)
    finally:
        await server.stop()
