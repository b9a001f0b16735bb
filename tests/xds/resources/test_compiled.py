"""Keys that need a restart keep their values in a running gateway."""

from pathlib import Path

import pytest

from sluice.config import GatewayConfig, policy_document
from sluice.config.checked import LoadedConfig
from sluice.config.load import loads
from sluice.contract import names
from xds.protocol import resource_types
from xds.protocol.resource_types import LISTENER
from xds.resources.compiled import CompiledConfig, compile_config
from xds.resources.restart import RESTART_KEYS

HERE = Path(__file__).parent

STARTED = loads("istio: {hosts: [a.example], gateways: [g]}")
CHANGED = """
identity: {callout: {token_file: a}, envoy: {token_file: b}}
control_plane:
  {http: "127.0.0.1:3", allowed_hosts: [a], xds: "127.0.0.1:4", ack_timeout: 1,
   replicas: ["127.0.0.1:5"], allow_insecure: true}
envoy:
  {admin: "10.0.0.1:9901", allow_remote_admin: true, concurrency: 3, max_connections: 7,
   max_heap: 100MiB, log_level: info, drain: {minimum: 1}}
callout:
  {address: "127.0.0.1:100", allow_insecure: true, workers: 5, drain_timeout: 1, hang_timeout: 2,
   max_memory: 1MiB, copies: 'unix:/c'}
telemetry: {metrics: {address: "127.0.0.1:2"}, profile: {secret_file: secret}}
istio: {hosts: [a.example], gateways: [g], mcp: {address: "127.0.0.1:6"}}
"""
ACCESS = "control_plane: {access: {tokens: [{name: a, role: reader, secret_file: b}]}}"


def compiled(text: str, started: GatewayConfig = STARTED) -> CompiledConfig:
    config = loads(text)
    return compile_config(LoadedConfig(config, policy_document(config, HERE), HERE), started)


def test_the_runtime_of_envoy_changes_without_a_restart() -> None:
    change = compiled("envoy: {runtime: {a.b: 1}}")
    assert change.restart_required == ()
    assert change.config.envoy.runtime == {"a.b": 1}


def test_keys_that_need_a_restart_are_listed_and_keep_their_values() -> None:
    change = compiled("callout: {workers: 5, message_timeout: 9s}\nenvoy: {concurrency: 3}")
    assert change.restart_required == ("envoy.concurrency", "callout.workers")
    assert change.config.envoy == STARTED.envoy
    assert change.config.callout.workers == STARTED.callout.workers
    assert change.config.callout.message_timeout == 9


@pytest.mark.parametrize(
    "text",
    [
        "limits: {listener: {rate: 7, burst: 8}}",
        "limits: {rules: [{name: r, rate: 1, burst: 1}]}",
        "control_plane: {access: {tokens: [{name: a, role: reader, secret_file: b}]}}",
        "rollout: {watch: 10s}",
        "envoy: {runtime: {a.b: 1}}",
    ],
)
def test_an_edit_of_what_the_listener_does_not_depend_on_does_not_build_it_again(text: str) -> None:
    before, after = (compiled(each).snapshot.types[LISTENER] for each in ("{}", text))
    assert after.resources[names.LISTENER] is before.resources[names.LISTENER]


@pytest.mark.parametrize(
    "text",
    [
        "listener: {trusted_hops: 1}",
        "callout: {message_timeout: 9s}",
        "requests: {expose_reason: true}",
        "telemetry: {tracing: {otlp: {address: '127.0.0.1:4317'}}}",
        "models: {a: {paths: [/v2/health/ready], versions: {v1: {endpoints: [{address: 'h:9'}]}}}}",
    ],
)
def test_an_edit_of_what_the_listener_depends_on_builds_it_again(text: str) -> None:
    before, after = (compiled(each).snapshot.types[LISTENER] for each in ("{}", text))
    assert after.resources[names.LISTENER].version != before.resources[names.LISTENER].version


def test_listeners_of_node_groups_are_kept_beside_each_other() -> None:
    text = "listener: {address: '127.0.0.1:PORT'}"
    first, second = (text.replace("PORT", port) for port in ("18443", "18444"))
    before, _, after = (compiled(each).snapshot.types[LISTENER] for each in (first, second, first))
    assert after.resources[names.LISTENER] is before.resources[names.LISTENER]


def test_every_key_that_needs_a_restart_is_detected() -> None:
    change = compiled(CHANGED)
    of_video = tuple(key for key in RESTART_KEYS if key.startswith("video."))
    assert change.restart_required + of_video == RESTART_KEYS
    assert change.config == STARTED


VIDEO = """
video: {http: "127.0.0.1:1", grpc: "127.0.0.1:11", metrics: "127.0.0.1:22", workers: 3,
  allow_insecure: true, drain_timeout: 1, hang_timeout: 2}
"""


def test_the_video_service_keeps_its_addresses_until_it_is_started_again() -> None:
    started = loads("video: {}")
    change = compiled(VIDEO, started)
    of_video = tuple(key for key in RESTART_KEYS if key.startswith("video."))
    assert set(change.restart_required) == set(of_video)
    assert change.config == started
    assert compiled("video: {max_uploads: 1, max_watchers: 2}", started).restart_required == ()


@pytest.mark.parametrize(("text", "started"), [(VIDEO, "{}"), ("{}", VIDEO)])
def test_a_video_service_is_added_and_removed_at_once(text: str, started: str) -> None:
    change = compiled(text, loads(started))
    assert change.restart_required == ()
    assert change.config.video == loads(text).video


def test_a_change_that_needs_a_restart_does_not_change_the_resources_of_envoy() -> None:
    before, after = compiled("{}"), compiled(CHANGED)
    changed = [
        each
        for each in resource_types.ALL
        if before.snapshot.types[each] != after.snapshot.types[each]
    ]
    assert changed == [resource_types.POLICY]
    assert before.snapshot.version != after.snapshot.version


@pytest.mark.parametrize("text", ["{}", "requests: {max_body: 1}", ACCESS])
def test_other_changes_need_no_restart(text: str) -> None:
    assert compiled(text).restart_required == ()
