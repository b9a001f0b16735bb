"""The layer of Envoy's runtime that the config sets (RTDS)."""

from protos.runtime_pb2 import Runtime
from sluice.config.gateway import Envoy
from sluice.contract.names import CONFIG_RUNTIME
from xds.protocol.snapshot import Resource, Resources
from xds.resources.proto_messages import serialized


def runtime(envoy: Envoy) -> Resources:
    """The layer. It may be empty: an Envoy waits for it when it starts."""
    layer = Runtime(name=CONFIG_RUNTIME)
    layer.layer.update(envoy.runtime)
    return {CONFIG_RUNTIME: Resource.of(serialized(layer))}
