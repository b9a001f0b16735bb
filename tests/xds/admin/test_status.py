"""What operators see never holds a secret."""

import json

from sluice.config import GatewayConfig
from xds.admin.status import REDACTED, ControlPlaneState, redacted
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.snapshot import EMPTY, Resource, Snapshot
from xds.protocol.sotw import SotwRequest
from xds.rollout.rollout import Rollout
from xds.sources.file import CompiledConfig


def shown(jwks: str) -> str:
    config = GatewayConfig.model_validate(
        {
            "auth": {
                "issuers": [
                    {"issuer": "i", "audiences": ["a"], "algorithms": ["RS256"], "jwks": jwks}
                ],
                "api_keys": [{"name": "n", "sha256": "5" * 64}],
            }
        }
    )
    return json.dumps(redacted(config))


def test_public_keys_are_shown_and_private_and_secret_ones_are_not() -> None:
    text = shown('{"keys": [{"kty": "RSA", "n": "modulus", "d": "private"}, {"k": "secret"}]}')
    assert "modulus" in text
    assert "private" not in text
    assert "secret" not in text


def test_what_is_no_key_set_is_not_shown() -> None:
    for text in ("secret", '["secret"]', '{"keys": "secret"}', '{"keys": ["secret"]}'):
        assert "secret" not in shown(text)


def test_hashes_of_api_keys_are_not_shown() -> None:
    assert "5" * 64 not in shown('{"keys": []}')
    assert REDACTED in shown('{"keys": []}')


def test_a_node_is_shown_with_what_it_rejected_and_why() -> None:
    nodes = Nodes(lambda: 7.0)
    state = ControlPlaneState(
        "file", CompiledConfig(GatewayConfig(), EMPTY), nodes, Rollout(nodes, 1.0)
    )
    nodes.publish(Snapshot.of({resource_types.POLICY: {"policy": Resource.of(b"p")}}, "v1"))
    node = nodes.connect()
    node.id, node.metadata = "callout-1", {"pid": 42.0}
    nodes.on_request(node, SotwRequest(resource_types.POLICY))
    (response,) = nodes.responses(node)
    nack = SotwRequest(resource_types.POLICY, nonce=response.nonce, error="unreadable")
    nodes.on_request(node, nack)
    (seen,) = state.status().nodes
    assert (seen.id, seen.kind, seen.pid) == ("callout-1", "callout", 42)
    policy = seen.types["policy"]
    assert (policy.acked, policy.nacked, policy.reason) == (None, "v1", "unreadable")
    assert not policy.in_sync
    assert seen.version is None
    assert policy.at == 7.0


def test_a_node_is_shown_with_the_config_version_that_it_accepted() -> None:
    nodes = Nodes(lambda: 7.0)
    state = ControlPlaneState(
        "file", CompiledConfig(GatewayConfig(), EMPTY), nodes, Rollout(nodes, 1.0)
    )
    policy = {resource_types.POLICY: {"policy": Resource.of(b"p")}}
    nodes.publish(Snapshot.of(policy, "v1"))
    node = nodes.connect()
    nodes.on_request(node, SotwRequest(resource_types.POLICY))
    (response,) = nodes.responses(node)
    nodes.on_request(node, SotwRequest(resource_types.POLICY, nonce=response.nonce))
    nodes.publish(Snapshot.of(policy, "v2"))
    (seen,) = state.status().nodes
    assert seen.version == "v2"
    assert seen.types["policy"].in_sync
    assert seen.types["policy"].acked == "v1"
