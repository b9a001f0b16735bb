"""No config ends the control plane, and an unusable first config ends it with one clear error."""

import asyncio
import dataclasses
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import grpc.aio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from sluice.config import ConfigError, GatewayConfig, policy_document
from sluice.config.checked import LoadedConfig, check_files
from sluice.config.load import ConfigText, loads
from sluice.config.named_files import MAY_RUN_ELSEWHERE
from sluice.contract.names import POLICY_TYPE_URL
from sluice.contract.paths import ADS_STREAM
from sluice.http.client import NoAnswerError, fetch
from sluice.http.server import serve_in_thread
from tests.integration.gateway import free_ports
from xds.candidate.start import StartOptions
from xds.delivery.compiler import Compiler
from xds.delivery.follow import Follower
from xds.main import EXIT_INVALID_CONFIG, main, run
from xds.protocol.nodes import Nodes
from xds.resources.compiled import CompiledConfig, compile_config
from xds.rollout.rollout import Rollout
from xds.sources.endpoints.discovered import DiscoveredEndpoints
from xds.sources.file import ConfigFile
from xds.sources.key_sets import FetchedKeySets
from xds.sources.source import unexpected_error
from xds.state import ControlPlaneState

pytestmark = pytest.mark.anyio

SECRET = "hunter2-7f3a"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def loaded(concurrency: int | None = None) -> LoadedConfig:
    config = GatewayConfig.model_validate({"envoy": {"concurrency": concurrency}})
    return LoadedConfig(config, policy_document(config, Path()), Path())


class Changes:
    """A config source with these changes."""

    name = "gateway.yaml"

    def __init__(self, *changes: LoadedConfig | ConfigError) -> None:
        self._changes = changes

    async def changes(self) -> AsyncIterator[LoadedConfig | ConfigError]:
        for change in self._changes:
            yield change


async def follow(
    first: LoadedConfig,
    changes: Sequence[LoadedConfig | ConfigError],
    state: ControlPlaneState,
    rollout: Rollout,
) -> None:
    """Follow a source with these changes to its end."""
    source, key_sets, endpoints = Changes(*changes), FetchedKeySets(), DiscoveredEndpoints()
    compiler = Compiler(source.name, first.config, key_sets, endpoints)
    await Follower(source, compiler, key_sets, endpoints).follow_config(state, rollout)


def state_after(*changes: LoadedConfig | ConfigError) -> ControlPlaneState:
    first = loaded()
    nodes = Nodes(time.time)
    rollout = Rollout(nodes, 1.0)
    state = ControlPlaneState("gateway.yaml", compile_config(first, first.config), nodes, rollout)
    asyncio.run(follow(first, changes, state, rollout))
    return state


def test_a_config_that_does_not_compile_is_reported_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # A fault of the compiler: no valid config has a policy without a version.
    faulty = dataclasses.replace(loaded(2), policy=None)  # type: ignore[arg-type]
    state = state_after(faulty)
    error = state.error
    assert error is not None
    assert "cannot use this config (AttributeError)" in error
    assert state.config == GatewayConfig()
    assert state.reads == {"accepted": 1, "refused": 1}
    assert "unexpected AttributeError at" in caplog.text
    assert "build.py" in caplog.text


def test_the_next_config_is_used_after_one_that_failed() -> None:
    faulty = dataclasses.replace(loaded(2), policy=None)  # type: ignore[arg-type]
    state = state_after(faulty, loaded(3))
    assert state.error is None
    assert state.reads == {"accepted": 2, "refused": 1}


MODELS = "models: {a: {versions: {v1: {endpoints: [{address: '127.0.0.1:9'}]}}}}"


def loaded_text(text: str) -> LoadedConfig:
    source = ConfigText(text, "gateway.yaml")
    config = loads(text)
    checked = check_files(config, Path(), MAY_RUN_ELSEWHERE, source.problem)
    return LoadedConfig(config, checked.policy, Path(), checked.place, checked.warnings)


