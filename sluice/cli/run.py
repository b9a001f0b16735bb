"""`sluice up`, `sluice control-plane` and `sluice callout`: run the processes of a gateway."""

import argparse
import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sluice.cli.addresses import address
from sluice.cli.commands import CommandError, Subcommands, UsageError, command
from sluice.cli.file_warnings import print_warnings
from sluice.cli.files import write_demo
from sluice.cli.gateway import (
    config_argument,
    find_config,
    read_identity,
    read_section,
    require_config,
)
from sluice.cli.numbers import seconds, whole_number
from sluice.cli.section_options import with_options
from sluice.config import GatewayConfig
from sluice.config.access import Access
from sluice.config.gateway import MAX_WORKERS, Callout, ControlPlane, exposed_addresses
from sluice.config.identity import Identity
from sluice.config.identity_files import callout_findings
from sluice.config.load import CONFIG_VARIABLE
from sluice.config.named_files import RUNS_HERE
from sluice.config.telemetry import MetricsEndpoint, Telemetry
from sluice.config.values import MIN_DURATION
from sluice.demo import default_config
from sluice.followed_access import CalloutClients, FollowedAccess
from sluice.garbage_collection import without_collection
from sluice.identity import absolute, absolute_access, callout_files, xds_client
from sluice.runner import READY_TIMEOUT, StartError, UpOptions, up

_CALLOUT_OPTIONS = {
    "address": "--address",
    "workers": "--workers",
    "max_memory": "--max-memory",
    "drain_timeout": "--drain-timeout",
    "hang_timeout": "--hang-timeout",
}
_METRICS_OPTIONS = {"address": "--metrics", "allowed_hosts": "--metrics-allowed-host"}
"""Options of `sluice callout`, by key of `callout` and of `telemetry.metrics` in the config."""


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    gateway = command(
        commands, "up", _up, "run a whole gateway on this machine", ("extproc", "xds", "protos")
    )
    config_argument(gateway, "config file; with --store, the first config of an empty store")
    _store(gateway)
    gateway.add_argument(
        "--demo",
        action="store_true",
        help="also run the example models; without CONFIG, with the demo config (`sluice init`)",
    )
    gateway.add_argument(
        "--faults",
        action="store_true",
        help="with --demo: let every client make calls to the example models fail or wait",
    )
    gateway.add_argument(
        "--envoy", type=Path, metavar="PATH", help="Envoy binary; default: the installed one"
    )
    gateway.add_argument(
        "--ready-timeout", type=seconds(MIN_DURATION), metavar="SECONDS", default=READY_TIMEOUT,
        help="time for all processes to become ready; default: %(default)g",
    )  # fmt: skip
    _transport(gateway)
    control_plane = command(
        commands, "control-plane", _control_plane, "run the control plane", ("xds", "protos")
    )
    _control_plane_arguments(control_plane)
    _callout_arguments(
        command(commands, "callout", _callout, "run the callout workers", ("extproc", "protos"))
    )


def _control_plane_arguments(parser: argparse.ArgumentParser) -> None:
    config_argument(parser, "config file; with --store, the first config of an empty store")
    _store(parser)
    parser.add_argument(
        "--watch", type=Path, metavar="FILE",
        help="make every edit of FILE a revision of the history, beside writes by API",
    )  # fmt: skip
    parser.add_argument(
        "--directory", type=Path, metavar="FOLDER",
        help="folder that file names in a config are relative to; default: that of CONFIG or of "
        "the watched file, else the working directory",
    )  # fmt: skip
    parser.add_argument(
        "--xds", metavar="ADDRESS", type=address,
        help="address of the xDS server, for several control planes on one machine; default: "
        "control_plane.xds",
    )  # fmt: skip
    parser.add_argument(
        "--http", metavar="ADDRESS", type=address,
        help="address of the admin HTTP server; default: control_plane.http",
    )  # fmt: skip
    parser.add_argument(
        "--mcp", metavar="ADDRESS", type=address,
        help="address of the config source of istiod; default: istio.mcp.address",
    )  # fmt: skip
    parser.add_argument(
        "--reader-token", metavar="FILE", type=Path,
        help="file with the token of one more reader, beside control_plane.access; sluice up makes "
        "one to read the status of its gateway",
    )  # fmt: skip


