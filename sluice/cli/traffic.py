"""`sluice drain`, `sluice undrain` and `sluice weight`: the traffic of one endpoint."""

import argparse
import json

from sluice.cli.api import Api
from sluice.cli.changes import Edit, change, change_options
from sluice.cli.commands import Subcommands, command
from sluice.cli.numbers import whole_number
from sluice.cli.targets import version_argument

MAX_WEIGHT = 128


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    drained = command(commands, "drain", _drain, "send an endpoint no new requests")
    undrained = command(commands, "undrain", _undrain, "send an endpoint requests again")
    weighted = command(commands, "weight", _weight, "set the weight of an endpoint")
    for parser in (drained, undrained, weighted):
        version_argument(parser)
        parser.add_argument(
            "address", metavar="ADDRESS", help="address of the endpoint, as in the config"
        )
    weighted.add_argument(
        "weight", metavar="WEIGHT", type=whole_number(1, MAX_WEIGHT),
        help=f"its share of the requests beside the weights of the others, 1 to {MAX_WEIGHT}",
    )  # fmt: skip
    for parser in (drained, undrained, weighted):
        change_options(parser)


def _path(options: argparse.Namespace, action: str) -> tuple[str, ...]:
    model, version = options.target
    return ("models", model, "versions", version, "endpoints", options.address, action)


def _drain(options: argparse.Namespace) -> int:
    return change(Api.of(options), options, Edit("POST", _path(options, "drain")))


def _undrain(options: argparse.Namespace) -> int:
    return change(Api.of(options), options, Edit("POST", _path(options, "undrain")))


def _weight(options: argparse.Namespace) -> int:
    body = json.dumps({"weight": options.weight}).encode()
    return change(Api.of(options), options, Edit("PUT", _path(options, "weight"), body))
