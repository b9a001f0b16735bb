"""TLS from Envoy to the endpoints of a version (UpstreamTlsContext)."""

from typing import Final

from protos.core_pb2 import TransportSocket
from protos.matcher_pb2 import StringMatcher
from protos.tls_pb2 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    TlsParameters,
    UpstreamTlsContext,
)
from sluice.config import Version
from sluice.config.addresses import is_ip
from xds.resources.proto_messages import pack
from xds.resources.secrets import SYSTEM_ROOTS, ca_name, certificate_name, secret_from_ads

ALPN: Final = {"http": ("http/1.1",), "grpc": ("h2",)}
"""The protocols that Envoy offers (RFC 7301), by the protocol of the version."""


def transport_socket(cluster: str, version: Version) -> TransportSocket:
    """The transport socket of the cluster of a version with `tls`."""
    tls, name = version.tls, version.server_name
    assert tls is not None
    common = CommonTlsContext(
        tls_params=TlsParameters(tls_minimum_protocol_version=TlsParameters.TLSv1_2),
        alpn_protocols=ALPN[version.protocol],
    )
    if tls.certificate is not None:
        common.tls_certificate_sds_secret_configs.append(secret_from_ads(certificate_name(cluster)))
    if name is not None:
        authorities = SYSTEM_ROOTS if tls.ca is None else ca_name(cluster)
        common.combined_validation_context.CopyFrom(_validation(name, authorities))
    asked = tls.server_name or name or ""
    context = UpstreamTlsContext(
        # SNI has names only, no addresses (RFC 6066 section 3).
        common_tls_context=common,
        sni="" if is_ip(asked) else asked,
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=pack(context))


def _validation(
    name: str, authorities: str
) -> CommonTlsContext.CombinedCertificateValidationContext:
    """The certificate must have this name, and be signed by one of these authorities.

    Without the name, Envoy would accept every certificate of the authorities.
    """
    kind = SubjectAltNameMatcher.IP_ADDRESS if is_ip(name) else SubjectAltNameMatcher.DNS
    matcher = SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=name))
    return CommonTlsContext.CombinedCertificateValidationContext(
        default_validation_context=CertificateValidationContext(
            match_typed_subject_alt_names=[matcher]
        ),
        validation_context_sds_secret_config=secret_from_ads(authorities),
    )
