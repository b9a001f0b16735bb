"""`sluice explain`: the decision on a request, stage by stage."""

import argparse
from pathlib import Path

from sluice.cli.commands import Subcommands, command
from sluice.config import GatewayConfig
from sluice.printable import printable

MAX_LINE = 5000
"""Maximum characters of a printed line."""


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    parser = command(
        commands, "explain", _explain, "explain the decision on a request, stage by stage",
        ("extproc", "protos"),
    )  # fmt: skip
    parser.add_argument("path", metavar="PATH", help="path of the request")
    parser.add_argument("-X", "--method", default="POST", help="method of the request")
    parser.add_argument(
        "-H", "--header", action="append", default=[], type=_header, metavar="NAME: VALUE",
        help="header of the request; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--xds", default=GatewayConfig().control_plane.xds, help="address of the xDS server"
    )
    parser.add_argument(
        "--config", type=Path, help="use the policy of this config file, not of a running gateway"
    )


def _header(text: str) -> tuple[str, bytes]:
    name, colon, value = text.partition(":")
    if not name or not colon:
        raise argparse.ArgumentTypeError("write NAME: VALUE")
    return name.strip().lower(), value.strip().encode()


def _explain(options: argparse.Namespace) -> int:
    # Imported late: main checks extproc and protos before it calls this function.
    from sluice.cli.explanation import explanation

    for line in explanation(options.xds, options.config, _headers(options)):
        # A claim of a token may contain control sequences of terminals.
        print(printable(line, MAX_LINE))
    return 0


def _headers(options: argparse.Namespace) -> list[tuple[str, bytes]]:
    return [
        (":method", options.method.encode()),
        (":path", options.path.encode()),
        *options.header,
    ]
