"""`sluice explain`: how a policy decides a request, stage by stage, and why."""

import argparse
from pathlib import Path

from sluice.cli.commands import Subcommands, command
from sluice.config import GatewayConfig


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    parser = command(
        commands, "explain", _explain, "show what the running policy makes of a request, and why",
        ("extproc", "protos"),
    )  # fmt: skip
    parser.add_argument("path", metavar="PATH", help="the request's path")
    parser.add_argument("-X", "--method", default="POST", help="the method")
    parser.add_argument(
        "-H", "--header", action="append", default=[], type=_header, metavar="NAME: VALUE",
        help="a header; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--xds", default=GatewayConfig().control_plane.xds, help="the control plane's xDS address"
    )
    parser.add_argument(
        "--config", type=Path, help="explain by this config file, not by a running gateway"
    )


def _header(text: str) -> tuple[str, bytes]:
    name, colon, value = text.partition(":")
    if not name or not colon:
        raise argparse.ArgumentTypeError("write NAME: VALUE")
    return name.strip().lower(), value.strip().encode()


def _explain(options: argparse.Namespace) -> int:
    # Not above: this imports extproc, which is checked first.
    from sluice.cli.explanation import explanation

    for line in explanation(options.xds, options.config, _headers(options)):
        print(line)
    return 0


def _headers(options: argparse.Namespace) -> list[tuple[str, bytes]]:
    return [
        (":method", options.method.encode()),
        (":path", options.path.encode()),
        *options.header,
    ]
