"""Connections to the control plane over grpcio, with a certificate or a token."""

from typing import Final

import grpc
import grpc.aio

from sluice.tls import ClientCredentials
from sluice.version import USER_AGENT

MAX_RESPONSE: Final = 64 << 20
"""Bytes of a response: the largest config with room for its secrets."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_RESPONSE),
    ("grpc.primary_user_agent", USER_AGENT),
    # Find out that the control plane is gone without an end of the connection.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # The subscriber decides when to try again, and with which address.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # A proxy of the environment is for servers of others.
    ("grpc.enable_http_proxy", 0),
    # Each connection reads its credentials anew.
    ("grpc.use_local_subchannel_pool", 1),
)


def open_channel(address: str, credentials: ClientCredentials) -> grpc.aio.Channel:
    """A channel to `host:port` or `unix:/path`.

    Reads the files of the credentials; raises OSError if they cannot be used.
    """
    if credentials.ca is None or address.startswith("unix:"):
        return grpc.aio.insecure_channel(address, _OPTIONS)
    # grpcio reports files that do not fit together only as a failed connection.
    credentials.context()
    own, key = credentials.certificate, credentials.key
    tls = grpc.ssl_channel_credentials(
        credentials.ca.read_bytes(),
        None if key is None else key.read_bytes(),
        None if own is None else own.read_bytes(),
    )
    name = credentials.server_name
    override = (("grpc.ssl_target_name_override", name),) if name else ()
    return grpc.aio.secure_channel(address, tls, (*_OPTIONS, *override))


def call_metadata(credentials: ClientCredentials) -> tuple[tuple[str, str], ...]:
    """The metadata of each call. Raises OSError for a token that cannot be used."""
    token = credentials.token()
    return () if token is None else (("authorization", f"Bearer {token}"),)
