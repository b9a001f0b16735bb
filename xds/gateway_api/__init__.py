"""The routing of a config as objects of Gateway API and Envoy Gateway, for `kubectl apply`.

Envoy Gateway then configures Envoy instead of our control plane. The callout still decides: it
names the version of a request in a header, and the exported routes match this header.
"""

from xds.gateway_api.export import Export, export_gateway_api
from xds.gateway_api.objects import Object, UnexportableError
from xds.gateway_api.target import Target

__all__ = ["Export", "Object", "Target", "UnexportableError", "export_gateway_api"]
