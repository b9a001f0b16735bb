"""TLS of grpcio servers: certificates that follow their files, and the names of clients."""

import logging
import ssl
from collections.abc import Iterable, Mapping
from typing import Protocol

import grpc

from sluice.tls import TlsFiles, file_states, server_settings

log = logging.getLogger(__name__)


class AuthContext(Protocol):
    """The part of grpc.aio.ServicerContext that describes the client's certificate."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """The properties of the connection."""


def grpc_peer_names(context: AuthContext) -> frozenset[str]:
    """The names in the verified certificate of a client, as `sluice.tls.peer_names`."""
    properties = context.auth_context()
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        if names := frozenset(each.decode(errors="replace") for each in properties.get(key, ())):
            return names
    return frozenset()


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """The credentials of a server. With `files.ca`, every client needs a certificate of it.

    grpcio asks for the certificates at each handshake. Raises OSError for unusable files.
    """
    states = file_states(files)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal states
        found = file_states(files)
        if found == states:
            return None
        states = found
        try:
            configuration = _configuration(files)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            log.warning(
                "the certificate %s or its key or CA cannot be used, the last ones stay: %s",
                files.certificate, reason,
            )  # fmt: skip
            return None
        log.info("certificates are read again: %s", files.certificate)
        return configuration

    return grpc.dynamic_ssl_server_credentials(
        _configuration(files), changed, require_client_authentication=files.ca is not None
    )


def _configuration(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    # grpcio finds out only at a handshake that a key does not belong to its certificate.
    server_settings(files, ssl.CERT_REQUIRED)
    return grpc.ssl_server_certificate_configuration(
        [(files.key.read_bytes(), files.certificate.read_bytes())],
        root_certificates=None if files.ca is None else files.ca.read_bytes(),
    )
