"""How an Envoy identifies itself to the control plane and the callout, and knows them.

Envoy reads its certificate, the authorities and its token through files of SDS, because it watches
only these for changes. Each has one secret, with the names of the files of `identity.envoy`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sluice.config.identity import Identity

CERTIFICATE, CA, TOKEN = "certificate", "ca", "token"
"""The names of the secrets, and of the files of SDS without their ending."""

_TYPE: Final = "type.googleapis.com/envoy.extensions"

Json = dict[str, object]


def sds_file(identity: Identity, directory: Path, name: str) -> Path:
    """The file of SDS with a secret. File names in the config are relative to `directory`."""
    return directory.absolute() / identity.envoy.sds_folder / f"{name}.yaml"


def sds_files(identity: Identity, directory: Path) -> Iterator[tuple[Path, bytes]]:
    """The files of SDS with their content. YAML, because JSON is YAML."""
    for name, secret in _secrets(identity, directory.absolute()):
        resource = {"@type": f"{_TYPE}.transport_sockets.tls.v3.Secret", "name": name, **secret}
        content = json.dumps({"resources": [resource]}, indent=1) + "\n"
        yield sds_file(identity, directory, name), content.encode()


def static_secrets(identity: Identity, directory: Path) -> list[Json]:
    """The same secrets for an Envoy without SDS."""
    return [{"name": name, **each} for name, each in _secrets(identity, directory.absolute())]


def transport_socket(identity: Identity, directory: Path, server_name: str) -> Json:
    """TLS of a cluster whose servers have `server_name` in their certificate, as JSON."""
    kind = f"{_TYPE}.transport_sockets.tls.v3.UpstreamTlsContext"
    config = {"@type": kind, **tls_context(identity, directory, server_name)}
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


def tls_context(
    identity: Identity, directory: Path, server_name: str, protocol: str = "h2"
) -> Json:
    """The message UpstreamTlsContext of such a cluster, as JSON. `protocol`: that of ALPN."""
    common: Json = {
        # Without it, Envoy's health checks offer no protocol (ALPN), and gRPC servers refuse them.
        "alpn_protocols": [protocol],
        "combined_validation_context": {
            "default_validation_context": {
                "match_typed_subject_alt_names": [
                    {"san_type": _kind(server_name), "matcher": {"exact": server_name}}
                ]
            },
            "validation_context_sds_secret_config": _sds(identity, directory, CA),
        },
    }
    if identity.mutual:
        common["tls_certificate_sds_secret_configs"] = [_sds(identity, directory, CERTIFICATE)]
    context: Json = {"common_tls_context": common}
    if _kind(server_name) == "DNS":
        context["sni"] = server_name
    return context


def token_filters(identity: Identity, directory: Path) -> list[Json]:
    """The upstream filters of the cluster of xDS that add Envoy's token; none without a token."""
    if identity.envoy.token_file is None:
        return []
    generic = {
        "@type": f"{_TYPE}.http.injected_credentials.generic.v3.Generic",
        "header_value_prefix": "Bearer ",
        "credential": _sds(identity, directory, TOKEN),
    }
    injector = {
        "@type": f"{_TYPE}.filters.http.credential_injector.v3.CredentialInjector",
        "overwrite": True,
        "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": generic},
    }
    codec = {"@type": f"{_TYPE}.filters.http.upstream_codec.v3.UpstreamCodec"}
    return [
        {"name": "envoy.filters.http.credential_injector", "typed_config": injector},
        {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
    ]


def _kind(name: str) -> str:
    return "URI" if "://" in name else "DNS"


def _sds(identity: Identity, directory: Path, name: str) -> Json:
    path = str(sds_file(identity, directory, name))
    source = {"path_config_source": {"path": path}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}


def _secrets(identity: Identity, folder: Path) -> Iterator[tuple[str, Json]]:
    envoy = identity.envoy
    if envoy.certificate is not None and envoy.private_key is not None:
        chain, key = folder / envoy.certificate, folder / envoy.private_key
        certificate = {
            "certificate_chain": {"filename": str(chain)},
            "private_key": {"filename": str(key)},
            "watched_directory": {"path": str(chain.parent)},
        }
        yield CERTIFICATE, {"tls_certificate": certificate}
    if identity.ca is not None:
        file = folder / identity.ca
        trusted = {
            "trusted_ca": {"filename": str(file)},
            "watched_directory": {"path": str(file.parent)},
        }
        yield CA, {"validation_context": trusted}
    if envoy.token_file is not None:
        file = folder / envoy.token_file
        source = {"filename": str(file), "watched_directory": {"path": str(file.parent)}}
        yield TOKEN, {"generic_secret": {"secret": source}}
