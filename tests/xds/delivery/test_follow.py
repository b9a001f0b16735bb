"""New key sets are rolled out to the config in force, and to no other."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from protos.base_pb2 import Node as NodeMessage
from sluice.config import ConfigError, GatewayConfig, policy_document
from sluice.config.checked import LoadedConfig
from sluice.config.endpoints import EndpointsFrom
from sluice.contract.names import JWT_FILTER
from sluice.keys import remote_key_sets
from tests.extproc.auth.tokens import key_set, rsa_jwk
from tests.xds.resources.test_resources import model
from tests.xds.rollout.nodes_in_memory import Client, callout, native_envoy
from tests.xds.rollout.token_filters import providers_of
from xds.delivery.compiler import Compiler
from xds.delivery.follow import Follower
from xds.protocol.nodes import Nodes
from xds.protocol.resource_types import ENDPOINT, EXTENSION
from xds.resources.compiled import CompiledConfig, compile_config
from xds.rollout.plan import AT_ONCE, Plan, Stage
from xds.rollout.rollout import Rollout
from xds.sources.endpoints.discovered import DiscoveredEndpoints
from xds.sources.endpoints.file import EndpointFiles
from xds.sources.endpoints.source import Found
from xds.sources.key_sets import FetchedKeySets
from xds.state import ControlPlaneState

pytestmark = pytest.mark.anyio

ONE, TWO = "https://issuer.test/one", "https://issuer.test/two"
ROTATED = key_set(rsa_jwk(rsa.generate_private_key(65537, 2048), kid="rotated"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def loaded(uri: str, **sections: Any) -> LoadedConfig:
    issuer = {
        "issuer": "i", "audiences": ["a"], "algorithms": ["RS256"], "jwks_uri": uri,
        "jwks_refresh": 1,
    }  # fmt: skip
    config = GatewayConfig.model_validate(
        {"auth": {"issuers": [issuer]}, "models": {"m": model()}} | sections
    )
    return LoadedConfig(config, policy_document(config, Path()), Path())


class Source:
    """A source whose changes the test puts into a queue."""

    name = "gateway.yaml"

    def __init__(self) -> None:
        self.queue: asyncio.Queue[LoadedConfig | ConfigError] = asyncio.Queue()

    async def changes(self) -> AsyncIterator[LoadedConfig | ConfigError]:
        while True:
            yield await self.queue.get()


class Plane:
    """A control plane with one worker, and issuers that the test controls."""

    def __init__(
        self,
        first: LoadedConfig,
        endpoints: DiscoveredEndpoints | None = None,
        plan: Plan = AT_ONCE,
    ) -> None:
        self.documents = {ONE: key_set(rsa_jwk(kid="one")), TWO: key_set(rsa_jwk(kid="two"))}
        self.requests: list[str] = []
        self.nodes = Nodes(lambda: 0.0)
        self.rollout = Rollout(self.nodes, 60.0)
        self.source = Source()
        self.worker: Client = callout(self.nodes)
        self.envoys = dict[str, Client]()
        self.planning, self.has_plan = asyncio.Event(), asyncio.Event()
        self.has_plan.set()

        async def plan_of(_: CompiledConfig) -> Plan:
            self.planning.set()
            await self.has_plan.wait()
            return plan

        key_sets, endpoints = FetchedKeySets(self.fetch), endpoints or DiscoveredEndpoints()
        compiler = Compiler(self.source.name, first.config, key_sets, endpoints)
        follower = Follower(self.source, compiler, key_sets, endpoints, plan_of=plan_of)
        compiled = compile_config(first, first.config)
        self.extensions = tuple(compiled.snapshot.types[EXTENSION].resources)
        self.state = ControlPlaneState(
            "gateway.yaml", compiled, self.nodes, self.rollout, endpoints=endpoints
        )
        self.tasks = [
            asyncio.create_task(self.rollout.run()),
            asyncio.create_task(follower.run(compiled, self.state, self.rollout)),
        ]

    async def fetch(self, uri: str) -> bytes:
        self.requests.append(uri)
        return self.documents[uri].encode()

    def connect(self, *names: str) -> None:
        """Connect Envoys that say who they are."""
        for name in names:
            self.envoys[name] = client = native_envoy(self.nodes, name)
            client.names[EXTENSION] = self.extensions
            self.nodes.identify(self.envoys[name].node, NodeMessage(id=name))

    def key_sets(self, envoy: str | None = None) -> str:
        """The key sets in the published filter, or in that of an Envoy."""
        snapshot = self.nodes.snapshot
        if envoy is not None:
            snapshot = self.nodes.snapshot_of(self.envoys[envoy].node)
        found = providers_of(snapshot) if snapshot.version else {}
        sources = (each.local_jwks for each in found.values())
        return "".join(each.inline_string or "" for each in sources if each is not None)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                for client in (self.worker, *self.envoys.values()):
                    client.receive()
                await asyncio.sleep(0.001)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_the_first_config_has_the_key_sets_and_later_ones_replace_them() -> None:
    plane = Plane(loaded(ONE))
    await plane.until(lambda: plane.rollout.in_sync and plane.rollout.version is not None)
    assert '"one"' in plane.key_sets()
    assert plane.nodes.snapshot.types[EXTENSION].resources[JWT_FILTER].ttl is not None
    version = plane.rollout.version
    plane.documents[ONE] = ROTATED
    await plane.until(lambda: '"rotated"' in plane.key_sets() and plane.rollout.in_sync)
    assert '"one"' not in plane.key_sets()
    assert plane.rollout.version == version
    await plane.stop()


async def test_a_rejected_config_does_not_change_whose_keys_are_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_key_sets, "RETRY_INTERVAL", 0.01)
    plane = Plane(loaded(ONE))
    await plane.until(lambda: plane.rollout.in_sync and plane.rollout.version is not None)
    version = plane.rollout.version
    plane.worker.rejects = "policy"
    plane.source.queue.put_nowait(loaded(TWO))
    await plane.until(lambda: "rejected" in (plane.state.error or ""))
    rejected = plane.rollout.result
    plane.worker.rejects = None
    plane.documents[ONE] = ROTATED
    await plane.until(lambda: '"rotated"' in plane.key_sets())
    assert (plane.rollout.version, plane.rollout.result) == (version, rejected)
    assert TWO not in plane.requests
    await plane.stop()


async def test_the_keys_of_another_uri_are_fetched_when_its_config_is_in_force() -> None:
    plane = Plane(loaded(ONE))
    await plane.until(lambda: plane.rollout.in_sync and plane.rollout.version is not None)
    plane.source.queue.put_nowait(loaded(TWO))
    await plane.until(lambda: '"two"' in plane.key_sets())
    assert '"one"' not in plane.key_sets()
    await plane.stop()


async def test_a_change_that_waits_for_its_plan_brings_no_revoked_keys_back() -> None:
    plane = Plane(loaded(ONE))
    await plane.until(lambda: plane.rollout.in_sync and plane.rollout.version is not None)
    version = plane.rollout.version
    plane.has_plan.clear()
    plane.source.queue.put_nowait(loaded(ONE, limits={"headers": False}))
    await plane.until(plane.planning.is_set)
    plane.documents[ONE] = ROTATED
    await plane.until(lambda: '"rotated"' in plane.key_sets())
    plane.has_plan.set()
    await plane.until(lambda: plane.rollout.version != version and plane.rollout.in_sync)
    assert '"rotated"' in plane.key_sets()
    assert '"one"' not in plane.key_sets()
    await plane.stop()


async def test_during_a_stage_the_key_sets_of_both_configs_are_fetched_and_renewed() -> None:
    plane = Plane(loaded(ONE), plan=Plan(stage=Stage(0.5, 600.0)))
    plane.connect("envoy-1", "envoy-2")
    await plane.until(lambda: plane.rollout.version is not None and plane.rollout.in_sync)
    other = loaded(ONE)
    (one,), (two,) = (loaded(each).config.auth.issuers for each in (ONE, TWO))
    issuers = (one, two.model_copy(update={"issuer": "j"}))
    auth = other.config.auth.model_copy(update={"issuers": issuers})
    config = other.config.model_copy(update={"auth": auth})
    plane.source.queue.put_nowait(
        replace(other, config=config, policy=policy_document(config, Path()))
    )
    await plane.until(lambda: plane.rollout.stage is not None)
    assert plane.rollout.stage is not None
    (staged,) = plane.rollout.stage.nodes
    (waiting,) = {"envoy-1", "envoy-2"} - {staged}
    await plane.until(lambda: '"two"' in plane.key_sets(staged) and plane.rollout.in_sync)
    assert '"one"' in plane.key_sets(staged)
    assert '"two"' not in plane.key_sets(waiting)
    plane.documents[ONE] = ROTATED
    for envoy in (staged, waiting):
        await plane.until(lambda envoy=envoy: '"rotated"' in plane.key_sets(envoy))  # type: ignore[misc]
        assert '"one"' not in plane.key_sets(envoy)
    assert plane.rollout.stage is not None
    assert plane.rollout.stage.nodes == (staged,)
    await plane.stop()


async def test_without_native_routes_no_key_set_is_fetched() -> None:
    plane = Plane(loaded(ONE, placement="callout"))
    await plane.until(lambda: plane.rollout.in_sync and plane.rollout.version is not None)
    assert plane.requests == []
    await plane.stop()


class SlowEndpoints(EndpointFiles):
    """Endpoint files on a slow disk: a read waits until `go_on` is set."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.asked, self.go_on = threading.Event(), threading.Event()

    def find(self, origin: EndpointsFrom) -> Found:
        self.asked.set()
        assert self.go_on.wait(60)
        return super().find(origin)


