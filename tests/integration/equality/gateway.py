"""A gateway whose control plane runs in the test's process, so that a test can change resources.

Envoy, the callout workers and the xDS server are the real ones. The only additions to the compiled
resources are two response headers: the name of the route, and the number of the config, by which a
test knows that Envoy's threads use the config.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from protos.route_pb2 import RouteConfiguration
from sluice.bootstrap import NodeNames
from sluice.config import GatewayConfig
from sluice.config.checked import LoadedConfig, check_files
from sluice.config.errors import unplaced
from sluice.config.named_files import RUNS_HERE
from sluice.config.policy import PolicyDocument
from sluice.contract.names import split_route_name
from sluice.runner import plan
from sluice.runner.envoy import wait_for_callout
from sluice.runner.process import ChildProcess, ProcessSpec
from tests.integration.equality.client import Client
from tests.integration.equality.request import Request, Response
from tests.integration.gateway import free_ports
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.resource_types import ResourceType
from xds.protocol.server import XdsServer
from xds.protocol.snapshot import Resource, Resources, Snapshot
from xds.resources.compiled import CompiledConfig, compile_config
from xds.resources.proto_messages import header, serialized
from xds.rollout.rollout import Rollout

Config = dict[str, Any]
Change = Callable[[Mapping[ResourceType, Resources]], Mapping[ResourceType, Resources]]
"""Changes compiled resources before they are published."""

ROUTE = b"x-test-route"
NUMBER = b"x-test-config"

APPLY_TIMEOUT = 30.0
POLL_INTERVAL = 0.002
"""Seconds."""


class RejectedError(Exception):
    """A node has rejected a config."""


def is_native(response: Response) -> bool:
    """Whether a native route has taken the request."""
    return split_route_name(response.value(ROUTE).decode())[1] == "native"


class EqualityGateway:
    """Envoy, one callout worker, and a model server that echoes requests.

    `sections` are the parts of the config with addresses. `model_port` is the port of the model
    server, at every loopback address.
    """

    def __init__(self, sections: Config, model_port: int, directory: Path) -> None:
        self.model_port = model_port
        host, _, port = sections["listener"]["address"].rpartition(":")
        self.client = Client(host, int(port))
        self._sections = sections
        self._directory = directory
        self._nodes = Nodes(time.time)
        self._rollout = Rollout(self._nodes, APPLY_TIMEOUT)
        self._started = GatewayConfig.model_validate(sections)
        self._rolling_out: asyncio.Task[None]
        self._number = 0

    def document(self, config: Config) -> PolicyDocument:
        """The policy of a config."""
        return self._load(config).policy

    async def apply(
        self, config: Config, probe: Request, change: Change | None = None, *, native: bool = False
    ) -> None:
        """Put a config in force, with changed resources. `probe` is a request that it admits.

        `native`: wait until Envoy admits the probe alone. The workers switch native routes on.
        """
        await self._publish(config, change)
        found: list[tuple[bytes, bool]] = []

        def on_response(_: Request, response: Response) -> None:
            found.append((response.value(NUMBER), is_native(response) or not native))

        single = replace(self.client, connections=1)
        async with asyncio.timeout(APPLY_TIMEOUT):
            while found[-1:] != [(str(self._number).encode(), True)]:
                await single.send([probe], on_response)

    async def _publish(self, config: Config, change: Change | None = None) -> None:
        """Wait until every node has accepted a config."""
        self._number += 1
        compiled = self._compile(config)
        types = {each: resources.resources for each, resources in compiled.snapshot.types.items()}
        marked = _with_marks(change(types) if change else types, self._number)
        version, before = str(self._number), self._rollout.result
        self._rollout.submit(replace(compiled, snapshot=Snapshot.of(marked, version)))
        async with asyncio.timeout(APPLY_TIMEOUT):
            while self._rollout.version != version:
                if self._rolling_out.done():
                    self._rolling_out.result()
                result = self._rollout.result
                if result is not before and result is not None and result.nack is not None:
                    raise RejectedError(str(result.nack))
                await asyncio.sleep(POLL_INTERVAL)

    def resources(self, config: Config, resource_type: ResourceType) -> Resources:
        """The resources of one type that a config is compiled into."""
        return self._compile(config).snapshot.types[resource_type].resources

    def _compile(self, config: Config) -> CompiledConfig:
        return compile_config(self._load(config), self._started)

    def _load(self, config: Config) -> LoadedConfig:
        merged = GatewayConfig.model_validate({**self._sections, **config})
        return check_files(merged, self._directory, RUNS_HERE, unplaced)

    async def _start(self, processes: contextlib.AsyncExitStack) -> None:
        """Start the processes first: a process with threads of gRPC must not fork."""
        module = "tests.integration.equality.echo_server"
        argv = [sys.executable, "-m", module, str(self.model_port)]
        children = [
            ChildProcess(spec)
            for spec in (
                ProcessSpec("model server", argv, [f"127.0.0.1:{self.model_port}"]),
                plan.callout(self._started, self._directory, None, self._directory),
                plan.envoy(self._started, self._directory, None, self._directory, NodeNames()),
            )
        ]
        for child in children:
            processes.push_async_callback(child.stop)
            await child.start()
        xds = XdsServer(self._nodes, self._started.control_plane.xds)
        await xds.start()
        processes.push_async_callback(xds.stop)
        self._rolling_out = asyncio.create_task(self._rollout.run())
        processes.callback(self._rolling_out.cancel)
        await self._publish({})
        await asyncio.gather(*(child.wait_until_ready() for child in children))
        await wait_for_callout(self._started.envoy.admin, self._started.callout.workers)


def _with_marks(
    types: Mapping[ResourceType, Resources], number: int
) -> Mapping[ResourceType, Resources]:
    """The resources, with the two response headers in each route table.

    In the protobuf encoding, fields that are appended to a message are added to it.
    """
    marks = RouteConfiguration(
        response_headers_to_add=[
            header(ROUTE.decode(), "%ROUTE_NAME%"), header(NUMBER.decode(), str(number))
        ]
    )  # fmt: skip
    marked = {
        name: Resource.of(resource.body + serialized(marks))
        for name, resource in types[resource_types.ROUTE].items()
    }
    return {**types, resource_types.ROUTE: marked}


@contextlib.asynccontextmanager
async def equality_gateway() -> AsyncIterator[EqualityGateway]:
    """Runs a gateway during a with block."""
    with tempfile.TemporaryDirectory(prefix="sluice-equality-") as name:
        listener, http, xds, admin, metrics, model = free_ports(6)
        sections: Config = {
            "listener": {"address": f"127.0.0.1:{listener}"},
            "control_plane": {"http": f"127.0.0.1:{http}", "xds": f"127.0.0.1:{xds}"},
            "callout": {"workers": 1, "address": f"unix:{name}/callout"},
            "envoy": {"admin": f"127.0.0.1:{admin}", "concurrency": 1},
            "telemetry": {
                "metrics": {"address": f"127.0.0.1:{metrics}"},
                "access_log": {"output": "none"},
            },
            "requests": {"expose_reason": True},
            "limits": {"listener": None},
        }
        async with contextlib.AsyncExitStack() as processes:
            gateway = EqualityGateway(sections, model, Path(name))
            await gateway._start(processes)
            yield gateway
