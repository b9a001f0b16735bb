"""`sluice export gateway-api`: the routing of a config for Envoy Gateway."""

import argparse
import re
from typing import TYPE_CHECKING

from sluice.cli.commands import CommandError, Subcommands, UsageError, command
from sluice.cli.export.options import format_option, load, show_objects
from sluice.cli.gateway import config_argument
from sluice.cli.output import show_note
from sluice.config.addresses import split_host_port

if TYPE_CHECKING:
    from xds.gateway_api import Export

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_DEFAULT_PORT = 18100


def register(exports: Subcommands) -> None:
    """Add the command."""
    parser = command(
        exports, "gateway-api", _export,
        "print objects of Gateway API and Envoy Gateway that route requests as the config says",
        ("xds", "protos"),
    )  # fmt: skip
    config_argument(parser, "config of the gateway")
    parser.add_argument(
        "--gateway", metavar="NAME", type=_name, default="sluice", help="name of the Gateway"
    )
    parser.add_argument(
        "--gateway-namespace", metavar="NAME", type=_name,
        help="namespace of the Gateway; default: that of the objects",
    )  # fmt: skip
    parser.add_argument(
        "-n", "--namespace", metavar="NAME", type=_name, default="sluice",
        help="namespace of the objects",
    )  # fmt: skip
    parser.add_argument(
        "--callout", metavar="HOST:PORT", type=_address, default=f"sluice-callout:{_DEFAULT_PORT}",
        help="Service of the callout and the port of worker 0: NAME or NAME.NAMESPACE, or another "
        "DNS name or IP address",
    )  # fmt: skip
    parser.add_argument(
        "--listener", metavar="NAME", type=_name, action="append", default=[],
        help="listener of the Gateway that gets the routes; can be repeated. Default: all",
    )  # fmt: skip
    parser.add_argument(
        "--hostname", metavar="NAME", action="append", default=[],
        help="host of the requests that the routes take; can be repeated. Default: every host",
    )  # fmt: skip
    parser.add_argument(
        "--conversion", action="store_true",
        help="add the EnvoyPatchPolicy with which the callout can convert bodies; needs --listener",
    )  # fmt: skip
    format_option(parser)


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("write the name of a Kubernetes object, such as sluice")
    return text


def _address(text: str) -> str:
    host, port = split_host_port(text)
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise argparse.ArgumentTypeError("write HOST:PORT, such as sluice-callout:18100")
    return text


def _export(options: argparse.Namespace) -> int:
    if options.conversion and not options.listener:
        message = "--conversion changes listeners, so it needs their names"
        raise UsageError(message, hint="write --listener NAME")
    export = _objects(options)
    for note in export.notes:
        show_note(note)
    show_objects(options, export.objects)
    return 0


def _objects(options: argparse.Namespace) -> "Export":
    # Imported late: main checks xds and protos before it calls this function.
    from xds.gateway_api import Target, UnexportableError, export_gateway_api

    loaded = load(options)
    target = Target(
        namespace=options.namespace,
        gateway=options.gateway,
        gateway_namespace=options.gateway_namespace or options.namespace,
        callout=options.callout,
        listeners=tuple(options.listener),
        hostnames=tuple(options.hostname),
        converts=options.conversion,
    )
    try:
        return export_gateway_api(loaded.config, target, loaded.secrets)
    except UnexportableError as error:
        raise CommandError(loaded.place(error.path, str(error)), hint=error.hint) from None
