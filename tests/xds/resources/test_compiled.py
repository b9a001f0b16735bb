"""Keys that need a restart keep their values in a running gateway."""

from pathlib import Path

import pytest

from sluice.config import GatewayConfig, policy_document
from sluice.config.checked import LoadedConfig
from sluice.config.load import loads
from xds.protocol import resource_types
from xds.resources.compiled import CompiledConfig, compile_config
from xds.resources.restart import RESTART_KEYS

HERE = Path(__file__).parent
STARTED = GatewayConfig()
CHANGED = """
identity: {callout: {token_file: a}, envoy: {token_file: b}}
control_plane:
  {http: "127.0.0.1:3", allowed_hosts: [a], xds: "127.0.0.1:4", ack_timeout: 1,
   replicas: ["127.0.0.1:5"], allow_insecure: true}
envoy:
  {admin: "10.0.0.1:9901", allow_remote_admin: true, concurrency: 3, max_connections: 7,
   max_heap: 100MiB, log_level: info}
callout:
  {address: "127.0.0.1:100", allow_insecure: true, workers: 5, drain_timeout: 1, hang_timeout: 2,
   max_memory: 1MiB, copies: 'unix:/c'}
telemetry: {metrics: {address: "127.0.0.1:2"}, profile: {secret_file: secret}}
"""
ACCESS = "control_plane: {access: {tokens: [{name: a, role: reader, secret_file: b}]}}"


def compiled(text: str) -> CompiledConfig:
    config = loads(text)
    return compile_config(LoadedConfig(config, policy_document(config, HERE), HERE), STARTED)


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


def test_every_key_that_needs_a_restart_is_detected() -> None:
    change = compiled(CHANGED)
    assert change.restart_required == RESTART_KEYS
    assert change.config == STARTED


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
