"""Secrets in a config, valid or not, appear in no output, log or dump.

Every text of the confidential sections is planted with a distinctive secret, also in a wrong place.
tests/integration/test_telemetry.py looks for the credentials of clients in the logs.
"""

import asyncio
import copy
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from extproc.limits.redis import redis_store
from extproc.policy.compiled import compile_policy
from extproc.policy.current import CurrentPolicy
from extproc.policy.received import ReceivedPolicy
from extproc.policy.subscriber import follow as follow_policy
from protos.base_pb2 import Node
from protos.policy_pb2 import Policy
from sluice.cli import main
from sluice.cli.explain.command import EXIT_REFUSED
from sluice.config import ConfigError, GatewayConfig, policy_document
from sluice.config.checked import LoadedConfig
from sluice.config.load import loads
from sluice.config.redaction import redacted
from sluice.config.schema import fields, sections
from sluice.config.values import Confidential
from sluice.keys.fetch import FetchError, fetch_document
from tests.certificates import certificate, private_key
from tests.extproc.auth.tokens import encoded
from tests.extproc.policy.control_plane import control_plane
from xds.admin.status import status_of
from xds.delivery.compiler import Compiler
from xds.delivery.follow import Follower
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.resources.compiled import CompiledConfig, compile_config
from xds.rollout.rollout import Rollout
from xds.sources.endpoints.discovered import DiscoveredEndpoints
from xds.sources.file import ConfigFile
from xds.sources.key_sets import FetchedKeySets
from xds.state import ControlPlaneState

SECRET = "Zq7hunter2Zq7"
LONG_SECRET = encoded(f"{SECRET}-{SECRET}-{SECRET}-{SECRET}".encode())
KEYS = json.dumps({"keys": [{"kty": "oct", "kid": "one", "k": LONG_SECRET}]})

BASE: dict[str, Any] = {
    # NAME, because this is the key of maps in the paths of `sections`.
    "models": {
        "NAME": {
            "versions": {
                "NAME": {
                    "endpoints": [{"address": "127.0.0.1:1"}],
                    "protocol": "grpc",
                    "tls": {"certificate": "cert.pem", "private_key": "key.pem"},
                    "headers_from_secret": {"NAME": {"file": SECRET, "prefix": SECRET}},
                }
            },
            "inputs": [{"name": "i", "datatype": "BYTES", "shape": [1]}],
            "video": {},
        }
    },
    "video": {"gateway": {"tls": {}}},
    "videos": {
        "NAME": {
            "url": "rtsp://192.0.2.1/stream",
            "model": "NAME",
            "credentials": {"username": "u", "password": {"file": SECRET}},
            "headers_from_secret": {"NAME": {"file": SECRET, "prefix": SECRET}},
        }
    },
    "auth": {
        "issuers": [
            {"issuer": "i", "audiences": ["a"], "algorithms": ["HS256"], "jwks": KEYS},
            {
                "issuer": "j",
                "audiences": ["a"],
                "algorithms": ["RS256"],
                "jwks_uri": f"http://127.0.0.1:1/{SECRET}?token={SECRET}",
            },
        ],
        "api_keys": [{"name": "n", "sha256": "5e" * 32, "claims": {SECRET: SECRET}}],
    },
    "limits": {
        "rules": [{"name": "r", "rate": 1}],
        "backend": {
            "kind": "redis",
            "mode": "sentinel",
            "urls": [f"rediss://{SECRET}.invalid:1/0"],
            "tls": {},
            "sentinel_service": SECRET,
            "username": SECRET,
            "password_env": SECRET,
            "prefix": SECRET,
            "leases": {},
        },
    },
    "control_plane": {
        "access": {"tokens": [{"name": "t", "role": "reader", "sha256": "5e" * 32}]},
    },
    "identity": {
        "ca": "ca.pem",
        "control_plane": {"certificate": "cert.pem", "private_key": "key.pem"},
        "callout": {"certificate": "cert.pem", "private_key": "key.pem"},
        "envoy": {"certificate": "cert.pem", "private_key": "key.pem"},
        "video": {"certificate": "cert.pem", "private_key": "key.pem"},
    },
    "telemetry": {"profile": {"secret_file": SECRET}},
    "listener": {"tls": {"certificate": "cert.pem", "private_key": "key.pem"}},
}
SINKS: dict[str, Any] = {
    "redis": {"url": "redis://192.0.2.1:6379/0", "password": {"file": SECRET}},
    "webhook": {
        "url": "https://192.0.2.1/events",
        "headers_from_secret": {"NAME": {"file": SECRET, "prefix": SECRET}},
    },
    "mqtt": {"address": "192.0.2.1:1883", "username": "u", "password": {"file": SECRET}},
}
"""The sinks with secrets. A sink has only one of them."""

