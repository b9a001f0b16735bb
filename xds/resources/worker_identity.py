"""TLS of Envoy towards the callout and the video service: a part of their clusters."""

from pathlib import Path

from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import UpstreamTlsContext

from protos.core_pb2 import TransportSocket
from sluice.config.identity import Identity
from sluice.envoy_identity import tls_context
from xds.resources.data_plane_messages import pack_for_protos


def transport_socket(
    identity: Identity, directory: Path, server_name: str, protocol: str = "h2"
) -> TransportSocket:
    """The transport socket of a cluster whose servers have this name in their certificate.

    File names are relative to `directory`. `protocol`: that of ALPN.
    """
    context = UpstreamTlsContext.from_dict(tls_context(identity, directory, server_name, protocol))
    return TransportSocket(
        name="envoy.transport_sockets.tls", typed_config=pack_for_protos(context)
    )