def _store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", metavar="STORE",
        help="keep the config and its history in STORE: sqlite:PATH, redis://HOST:PORT/DB, "
        "rediss://... (TLS) or memory; default: CONFIG is the config, and only its edits change it",
    )  # fmt: skip


def _callout_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = GatewayConfig()
    config_argument(parser, "config file with the defaults of the options")
    parser.add_argument(
        "--xds",
        help="addresses of the xDS servers, separated by commas; default: control_plane.replicas, "
        f"else control_plane.xds, {defaults.control_plane.xds}",
    )
    parser.add_argument(
        "--address",
        help=f"address of worker 0; default: callout.address, {defaults.callout.address}",
    )
    parser.add_argument(
        "--workers", type=whole_number(1, MAX_WORKERS),
        help=f"number of worker processes; default: callout.workers, {defaults.callout.workers}",
    )  # fmt: skip
    parser.add_argument(
        "--drain-timeout", type=seconds(0.0),
        help="seconds for open calls to end when a worker stops; default: callout.drain_timeout, "
        f"{defaults.callout.drain_timeout:g}",
    )  # fmt: skip
    parser.add_argument(
        "--hang-timeout", type=seconds(0.0),
        help="seconds without a heartbeat after which a worker is replaced; default: "
        f"callout.hang_timeout, {defaults.callout.hang_timeout:g}",
    )  # fmt: skip
    parser.add_argument(
        "--max-memory",
        help="memory of one worker for the data of requests and responses, such as 256MiB; "
        f"default: callout.max_memory, {defaults.callout.max_memory >> 20}MiB",
    )  # fmt: skip
    parser.add_argument(
        "--metrics",
        help="address of the metrics endpoint; default: telemetry.metrics.address, "
        f"{defaults.telemetry.metrics.address}",
    )  # fmt: skip
    parser.add_argument(
        "--metrics-allowed-host", action="append", metavar="NAME",
        help="host name that the Host header of requests for status and profiles may have; "
        "may be repeated; default: telemetry.metrics.allowed_hosts",
    )  # fmt: skip
    parser.add_argument(
        "--profile-secret", type=Path, metavar="FILE",
        help="file with the bearer token for profiles; default: telemetry.profile.secret_file; "
        "without it, there are no profiles",
    )  # fmt: skip
    parser.add_argument(
        "--follow-access", type=Path, metavar="FILE",
        help="config file whose changes of control_plane.access count; default: CONFIG",
    )  # fmt: skip
    _transport(parser)


def _transport(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--transport", choices=("asyncio", "grpcio"), help="transport of the callout workers"
    )


def _up(options: argparse.Namespace) -> int:
    config = find_config(options)
    _check_store(options)
    if config is None and not options.demo and options.store is None:
        raise UsageError(
            f"give a CONFIG, set {CONFIG_VARIABLE}, or use --demo to try the example models"
        )
    if options.faults and not options.demo:
        raise UsageError("--faults needs --demo")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    if options.demo:
        config = config or _demo_config()
    try:
        started = UpOptions(
            config,
            options.demo,
            options.faults,
            options.envoy,
            options.transport,
            options.ready_timeout,
            options.store,
        )
        asyncio.run(up(started))
    except StartError as error:
        raise CommandError(error) from error
    return 0


def _demo_config() -> Path:
    """The default config of the demo. In an installed package, a copy that is written if missing.

    Raises as `write_demo`.
    """
    config = default_config()
    if not config.exists():
        write_demo(config.parent)
    return config


def _control_plane(options: argparse.Namespace) -> int:
    # The collector would visit the many classes of Envoy's messages again and again.
    start = without_collection(_import_control_plane, options)
    return start(options)