async def test_a_change_does_not_wait_for_a_dry_run(tmp_path: Path) -> None:
    slow = SlowEndpoints(tmp_path)
    first = loaded(ONE)
    compiler = Compiler("", first.config, FetchedKeySets(), DiscoveredEndpoints([slow]))
    versions = {"v1": {"endpoints_from": {"file": "endpoints.json"}}}
    dry = asyncio.create_task(
        compiler.compile(loaded(ONE, models={"m": {"versions": versions}}), dry_run=True)
    )
    await asyncio.to_thread(slow.asked.wait, 20)
    async with asyncio.timeout(60):
        compiled = await compiler.compile(first)
    assert not dry.done()
    slow.go_on.set()
    assert (await dry).snapshot.version != compiled.snapshot.version


async def test_a_file_with_endpoints_changes_endpoints_and_no_version(tmp_path: Path) -> None:
    def write(*addresses: str) -> None:
        draft = tmp_path / "draft"
        draft.write_text(json.dumps([{"address": address} for address in addresses]))
        draft.replace(tmp_path / "endpoints.json")

    def published(*addresses: str) -> bool:
        resources = plane.nodes.snapshot.types[ENDPOINT].resources
        body = resources["m/v1"].body if "m/v1" in resources else b""
        named = [a for a in ("10.0.0.1", "10.0.0.2", "10.0.0.3") if a.encode() in body]
        return named == list(addresses) and plane.rollout.in_sync

    write("10.0.0.1:80")
    versions = {"v1": {"endpoints_from": {"file": "endpoints.json"}}}
    config = loaded(ONE, models={"m": {"versions": versions}})
    plane = Plane(config, DiscoveredEndpoints([EndpointFiles(tmp_path)]))
    await plane.until(lambda: published("10.0.0.1"))
    before, version = plane.nodes.snapshot, plane.rollout.version
    write("10.0.0.2:80", "10.0.0.3:80")
    await plane.until(lambda: published("10.0.0.2", "10.0.0.3"))
    after = plane.nodes.snapshot
    changed = [each for each in after.types if after.types[each] != before.types[each]]
    assert (changed, plane.rollout.version) == ([ENDPOINT], version)
    (tmp_path / "endpoints.json").unlink()
    await plane.until(lambda: bool(plane.state.warnings_in_force()))
    (warning,) = plane.state.warnings_in_force()
    assert (warning.code, warning.key) == (
        "outdated_endpoints",
        "models.m.versions.v1.endpoints_from",
    )
    assert "No such file" in warning.message
    assert published("10.0.0.2", "10.0.0.3")
    await plane.stop()
