"""Secrets (SDS): the certificates, keys and headers of versions, and the CAs of the system.

A secret has the content of a file, so a file with new content changes nothing else in Envoy. Envoy
shows no keys and no headers in its config dump.
"""

from collections.abc import Iterator
from typing import Final

from protos.core_pb2 import DataSource
from protos.tls_pb2 import (
    CertificateValidationContext,
    GenericSecret,
    SdsSecretConfig,
    Secret,
    TlsCertificate,
)
from sluice.config import GatewayConfig
from sluice.config.secrets import Secrets, VersionSecrets
from sluice.contract.names import cluster_name
from xds.protocol.snapshot import Resource, Resources
from xds.resources.proto_messages import from_ads, serialized

SYSTEM_ROOTS: Final = "system-roots"
"""The secret with the CA certificates of the system. All versions that use them share it."""


def ca_name(cluster: str) -> str:
    """The name of the secret with the CA certificates of a version."""
    return f"{cluster}/ca"


def certificate_name(cluster: str) -> str:
    """The name of the secret with the client certificate of a version, and its key."""
    return f"{cluster}/certificate"


def header_name(cluster: str, header: str) -> str:
    """The name of the secret with the value of a header of a version."""
    return f"{cluster}/header/{header}"


def secret_from_ads(name: str) -> SdsSecretConfig:
    """A reference to a secret."""
    return SdsSecretConfig(name=name, sds_config=from_ads())


def secrets(config: GatewayConfig, read: Secrets) -> Resources:
    """The secrets of the versions of a config, by name. `read`: their content."""
    found = {}
    if read.system_roots is not None:
        found[SYSTEM_ROOTS] = _authorities(SYSTEM_ROOTS, read.system_roots)
    for (model, version), content in read.versions.items():
        if model in config.models:
            cluster = cluster_name(model, version)
            found |= {secret.name: secret for secret in _of_version(cluster, content)}
    return {name: Resource.of(serialized(secret)) for name, secret in found.items()}


def _of_version(cluster: str, content: VersionSecrets) -> Iterator[Secret]:
    if content.ca is not None:
        yield _authorities(ca_name(cluster), content.ca)
    if content.certificate is not None and content.private_key is not None:
        chain, key = (_inline(each) for each in (content.certificate, content.private_key))
        certificate = TlsCertificate(certificate_chain=chain, private_key=key)
        yield Secret(name=certificate_name(cluster), tls_certificate=certificate)
    for header, value in content.headers.items():
        secret = GenericSecret(secret=_inline(value))
        yield Secret(name=header_name(cluster, header), generic_secret=secret)


def _authorities(name: str, certificates: bytes) -> Secret:
    context = CertificateValidationContext(trusted_ca=_inline(certificates))
    return Secret(name=name, validation_context=context)


def _inline(content: bytes) -> DataSource:
    return DataSource(inline_bytes=content)
