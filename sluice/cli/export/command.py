"""The commands `sluice export FORMAT`."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from sluice.cli.api import Api
from sluice.cli.commands import Subcommands, UsageError, command, group
from sluice.cli.export import gateway_api, istio
from sluice.cli.export.options import format_option, load
from sluice.cli.export.rate_limit_service import service_configs
from sluice.cli.gateway import config_argument, control_plane_option
from sluice.cli.output import serialized, show_note
from sluice.config.rate_limit_service import RateLimitDomain
from sluice.output import replace_file


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    exports = group(commands, "export", "print the config in the format of another program")
    envoy = command(
        exports,
        "envoy",
        _envoy,
        "print a complete static config of Envoy, which needs no control plane",
        ("xds", "protos"),
    )
    config_argument(envoy, "config of the gateway")
    envoy.add_argument("--node-id", default="envoy", help="node ID of the Envoy")
    envoy.add_argument(
        "--with-secrets", action="store_true",
        help="include the keys of client certificates and the values of headers_from_secret; "
        "without it, keys are names of files, and values are (redacted)",
    )  # fmt: skip
    format_option(envoy)
    limits = command(
        exports, "ratelimit", _rate_limits,
        "print the config of envoyproxy/ratelimit: one document for each domain of limits.domains",
    )  # fmt: skip
    config_argument(limits, "config of the gateway")
    control_plane_option(limits)
    limits.add_argument(
        "--directory", metavar="FOLDER", type=Path,
        help="write one file for each domain into this folder, in which the service reads them",
    )  # fmt: skip
    format_option(limits)
    istio.register(exports)
    gateway_api.register(exports)


def _envoy(options: argparse.Namespace) -> int:
    # Imported late: main checks xds and protos before it calls this function.
    from xds.resources.compiled import compile_config
    from xds.static import static_bootstrap

    loaded = load(options)
    snapshot = compile_config(loaded, loaded.config).snapshot
    bootstrap = static_bootstrap(
        loaded, snapshot, options.node_id, with_secrets=options.with_secrets
    )
    if not options.with_secrets and any(
        version.headers_from_secret for _, version in loaded.config.referring_versions()
    ):
        show_note("the values of headers_from_secret are (redacted); --with-secrets includes them")
    print(serialized(options.output, bootstrap), end="")
    return 0


def _domains(options: argparse.Namespace) -> Mapping[str, RateLimitDomain]:
    """The domains of the gateway that an option names, else those of the config file."""
    if options.control_plane is None and options.context is None:
        return load(options).config.limits.domains
    api = Api.of(options)
    found = api.get("limits", defaults=False)
    with api.reading():
        domains = found.get("domains", {}).items()
        return {name: RateLimitDomain.model_validate(each) for name, each in domains}


def _rate_limits(options: argparse.Namespace) -> int:
    domains = _domains(options)
    if not domains:
        raise UsageError(
            "the config has no limits.domains",
            hint="`sluice docs limits` says how to configure the rate limit service",
        )
    configs = service_configs(domains)
    if options.directory is None:
        if options.output == "json":
            print(serialized("json", list(configs.values())), end="")
        else:
            print("---\n".join(serialized("yaml", each) for each in configs.values()), end="")
        return 0
    for name, config in configs.items():
        # A domain may have any name, also one with slashes.
        file = options.directory / f"{quote(name, safe='')}.{options.output}"
        replace_file(file, serialized(options.output, config).encode())
        show_note(f"wrote {file}")
    return 0
