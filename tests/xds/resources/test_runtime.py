"""The keys of `envoy.runtime` are one layer of Envoy's runtime."""

from google.protobuf.json_format import MessageToDict

from protos.runtime_pb2 import Runtime
from sluice.config import GatewayConfig
from xds.resources.runtime import runtime


def test_the_layer_has_the_keys_of_the_config() -> None:
    keys = {"a.b": 5, "share": 0.5, "on": True, "name": "x"}
    config = GatewayConfig.model_validate({"envoy": {"runtime": keys}})
    (layer,) = runtime(config.envoy).values()
    message = Runtime.FromString(layer.body)
    assert (message.name, MessageToDict(message.layer)) == ("sluice-config", keys)


def test_an_envoy_gets_a_layer_without_keys_too() -> None:
    (layer,) = runtime(GatewayConfig().envoy).values()
    assert Runtime.FromString(layer.body).name == "sluice-config"
