"""The endpoints of a version: a Service, or Backends of Envoy Gateway, and their TLS."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from sluice.config import Version
from sluice.config.addresses import is_ip, split_host_port
from sluice.config.endpoints import Endpoint, KubernetesEndpoints
from sluice.config.errors import KeyPath
from sluice.config.upstream import UpstreamTls
from xds.gateway_api.objects import (
    ENVOY_GATEWAY,
    GATEWAY,
    Object,
    UnexportableError,
    kubernetes_object,
    object_name,
)
from xds.gateway_api.target import Target, grant, service

H2C: Final = "gateway.envoyproxy.io/h2c"
"""Protocol of a Backend: HTTP/2, without TLS if it has no section for TLS."""

HEALTH_CHECK_PROTOCOLS: Final = ("h2",)
"""ALPN of connections with TLS to servers that speak gRPC. Without it, Envoy's health checks offer
no protocol, and gRPC servers refuse them."""

_MAX_ENDPOINTS, _MAX_BACKENDS = 256, 16
"""Maximum endpoints of a Backend, and backends of a rule."""


@dataclass(frozen=True, slots=True)
class Backends:
    """The backendRefs of a version, the objects to which they refer, and what an operator adds."""

    references: list[Object]
    objects: list[Object] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def version_backends(
    target: Target, model: str, name: str, version: Version, authorities: bytes | None
) -> Backends:
    """The backends of a version. `authorities`: the content of `tls.ca`.

    Raises UnexportableError.
    """
    path: KeyPath = ("models", model, "versions", name)
    if version.headers_from_secret:
        message = "Envoy Gateway chooses the filter that adds the header before the callout decides"
        hint = "give the credentials to the model server another way, for example by its sidecar"
        raise UnexportableError((*path, "headers_from_secret"), message, hint)
    source = version.endpoints_from
    if source is not None and source.file is not None:
        message = "Envoy Gateway reads no files with endpoints"
        raise UnexportableError(
            (*path, "endpoints_from", "file"), message, "write kubernetes or dns"
        )
    if source is not None and source.kubernetes is not None:
        found = _service(target, path, version, source.kubernetes)
    else:
        found = _backends(target, path, version)
    if version.tls is not None and not version.tls.allow_any_server:
        found.objects.extend(_tls_policy(target, path, version, found, authorities))
    return found


def _service(
    target: Target, path: KeyPath, version: Version, source: KubernetesEndpoints
) -> Backends:
    key = (*path, "endpoints_from", "kubernetes")
    if not isinstance(source.port, int):
        hint = "write the number of the port, which the Service and its pods must share"
        raise UnexportableError((*key, "port"), "routes name ports of Services by number", hint)
    tls = version.tls
    if tls is not None and (tls.allow_any_server or tls.certificate is not None):
        message = "Envoy Gateway has this setting for Backends, not for Services"
        raise UnexportableError((*path, "tls"), message, "write endpoints_from.dns")
    if tls is not None and version.protocol == "grpc" and version.health_check is not None:
        message = (
            "over TLS, health checks of Services offer no protocol, and gRPC servers refuse them"
        )
        hint = "remove it, or write endpoints_from.dns"
        raise UnexportableError((*path, "health_check"), message, hint)
    reference: Object = {"name": source.service, "port": source.port}
    objects, notes = [], []
    if source.namespace != target.namespace:
        reference["namespace"] = source.namespace
        routes = [(GATEWAY, "HTTPRoute", target.namespace)]
        name = object_name(source.service)
        objects.append(grant(source.namespace, name, service(source.service), routes))
    if version.protocol == "grpc":
        notes.append(
            f"port {source.port} of Service {source.namespace}/{source.service} needs appProtocol "
            "kubernetes.io/h2c"
        )
    return Backends([reference], objects, notes)


def _backends(target: Target, path: KeyPath, version: Version) -> Backends:
    """Backends with the listed endpoints, or with a name. Endpoints that drain are left out."""
    _, model, _, name = path
    if version.tls is not None and version.tls.certificate is not None:
        notes = [
            f"Secret {target.namespace}/{object_name(str(model), str(name))} of the type "
            f"kubernetes.io/tls must have the client certificate and the key of {model}/{name}"
        ]
    else:
        notes = []
    groups = list(_groups(each for _, each in version.named() if not each.drain))
    if not 0 < len(groups) <= _MAX_BACKENDS:
        message = f"a rule has 1 to {_MAX_BACKENDS} Backends, and these would be {len(groups)}"
        hint = "use fewer weights, or not both names and IP addresses"
        raise UnexportableError((*path, "endpoints"), message, hint)
    references, objects = [], []
    for index, group in enumerate(groups):
        number = (str(index),) if len(groups) > 1 else ()
        backend = object_name(str(model), str(name), *number)
        references.append({
            "group": ENVOY_GATEWAY, "kind": "Backend", "name": backend,
            **({"weight": sum(each.weight for each in group)} if number else {}),
        })  # fmt: skip
        objects.append(_backend(target, path, backend, version, group))
    return Backends(references, objects, notes)


def _groups(endpoints: Iterable[Endpoint]) -> Iterator[list[Endpoint]]:
    """Endpoints that can share a Backend: it has one weight, and either names or IP addresses."""
    alike: defaultdict[tuple[bool, int], list[Endpoint]] = defaultdict(list)
    for each in endpoints:
        alike[is_ip(split_host_port(each.address)[0]), each.weight].append(each)
    for group in alike.values():
        for start in range(0, len(group), _MAX_ENDPOINTS):
            yield group[start : start + _MAX_ENDPOINTS]


def _backend(
    target: Target, path: KeyPath, backend: str, version: Version, endpoints: list[Endpoint]
) -> Object:
    content: Object = {"endpoints": [endpoint(each.address) for each in endpoints]}
    if version.protocol == "grpc":
        content["appProtocols"] = [H2C]
    tls = {} if version.tls is None else _tls(path, version.tls)
    if version.tls is not None and version.protocol == "grpc":
        tls["alpnProtocols"] = list(HEALTH_CHECK_PROTOCOLS)
    if tls:
        content["tls"] = tls
    return kubernetes_object("Backend", target.namespace, backend, content)


def endpoint(address: str) -> Object:
    """An endpoint of a Backend."""
    host, port = split_host_port(address)
    if is_ip(host):
        return {"ip": {"address": host, "port": int(port)}}
    return {"fqdn": {"hostname": host.lower(), "port": int(port)}}


def _tls(path: KeyPath, tls: UpstreamTls) -> Object:
    """The part of TLS that a BackendTLSPolicy does not have."""
    found: Object = {}
    if tls.allow_any_server:
        found["insecureSkipVerify"] = True
        if tls.server_name is not None:
            found["sni"] = tls.server_name
    if tls.certificate is not None:
        _, model, _, name = path
        found["clientCertificateRef"] = {"name": object_name(str(model), str(name))}
    return found


def _tls_policy(
    target: Target, path: KeyPath, version: Version, backends: Backends, authorities: bytes | None
) -> Iterator[Object]:
    """The policy for the certificates of the endpoints, and the CA certificates."""
    _, model, _, name = (str(each) for each in path)
    hostname = version.server_name
    if hostname is None or is_ip(hostname):
        message = "the certificates of the endpoints must have a DNS name for Gateway API"
        raise UnexportableError((*path, "tls", "server_name"), message, "write the DNS name")
    own = object_name(model, name)
    validation: Object = {"hostname": hostname, "wellKnownCACertificates": "System"}
    if authorities is not None:
        reference = {"group": "", "kind": "ConfigMap", "name": own}
        validation = {"hostname": hostname, "caCertificateRefs": [reference]}
        content: Object = {"ca.crt": authorities.decode()}
        yield kubernetes_object("ConfigMap", target.namespace, own, content, "data")
    namespaces = {str(each.get("namespace", target.namespace)) for each in backends.references}
    if namespaces != {target.namespace}:
        message = "a BackendTLSPolicy must be in the namespace of the Service"
        hint = f"export with --namespace {namespaces.pop()}"
        raise UnexportableError((*path, "endpoints_from", "kubernetes", "namespace"), message, hint)
    targets = [
        {"group": each.get("group", ""), "kind": each.get("kind", "Service"), "name": each["name"]}
        for each in backends.references
    ]
    spec: Object = {"targetRefs": targets, "validation": validation}
    yield kubernetes_object("BackendTLSPolicy", target.namespace, own, spec)
