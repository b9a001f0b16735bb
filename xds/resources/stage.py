"""The resources of a staged rollout: some Envoys already have the next config, the staged one.

Workers hold both policies, because any Envoy calls any worker. The route table of a staged Envoy
has a mark, which its calls to the callout have as metadata, so routes and policy of a request
always belong together.
"""

from collections.abc import Collection

from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)
from envoy_data_plane.google.protobuf import Any as PackedMessage

from protos.policy_pb2 import Policy
from sluice.contract.names import LISTENER, POLICY, STAGED
from xds.protocol.snapshot import Resource, Resources
from xds.resources import omitted_callout, routes
from xds.resources.omitted_callout import EXT_PROC


def staged_policies(policy: Resources, nodes: Collection[str]) -> Resources:
    """The resources of the staged policy, which workers get beside those of the policy in force.

    `policy`: the resources of the staged config (type Policy). `nodes`: ids of the staged Envoys.
    """
    settings = Policy.FromString(policy[POLICY].body)
    settings.nodes.extend(sorted(nodes))
    staged = {STAGED + name: resource for name, resource in policy.items()}
    staged[STAGED + POLICY] = Resource.of(settings.SerializeToString())
    return staged


def staged_version(policy: Resources) -> str | None:
    """The version of the staged policy that workers have (type Policy); None without one."""
    settings = policy.get(STAGED + POLICY)
    return None if settings is None else Policy.FromString(settings.body).version


def marked_routes(tables: Resources, listeners: Resources, version: str) -> Resources:
    """The route tables of the staged config of this version, with its mark.

    `listeners`: those of the same config, whose settings of the callout apply.
    """
    callout = omitted_callout.marked(_callout_filter(listeners[LISTENER]), version)
    return {
        name: Resource.of(*routes.marked(resource.parts, version, callout), ttl=resource.ttl)
        for name, resource in tables.items()
    }


def _callout_filter(listener: Resource) -> PackedMessage:
    """The config of the filter that calls the callout."""
    (chain,) = Listener.parse(listener.body).filter_chains
    network = chain.filters[0].typed_config
    assert network is not None
    filters = HttpConnectionManager.parse(network.value).http_filters
    (callout,) = (each.typed_config for each in filters if each.name == EXT_PROC)
    assert callout is not None
    return callout