async def state_with_in_force(first: LoadedConfig, *changes: LoadedConfig) -> ControlPlaneState:
    """The state after changes of a config that is in force."""
    nodes = Nodes(time.time)
    rollout = Rollout(nodes, 1.0)
    compiled = compile_config(first, first.config)
    state = ControlPlaneState("gateway.yaml", compiled, nodes, rollout)
    rollout.submit(compiled)
    running = asyncio.create_task(rollout.run())
    for change in changes:
        while not rollout.in_sync or rollout.version is None:  # noqa: ASYNC110 (polled)
            await asyncio.sleep(0)
        await follow(first, (change,), state, rollout)
    running.cancel()
    return state


def test_the_message_of_an_unexpected_exception_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        error = unexpected_error("gateway.yaml", ValueError(SECRET))
    assert SECRET not in caplog.text + str(error)


async def test_a_node_connects_while_the_first_config_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = threading.Event()

    def compile_when_connected(*arguments: Any, **options: Any) -> CompiledConfig:
        assert connected.wait(30)
        return compile_config(*arguments, **options)

    monkeypatch.setattr("xds.delivery.compiler.compile_config", compile_when_connected)
    file, (xds, http) = tmp_path / "gateway.yaml", free_ports(2)
    file.write_text(f"control_plane: {{xds: '127.0.0.1:{xds}', http: '127.0.0.1:{http}'}}")
    running = asyncio.create_task(run(StartOptions(file)))
    async with asyncio.timeout(30), grpc.aio.insecure_channel(f"127.0.0.1:{xds}") as channel:
        call = channel.stream_stream(
            ADS_STREAM, DiscoveryRequest.SerializeToString, DiscoveryResponse.FromString
        )(wait_for_ready=True)
        request = DiscoveryRequest(type_url=POLICY_TYPE_URL)
        request.node.id = "node"
        await call.write(request)
        connected.set()
        assert (await call.read()).type_url == POLICY_TYPE_URL
    running.cancel()
    await asyncio.wait([running])


async def test_istiod_gets_the_routes_of_the_config_in_force(tmp_path: Path) -> None:
    file, ports = tmp_path / "gateway.yaml", free_ports(3)
    xds, http, mcp = (f"127.0.0.1:{port}" for port in ports)
    version = "{endpoints: [{address: '127.0.0.1:9'}]}"
    file.write_text(
        f"control_plane: {{xds: '{xds}', http: '{http}'}}\n"
        f"istio: {{hosts: [a.example], gateways: [g], "
        f"mcp: {{address: '{mcp}', propagation: 0.1s}}}}\n"
        f"models: {{m: {{access: {{public: true}}, versions: {{v1: {version}}}}}}}\n"
    )
    running = asyncio.create_task(run(StartOptions(file)))
    async with asyncio.timeout(30), grpc.aio.insecure_channel(mcp) as channel:
        call = channel.stream_stream(
            ADS_STREAM, DiscoveryRequest.SerializeToString, DiscoveryResponse.FromString
        )(wait_for_ready=True)
        await call.write(DiscoveryRequest(type_url="networking.istio.io/v1/VirtualService"))
        (resource,) = (await call.read()).resources
        assert b"m/v1" in resource.value
    running.cancel()
    await asyncio.wait([running])


def envoy_admin(node: str) -> Starlette:
    async def info(_: Request) -> Response:
        return JSONResponse({"node": {"id": node}})

    async def clusters(_: Request) -> Response:
        return JSONResponse({})

    return Starlette(routes=[Route("/server_info", info), Route("/clusters", clusters)])


async def test_each_envoy_of_the_config_is_asked(tmp_path: Path) -> None:
    file, (xds, http) = tmp_path / "gateway.yaml", free_ports(2)
    with (
        serve_in_thread(envoy_admin("one"), "127.0.0.1:0", max_requests=5) as one,
        serve_in_thread(envoy_admin("two"), "127.0.0.1:0", max_requests=5) as two,
    ):
        file.write_text(
            f"control_plane: {{xds: '127.0.0.1:{xds}', http: '127.0.0.1:{http}', "
            f"envoys: ['{one}', '{two}']}}"
        )
        running = asyncio.create_task(run(StartOptions(file)))
        seen: set[str | None] = set()
        async with asyncio.timeout(30):
            while seen != {"one", "two"}:
                with suppress(NoAnswerError):
                    url = f"http://127.0.0.1:{http}/v1/status"
                    status = json.loads(await asyncio.to_thread(fetch, url, 5.0, 1 << 20))
                    seen = {envoy["node"] for envoy in status["envoys"]}
        running.cancel()
        await asyncio.wait([running])


