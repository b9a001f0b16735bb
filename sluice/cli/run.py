"""`sluice up`, `sluice control-plane` and `sluice callout`: the processes of a gateway."""

import argparse
import asyncio
import logging
from pathlib import Path

from pydantic import ValidationError

from sluice.cli.commands import CommandError, Subcommands, UsageError, command, config_argument
from sluice.config import GatewayConfig
from sluice.config.gateway import Callout
from sluice.config.telemetry import MetricsEndpoint
from sluice.data import demo_config
from sluice.runner import Options, StartError, up


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    everything = command(
        commands, "up", _up, "run a whole gateway on this machine", ("extproc", "xds", "protos")
    )
    config_argument(everything, required=False)
    everything.add_argument("--demo", action="store_true", help="run the example models too")
    everything.add_argument("--envoy", type=Path, metavar="PATH", help="the Envoy to run")
    _transport(everything)
    control_plane = command(
        commands, "control-plane", _control_plane, "run the control plane", ("xds", "protos")
    )
    config_argument(control_plane)
    workers = command(
        commands, "callout", _callout, "run the callout workers", ("extproc", "protos")
    )
    defaults = GatewayConfig()
    workers.add_argument("--xds", default=defaults.control_plane.xds, help="the control plane")
    workers.add_argument(
        "--address", default=defaults.callout.address, help="of worker 0; see callout.address"
    )
    workers.add_argument(
        "--workers", type=int, default=defaults.callout.workers, help="how many processes"
    )
    workers.add_argument(
        "--drain-timeout", type=float, default=defaults.callout.drain_timeout,
        help="seconds for open calls when a worker stops",
    )  # fmt: skip
    workers.add_argument(
        "--metrics", default=defaults.telemetry.metrics.address, help="where metrics are served"
    )
    workers.add_argument(
        "--metrics-allowed-host",
        action="append",
        metavar="NAME",
        help="a host name by which they may be asked for their status and profiles; any number",
    )
    workers.add_argument(
        "--profile-secret",
        type=Path,
        metavar="FILE",
        help="allow profiles to who knows its content",
    )
    _transport(workers)


def _transport(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--transport", choices=("asyncio", "grpcio"), help="transport of the callout workers"
    )


def _up(options: argparse.Namespace) -> int:
    if options.config is None and not options.demo:
        raise UsageError("name a CONFIG, or use --demo")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    config = options.config or demo_config()
    try:
        asyncio.run(up(Options(config, options.demo, options.envoy, options.transport)))
    except StartError as error:
        raise CommandError(error) from error
    return 0


def _control_plane(options: argparse.Namespace) -> int:
    from xds.main import main

    return main(options.config)


def _callout(options: argparse.Namespace) -> int:
    from extproc.process.main import run
    from extproc.process.worker import WorkerSettings
    from extproc.telemetry.endpoint import EndpointSettings

    try:
        listen = Callout(address=options.address, workers=options.workers)
        metrics = MetricsEndpoint(
            address=options.metrics, allowed_hosts=options.metrics_allowed_host or ()
        )
    except ValidationError as error:
        problems = [
            f"{problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        ]
        raise UsageError("; ".join(problems)) from error
    workers = [
        WorkerSettings(
            index, address, options.xds, options.transport or "asyncio", options.drain_timeout
        )
        for index, address in enumerate(listen.addresses())
    ]
    try:
        endpoint = EndpointSettings(metrics.address, options.profile_secret, metrics.allowed_hosts)
        return run(workers, endpoint)
    except OSError as error:
        raise CommandError(error) from error