BASE["videos"]["NAME"]["sinks"] = [{kind: sink} for kind, sink in SINKS.items()]

HIDDEN = (SECRET, SECRET.lower(), LONG_SECRET, "5e" * 32)

PLANTS: tuple[object, ...] = (
    SECRET,
    f"redis://user:{SECRET}@h:1",
    f"redis://h:1/0?password={SECRET}",
    f"redis://h:{SECRET}",
    f"https://{SECRET}@h/",
    f"https://[{SECRET}",
    f"https://h:{SECRET}/",
    f"https://h/ {SECRET}",
    f"{SECRET}\n",
    f"{SECRET}\x00",
    SECRET * 500,
    [SECRET],
    [[SECRET]],
    {SECRET: None},
    {f"sha256:{SECRET}": None},
    {SECRET: {SECRET: SECRET}},
    None,
    True,
)
PLANTS_OF_OTHERS = tuple(plant for plant in PLANTS if not isinstance(plant, dict))
"""For sections without secrets, whose errors show an unknown key if it is a plain name."""


def places() -> Iterator[tuple[str | int, ...]]:
    """Every key of the confidential sections in `BASE`, and the keys above them."""
    yield from ((), ("auth",), ("limits",), ("telemetry",), ("limits", "backend"))
    yield from (("telemetry", "profile"), ("auth", "issuers", 0), ("auth", "api_keys", 0))
    for path, section in sections():
        if issubclass(section, Confidential):
            start = tuple(_index(path) if key == "[]" else key for key in path)
            for name in (*fields(section), "unknown", f"sha256:{SECRET}"):
                yield (*start, name)


def _index(path: tuple[str | int, ...]) -> int:
    """The index in `BASE` of an item of the list in the path."""
    return list(SINKS).index(str(path[-1])) if path[-1] in SINKS else 0


def planted(path: tuple[str | int, ...], value: object) -> object:
    if not path:
        return value
    config: Any = copy.deepcopy(BASE)
    parent = config
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return config


def assert_hidden(*outputs: str) -> None:
    for output in outputs:
        for secret in HIDDEN:
            assert secret not in output, output[:2000]


