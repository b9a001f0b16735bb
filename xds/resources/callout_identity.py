"""TLS of Envoy towards the callout: a part of the cluster of the callout's workers."""

from pathlib import Path

from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import UpstreamTlsContext

from protos.core_pb2 import TransportSocket
from sluice.config.identity import Identity
from sluice.envoy_identity import tls_context
from xds.resources.data_plane_messages import pack_for_protos


def transport_socket(identity: Identity, directory: Path) -> TransportSocket:
    """The transport socket of the cluster. File names are relative to `directory`."""
    context = UpstreamTlsContext.from_dict(tls_context(identity, directory, identity.callout.name))
    return TransportSocket(
        name="envoy.transport_sockets.tls", typed_config=pack_for_protos(context)
    )
