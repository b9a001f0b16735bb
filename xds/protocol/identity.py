"""The identity of the control plane, and of the nodes that connect to it, from the config."""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from sluice.config import GatewayConfig
from sluice.config.identity import Identity
from sluice.grpc_credentials import server_credentials
from sluice.identity import control_plane_files
from sluice.tls import TlsFiles
from sluice.token_files import TokenFiles
from xds.protocol.authorization import Caller, NodeRole


def xds_credentials(identity: Identity | None, directory: Path) -> grpc.ServerCredentials | None:
    """TLS of the xDS server; None without it. Raises OSError for files that cannot be used."""
    files = control_plane_files(identity, directory)
    if files is None or identity is None:
        return None
    if not identity.mutual:
        files = TlsFiles(files.certificate, files.key)
    return server_credentials(files)


def istiod_credentials(config: GatewayConfig, directory: Path) -> grpc.ServerCredentials | None:
    """TLS of the server for istiod, which has no certificate as a client; None without it.

    Raises OSError for files that cannot be used.
    """
    files = control_plane_files(config.identity, directory)
    if files is None or config.mcp is None or not config.mcp.tls:
        return None
    return server_credentials(TlsFiles(files.certificate, files.key))


class NodeIdentities:
    """Knows Envoy, the callout and the video service by their certificates or tokens.

    An operator may read the policy as the callout does, for `sluice explain`. `config` returns the
    config whose `control_plane.access` counts; it may be replaced.
    """

    def __init__(self, identity: Identity, config: GatewayConfig, directory: Path) -> None:
        self._identity = identity
        self._files = TokenFiles(directory)
        self.config: Callable[[], GatewayConfig] = lambda: config

    def role(self, caller: Caller) -> NodeRole | None:
        """The role of a client; None for a stranger."""
        return self._by_certificate(caller.names) or self._by_token(caller.token)

    def _by_certificate(self, names: frozenset[str]) -> NodeRole | None:
        if not self._identity.mutual:
            return None
        if self._identity.envoy.name in names:
            return NodeRole.ENVOY
        video = self._identity.video
        if video is not None and video.name in names:
            return NodeRole.VIDEO
        certificates = self.config().control_plane.access.certificates
        operators = (each.name for each in certificates if each.role == "operator")
        is_callout = not names.isdisjoint((self._identity.callout.name, *operators))
        return NodeRole.CALLOUT if is_callout else None

    def _by_token(self, token: str | None) -> NodeRole | None:
        if token is None:
            return None
        sent, found = hashlib.sha256(token.encode()).hexdigest(), None
        # All are compared, so that the time does not depend on which token matches.
        for role, digest in _tokens(self._identity, self.config(), self._files):
            if hmac.compare_digest(sent, digest):
                found = role
        return found


def node_identities(config: GatewayConfig, directory: Path) -> NodeIdentities | None:
    """Who may do what on the xDS port; None if the config has no identity: then everyone may."""
    return None if config.identity is None else NodeIdentities(config.identity, config, directory)


def _tokens(
    identity: Identity, config: GatewayConfig, files: TokenFiles
) -> Iterator[tuple[NodeRole, str]]:
    """The roles and the SHA-256 of the tokens. A file that cannot be used has none."""
    named = [(NodeRole(key), each.token_file) for key, each in identity.clients.items()]
    for each in config.control_plane.access.tokens:
        if each.role == "operator" and each.sha256 is not None:
            yield NodeRole.CALLOUT, each.sha256
        elif each.role == "operator":
            named.append((NodeRole.CALLOUT, each.secret_file))
    for role, file in named:
        digest = None if file is None else files.digest(file)
        if digest is not None:
            yield role, digest
