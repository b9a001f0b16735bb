"""The resources of a staged rollout: some Envoys already have the next config, the staged one.

Workers hold both policies, because any Envoy calls any worker. The route table of a staged Envoy
has a mark, which its calls to the callout have as metadata, so routes and policy of a request
always belong together.
"""

from collections.abc import Collection

from protos.policy_pb2 import Policy
from sluice.contract.names import POLICY, STAGED
from xds.protocol.snapshot import Resource, Resources
from xds.resources import routes


def staged_policies(policy: Resources, nodes: Collection[str]) -> Resources:
    """The resources of the staged policy, which workers get beside those of the policy in force.

    `policy`: the resources of the staged config (type Policy). `nodes`: ids of the staged Envoys.
    """
    settings = Policy.FromString(policy[POLICY].body)
    settings.nodes.extend(sorted(nodes))
    staged = {STAGED + name: resource for name, resource in policy.items()}
    staged[STAGED + POLICY] = Resource.of(settings.SerializeToString())
    return staged


def marked_routes(tables: Resources, version: str) -> Resources:
    """The route tables of the staged config of this version, with its mark."""
    return {
        name: Resource.of(*routes.marked(resource.parts, version), ttl=resource.ttl)
        for name, resource in tables.items()
    }