@contextmanager
def nothing_shown(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Checks everything that is printed and logged inside the block."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        yield
    assert_hidden(*capsys.readouterr(), caplog.text)


class Change:
    """A config source with one change."""

    def __init__(self, file: Path, change: LoadedConfig | ConfigError) -> None:
        self.name = str(file)
        self._change = change

    def read(self) -> LoadedConfig:
        raise NotImplementedError

    async def changes(self) -> AsyncIterator[LoadedConfig | ConfigError]:
        yield self._change


@cache
def first_config() -> CompiledConfig:
    config = GatewayConfig()
    return compile_config(LoadedConfig(config, policy_document(config, Path()), Path()), config)


def status_after(file: Path, change: LoadedConfig | ConfigError) -> str:
    """The status of a control plane after this change of its config."""
    nodes = Nodes(time.time)
    rollout = Rollout(nodes, 1.0)
    first = first_config()
    state = ControlPlaneState(str(file), first, nodes, rollout)
    key_sets, endpoints = FetchedKeySets(), DiscoveredEndpoints()
    compiler = Compiler(str(file), first.config, key_sets, endpoints)
    follower = Follower(Change(file, change), compiler, key_sets, endpoints)
    asyncio.run(follower.follow_config(state, rollout))
    return status_of(state).model_dump_json() + json.dumps(redacted(state.config))


def read(file: Path) -> LoadedConfig | ConfigError:
    try:
        return ConfigFile(file).read()
    except ConfigError as error:
        return error


@pytest.mark.parametrize(
    "path", list(places()), ids=lambda path: ".".join(map(str, path)) or "root"
)
def test_a_secret_in_a_wrong_place_is_not_shown(
    path: tuple[str | int, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = tmp_path / "gateway.yaml"
    refused = 0
    in_confidential = len(path) > 1 or path == ("auth",)
    for plant in PLANTS if in_confidential else PLANTS_OF_OTHERS:
        file.write_text(json.dumps(planted(path, plant)))
        with nothing_shown(capsys, caplog):
            refused += main(["validate", str(file)])
            change = read(file)
            if isinstance(change, ConfigError):
                assert_hidden(str(change), repr(change), status_after(file, change))
    # 2 is the status of a config that is not valid. Every place refuses some of the plants.
    assert refused > 2


CONTENTS = (
    f"-----BEGIN PRIVATE KEY----- {SECRET} -----END PRIVATE KEY-----",
    f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n",
    f"-----BEGIN PRIVATE KEY-----{SECRET * 500}",
    f" {KEYS}",
    SECRET * 500,
)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("key", ["private_key", "certificate", "client_ca", "jwks_file"])
def test_the_content_of_a_file_in_place_of_its_path_is_not_shown(
    key: str,
    content: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    issuer = {"issuer": "i", "audiences": ["a"], "algorithms": ["HS256"], key: content}
    tls = {"certificate": "cert.pem", "private_key": "key.pem", key: content}
    config = {"auth": {"issuers": [issuer]}} if key == "jwks_file" else {"listener": {"tls": tls}}
    file = tmp_path / "gateway.yaml"
    file.write_text(json.dumps(config))
    with nothing_shown(capsys, caplog):
        assert main(["validate", str(file)]) == 2
        change = read(file)
        assert_hidden(str(change), repr(change), status_after(file, change))


SYNTAX = (
    'sha256: "{}', "sha256: {}: x", "sha256: *{}", "sha256: !{} x", "sha256: !<{}> x",
    "sha256: {}\x07", "sha256: &{} [*{}]", "\t{}", "sha256: [{}", "? [{}]\n: 1",
    "sha256: {}\n  x: y", "sha256: |1{}",
    "{}: &a 1\n{}: 1", "%{}\n---", "sha256: @{}", "sha256: `{}", "sha256: '\\x{}", 'sha256: "\\{}"',
    "sha256: !!binary {}", "--- {}\n--- {}", "sha256:{}", "- {}", "{}", "sha256: >{}",
)  # fmt: skip


@pytest.mark.parametrize("text", SYNTAX)
def test_a_syntax_error_does_not_show_the_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    lines = text.replace("{}", SECRET).replace("\n", "\n      ")
    file = tmp_path / "gateway.yaml"
    file.write_text(f"auth:\n  api_keys:\n    - name: n\n      {lines}\n")
    with nothing_shown(capsys, caplog):
        assert main(["validate", str(file)]) == 2
        change = read(file)
        assert_hidden(str(change), repr(change), status_after(file, change))


def test_a_valid_config_shows_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump(BASE))
    parts = (
        x509.DNSName(f"sluice-{part}") for part in ("control-plane", "callout", "envoy", "video")
    )
    own = certificate(extensions=[x509.SubjectAlternativeName(parts)])
    for name in ("cert.pem", "ca.pem"):
        (tmp_path / name).write_bytes(own)
    (tmp_path / "key.pem").write_bytes(private_key())
    (tmp_path / SECRET).write_text(LONG_SECRET)
    url = f"http://{SECRET}@gateway.test/v2/models/NAME?k={SECRET}"
    request = ["-u", f"a:{SECRET}", "-d", SECRET, url]
    headers = [f"authorization: Bearer {SECRET}", f"x-api-key: {SECRET}", f"cookie: {SECRET}"]
    with nothing_shown(capsys, caplog):
        assert main(["validate", str(file)]) == 0
        assert main(["profile", str(file)]) == 1
        for header in headers:
            # The output contains a note: the key set of the second issuer cannot be fetched.
            arguments = ["explain", "--offline", str(file), "-H", header, *request]
            assert main(arguments) == EXIT_REFUSED
        change = read(file)
        assert isinstance(change, LoadedConfig)
        config = change.config
        assert_hidden(repr(config), str(config), repr(change), status_after(file, change))
        assert_hidden(json.dumps(redacted(config)), repr(compile_policy(change.policy)))
    without_uri = copy.deepcopy(BASE)
    del without_uri["auth"]["issuers"][1]
    file.write_text(yaml.safe_dump(without_uri))
    with nothing_shown(capsys, caplog):
        for header in headers:
            main(["explain", "--offline", str(file), "-H", header, *request])
            main(["explain", "--offline", "--json", str(file), "-H", header, *request])
            main(["explain", str(file), "-H", header, *request])


@pytest.mark.parametrize("content", [f"{SECRET}\n{SECRET}", f"{SECRET}\xff", f"{SECRET}\x00"])
def test_the_content_of_a_secret_file_is_not_shown(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret").write_text(content, "latin-1")
    file = tmp_path / "gateway.yaml"
    file.write_text("telemetry: {profile: {secret_file: secret}}")
    assert main(["profile", str(file)]) == 1
    output = capsys.readouterr()
    assert "secret_file must be one line of printable ASCII" in output.err
    assert_hidden(*output)


def test_envoy_gets_no_secret(tmp_path: Path) -> None:
    config = loads(yaml.safe_dump(BASE))
    loaded = LoadedConfig(config, policy_document(config, tmp_path), tmp_path)
    snapshot = compile_config(loaded, config).snapshot
    policies = snapshot.types[resource_types.POLICY].resources.values()
    assert any(SECRET.encode() in resource.body for resource in policies)
    for each in resource_types.ALL:
        if each not in (resource_types.POLICY, resource_types.VIDEO):
            for resource in snapshot.types[each].resources.values():
                assert_hidden(resource.body.decode("latin-1"))


@pytest.mark.parametrize(
    "change",
    [
        {"username": 7},
        {"urls": [f"redis://{SECRET}:x"]},
        {},  # `password_env` names a variable that is not set
    ],
)
def test_a_validation_error_and_an_error_of_redis_show_no_value(change: dict[str, object]) -> None:
    backend = {**BASE["limits"]["backend"], **change}
    with pytest.raises(ValueError) as caught:
        redis_store(GatewayConfig.model_validate({"limits": {"backend": backend}}).limits.backend)
    assert_hidden(str(caught.value), repr(caught.value))


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["key", "value", "exception", "key set", "backend"])
async def test_the_rejection_of_a_policy_shows_no_secret(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    policy = policy_document(loads(yaml.safe_dump(BASE)), tmp_path)
    data = json.loads(policy.serialized_settings())
    if fault == "key":
        data["auth"]["api_keys"][0][f"sha256:{SECRET}"] = None
    if fault == "value":
        data["auth"]["api_keys"][0]["claims"][SECRET] = [SECRET]
    if fault == "key set":
        data["auth"]["issuers"][0]["jwks"] = SECRET
    current = CurrentPolicy()

    async def apply(received: ReceivedPolicy) -> None:
        if fault == "exception":
            raise RuntimeError(SECRET)
        if fault == "backend":
            redis_store(received.settings.limits.backend)
        current.apply(received)

    with nothing_shown(capsys, caplog):
        async with control_plane(tmp_path) as server:
            following = asyncio.create_task(follow_policy(server.address, Node(id="w"), apply))
            server.publish(
                Policy(version="1", config=json.dumps(data).encode()).SerializeToString()
            )
            reason = await server.rejected()
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
        assert_hidden(reason)
        assert_hidden(*(str(node.nack()) for node in server.nodes))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "uri",
    [
        f"http://user:{SECRET}@127.0.0.1:1/",
        f"http://127.0.0.1:{SECRET}/",
        f"http://127.0.0.1:1/{SECRET} x",
        f"http://127.0.0.1:1/?token={SECRET}",
        f"http://{SECRET}.invalid/",
        f"http://[{SECRET}/",
        f"{SECRET}://h/",
    ],
)
async def test_the_error_of_a_fetch_does_not_show_the_url(uri: str) -> None:
    with pytest.raises(FetchError) as caught:
        await fetch_document(uri)
    assert_hidden(str(caught.value), repr(caught.value))


@pytest.mark.anyio
async def test_the_error_of_a_fetch_does_not_show_the_response() -> None:
    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{SECRET} 500 {SECRET}\r\n{SECRET}\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(FetchError) as caught:
        await fetch_document(f"http://127.0.0.1:{port}/")
    server.close()
    assert_hidden(str(caught.value), repr(caught.value))


def test_the_tests_would_see_a_secret() -> None:
    with pytest.raises(AssertionError):
        assert_hidden(f"x{SECRET}x")
