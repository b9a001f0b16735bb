"""`sluice export istio`: the models, the filters and the policies of an Istio mesh."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from sluice.cli.commands import Subcommands, UsageError, command
from sluice.cli.export.options import format_option, show_objects
from sluice.cli.gateway import config_argument, require_config
from sluice.cli.output import serialized, show_note
from sluice.config.files import UnusableFileError
from sluice.config.gateway import GatewayConfig
from sluice.config.istio import Istio
from sluice.config.load import load

# Any: Kubernetes objects as JSON.
Json = dict[str, Any]


def register(exports: Subcommands) -> None:
    """Add the command."""
    istio = command(
        exports, "istio", _istio,
        "print the models as resources of an Istio mesh, or what lets its Envoys ask the callout",
        ("xds", "protos"),
    )  # fmt: skip
    config_argument(istio, "config of the gateway")
    istio.add_argument(
        "--part", choices=tuple(_PARTS), default="routes",
        help="routes: ServiceEntries, DestinationRules and the VirtualService of the models; "
        "filters: EnvoyFilters that ask the callout (ext_proc); policies: AuthorizationPolicies "
        "that ask it instead (ext_authz); mesh-config: the providers for these policies, for the "
        "config of the mesh",
    )  # fmt: skip
    format_option(istio)


def _istio(options: argparse.Namespace) -> int:
    file = require_config(options)
    # The files of certificates and keys may be in a cluster only.
    config = load(file)
    istio = config.istio
    if istio is None:
        raise UsageError(
            "the config has no section istio",
            hint="write istio: with hosts, and the gateways that have these hosts",
        )
    if options.part == "routes":
        config = _with_endpoints(config, file.parent)
        _show_secrets(config)
    documents = list(_PARTS[options.part](config, istio))
    if options.part == "mesh-config":  # no Kubernetes object
        print(serialized(options.output, documents[0]), end="")
    else:
        show_objects(options, documents)
    return 0


# The functions below import late: main checks xds and protos before it calls `_istio`.


def _routes(config: GatewayConfig, _: Istio) -> Iterator[Json]:
    from xds.istio.documents import document
    from xds.istio.resources import compile_istio

    return map(document, compile_istio(config))


def _filters(config: GatewayConfig, istio: Istio) -> Iterator[Json]:
    from xds.istio.envoy_filters import envoy_filters

    return iter(envoy_filters(config, istio))


def _policies(config: GatewayConfig, istio: Istio) -> Iterator[Json]:
    from xds.istio.authorization import policies

    return policies(config, istio)


def _mesh_config(config: GatewayConfig, istio: Istio) -> Iterator[Json]:
    from xds.istio.authorization import extension_providers

    yield {"extensionProviders": extension_providers(config, istio)}


_PARTS: Final[dict[str, Callable[[GatewayConfig, Istio], Iterator[Json]]]] = {
    "routes": _routes,
    "filters": _filters,
    "policies": _policies,
    "mesh-config": _mesh_config,
}


def _with_endpoints(config: GatewayConfig, folder: Path) -> GatewayConfig:
    """The config with the endpoints in files, whose names are relative to the folder."""
    from xds.resources.found_endpoints import with_endpoints
    from xds.sources.endpoints.file import read_endpoints

    found = {}
    for path, version in config.referring_versions():
        origin = version.endpoints_from
        if origin is not None and origin.file is not None:
            try:
                found[origin] = read_endpoints(folder / origin.file)
            except UnusableFileError as error:
                key = ".".join((*path, "endpoints_from", "file"))
                raise UsageError(f"{key}: {error}") from None
    return with_endpoints(config, found)


def _show_secrets(config: GatewayConfig) -> None:
    """Name the Kubernetes Secrets that the operator must provide."""
    from xds.istio.destination_rules import needs_secret
    from xds.istio.names import secret_name

    for name, model in config.models.items():
        for key, version in model.versions.items():
            if needs_secret(version):
                tls = version.tls
                assert tls is not None
                pairs = {"ca.crt": tls.ca, "tls.crt": tls.certificate, "tls.key": tls.private_key}
                keys = ", ".join(each for each, file in pairs.items() if file)
                show_note(
                    f"models.{name}.versions.{key}.tls: create the Secret {secret_name(name, key)} "
                    f"with {keys} in the namespace of the gateway's pods"
                )
