"""`sluice export istio`: the models as resources of an Istio mesh."""

import argparse

from sluice.cli.commands import Subcommands, UsageError, command
from sluice.cli.export.options import format_option, load, show_objects
from sluice.cli.gateway import config_argument
from sluice.cli.output import show_note
from sluice.config.checked import LoadedConfig


def register(exports: Subcommands) -> None:
    """Add the command."""
    istio = command(
        exports, "istio", _istio,
        "print the models as ServiceEntries, DestinationRules and a VirtualService of Istio",
        ("xds", "protos"),
    )  # fmt: skip
    config_argument(istio, "config of the gateway")
    format_option(istio)


def _istio(options: argparse.Namespace) -> int:
    # Imported late: main checks xds and protos before it calls this function.
    from xds.istio.documents import document
    from xds.istio.resources import compile_istio

    loaded = load(options)
    if loaded.config.istio is None:
        raise UsageError(
            "the config has no section istio",
            hint="write istio: with hosts, and the gateways that have these hosts",
        )
    _show_secrets(loaded)
    show_objects(options, [document(each) for each in compile_istio(loaded.config)])
    return 0


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