def test_without_a_list_the_envoy_of_the_config_is_asked() -> None:
    envoy = {"admin": "127.0.0.1:9"}
    assert GatewayConfig.model_validate({"envoy": envoy}).asked_envoys == ("127.0.0.1:9",)
    none = {"envoy": envoy, "control_plane": {"envoys": []}}
    assert GatewayConfig.model_validate(none).asked_envoys == ()


UNUSABLE = {
    "empty": "",
    "nested": "[" * 100_000,
    "sexagesimal": "envoy: {concurrency: 1" + ":59" * 3000 + "}",
    "number": "listener: {trusted_hops: 4294967296}",
    "digits": "envoy: {concurrency: " + "1" * 100_000 + "}",
    "hexadecimal": "envoy: {concurrency: 0x" + "f" * 100_000 + "}",
    "tag": "envoy: {concurrency: !!bool maybe}",
    "tls file": 'listener: {tls: {certificate: "a\\0b", private_key: k}}',
    "key set file": "auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256],"
    ' jwks_file: "a\\0b"}]}',
    "descriptors": "limits: {domains: {d: {descriptors: "
    + "[{key: a, descriptors: " * 300 + "[]" + "}]" * 300 + "}}}",
    "control character": "envoy: \x00",
}  # fmt: skip


@pytest.mark.parametrize("text", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_first_config_ends_the_control_plane_with_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    assert main(StartOptions(file)) == EXIT_INVALID_CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(str(file))
    assert len(line) < 500


async def test_an_unusable_config_is_an_error_and_a_later_one_is_read(tmp_path: Path) -> None:
    """All at once: the control plane waits for the rest of a file that is not valid."""
    read = await asyncio.gather(*(_read_twice(tmp_path, text) for text in UNUSABLE.values()))
    kinds = [tuple(map(type, found)) for found in read]
    assert dict(zip(UNUSABLE, kinds, strict=True)) == dict.fromkeys(
        UNUSABLE, (ConfigError, LoadedConfig)
    )


async def _read_twice(folder: Path, text: str) -> list[object]:
    """What is read of a file with this text, and then of a valid one in its place."""
    file = Path(mkdtemp(dir=folder)) / "gateway.yaml"
    file.write_text("{}")
    source = ConfigFile(file)
    source.read()
    changes = source.changes()
    found: list[object] = []
    async with asyncio.timeout(30):
        for content in (text, "envoy: {concurrency: 2}"):
            waiting = asyncio.ensure_future(anext(changes))
            file.write_text(content)
            found.append(await waiting)
    await changes.aclose()  # type: ignore[attr-defined]
    return found


async def test_a_warning_is_logged_once_and_shown_for_the_config_in_force(
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = "auth: {api_keys: [{name: k, sha256: '" + "1a" * 32 + "'}]}\n"
    first = loaded_text(MODELS)
    canary = "canaries: [{version: v2, headers: []}]"
    changed = MODELS.replace("v1:", "v2: {endpoints: [{address: 'h:1'}]}, v1:").replace(
        "a: {", f"a: {{stable: v1, {canary}, "
    )
    moved, fixed = loaded_text(f"\n{MODELS}"), loaded_text(key + changed)
    state = await state_with_in_force(first, moved, fixed)
    (idle,) = map(str, state.warnings)
    assert idle.startswith("gateway.yaml:2: models.a.canaries.0: no request selects the canary")
    assert idle.endswith("[idle_canary]")
    # The second config is the first one in another line, so that its warning is known.
    assert caplog.text.count("[no_credentials]") == 0
    assert caplog.text.count("[idle_canary]") == 1
    # The third config is not in force yet.
    (missing,) = map(str, state.warnings_in_force())
    assert missing.endswith("[no_credentials]")
