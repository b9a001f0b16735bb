"""`sluice export istio`: the models, the filters and the policies of an Istio mesh."""

import argparse
from collections.abc import Callable, Iterator
from typing import Any, Final

from sluice.cli.commands import Subcommands, UsageError, command
from sluice.cli.export.options import format_option, load, show_objects
from sluice.cli.gateway import config_argument
from sluice.cli.output import serialized, show_note
from sluice.config.checked import LoadedConfig
from sluice.config.gateway import GatewayConfig
from sluice.config.istio import Istio

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
    loaded = load(options)
    istio = loaded.config.istio
    if istio is None:
        raise UsageError(
            "the config has no section istio",
            hint="write istio: with hosts, and the gateways that have these hosts",
        )
    if options.part == "routes":
        _show_secrets(loaded)
    documents = list(_PARTS[options.part](loaded.config, istio))
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


def _show_secrets(loaded: LoadedConfig) -> None:
    """Name the Kubernetes Secrets that the operator must provide."""
    from xds.istio.destination_rules import needs_secret
    from xds.istio.names import secret_name

    for name, model in loaded.config.models.items():
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