def _import_control_plane(_: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    from sluice.explain.served import ServedExplainer
    from xds.candidate.start import StartOptions
    from xds.main import main

    def start(options: argparse.Namespace) -> int:
        _check_sources(options)
        needs_config = options.store is None and options.watch is None
        config = require_config(options) if needs_config else find_config(options)
        started = StartOptions(
            config, options.store, options.watch, options.directory, options.xds, options.http,
            options.reader_token, options.mcp,
        )  # fmt: skip
        return main(started, ServedExplainer())

    return start


def _check_sources(options: argparse.Namespace) -> None:
    """Raises UsageError if the options do not say clearly where the config comes from."""
    if options.watch is not None and options.config is not None:
        raise UsageError("give a CONFIG or --watch FILE, not both")
    _check_store(options)


def _check_store(options: argparse.Namespace) -> None:
    """Raises UsageError if the name of the store is not valid."""
    if options.store is not None:
        from xds.sources.store.open import check_store

        try:
            check_store(options.store)
        except ValueError as error:
            raise UsageError(f"--store {options.store[:100]!r}: {error}") from error


def _callout(options: argparse.Namespace) -> int:
    from extproc.process.main import run
    from extproc.process.worker import WorkerSettings
    from extproc.telemetry.endpoint import EndpointSettings
    from extproc.transport import Tls
    from sluice.http.access import own_name

    file = find_config(options)
    config = _callout_sections(file)
    callout, metrics = _with_options(config, options)
    identity = config.identity
    access = FollowedAccess(options.follow_access or file, config.control_plane.access)
    _check_exposure(config, callout, metrics)
    files = callout_files(identity, Path())
    tls = None
    if identity is not None and files is not None and not callout.address.startswith("unix:"):
        tls = Tls(files.certificate, files.key, files.ca, CalloutClients(identity, access))
    workers = [
        WorkerSettings(
            index,
            address,
            options.xds or ",".join(config.control_plane.xds_addresses),
            options.transport or "asyncio",
            callout.drain_timeout,
            callout.max_memory,
            tls,
            xds_client(identity, Path()),
        )
        for index, address in enumerate(callout.addresses())
    ]
    profile = config.telemetry.profile
    secret = options.profile_secret or (None if profile is None else Path(profile.secret_file))
    endpoint = EndpointSettings(
        metrics.address, secret, metrics.allowed_hosts, files, access, own_name(identity)
    )
    return run(workers, endpoint, callout.hang_timeout)


def _check_exposure(config: GatewayConfig, callout: Callout, metrics: MetricsEndpoint) -> None:
    """Raises UsageError for an address that strangers could use. An option may have set it."""
    telemetry = config.telemetry.model_copy(update={"metrics": metrics})
    used = config.model_copy(update={"callout": callout, "telemetry": telemetry})
    for path, message in exposed_addresses(used):
        if path[0] not in ("control_plane", "istio"):
            raise UsageError(f"{'.'.join(map(str, path))}: {message}")


def _with_options(
    config: GatewayConfig, options: argparse.Namespace
) -> tuple[Callout, MetricsEndpoint]:
    """The sections with the options that are given. Raises UsageError for an invalid option."""
    given = {key: getattr(options, key) for key in _CALLOUT_OPTIONS}
    callout = with_options(config.callout, given, _CALLOUT_OPTIONS)
    given = {"address": options.metrics, "allowed_hosts": options.metrics_allowed_host}
    return callout, with_options(config.telemetry.metrics, given, _METRICS_OPTIONS)


def _callout_sections(file: Path | None) -> GatewayConfig:
    """The sections of a config file that the callout needs, with absolute file names.

    Without a file, they have their defaults. Raises ConfigError.
    """
    if file is None:
        return GatewayConfig()
    telemetry = read_section(file, "telemetry", Telemetry)
    if telemetry.profile is not None:
        secret_file = str(file.parent.absolute() / telemetry.profile.secret_file)
        profile = telemetry.profile.model_copy(update={"secret_file": secret_file})
        telemetry = telemetry.model_copy(update={"profile": profile})
    control_plane = read_section(file, "control_plane", ControlPlane)
    identity = read_identity(file)
    _check_callout_files(identity, control_plane.access, file)
    access = absolute_access(control_plane.access, file.parent)
    return GatewayConfig().model_copy(
        update={
            "callout": read_section(file, "callout", Callout),
            "control_plane": control_plane.model_copy(update={"access": access}),
            "identity": None if identity is None else absolute(identity, file.parent),
            "telemetry": telemetry,
        }
    )


def _check_callout_files(identity: Identity | None, access: Access, file: Path) -> None:
    """Raises ConfigError for files of the callout that it cannot use. Prints the warnings."""
    found = callout_findings(identity, access, file.parent, datetime.now(UTC))
    print_warnings(found, RUNS_HERE, file)
