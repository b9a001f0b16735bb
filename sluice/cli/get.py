"""`sluice get`: parts of the config, and the state of a gateway."""

import argparse
from collections.abc import Callable, Iterator

from sluice.cli.api import Api, Data
from sluice.cli.commands import Subcommands, command, group
from sluice.cli.convergence import node_table
from sluice.cli.endpoints import STYLES as ENDPOINT_STYLES
from sluice.cli.gateway import gateway_options
from sluice.cli.output import Block, Cell, Line, Row, Table, output_option, serialized, show
from sluice.cli.status import breaker_blocks
from sluice.cli.streams import stream_table

View = Callable[[Data], Iterator[Block]]


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    shown = group(commands, "get", "show parts of the config, and the state of the gateway")
    for name, text in (("config", "the config of the last revision"), ("limits", "the limits")):
        _part(command(shown, name, _show_part(name), f"show {text}, without secrets"))
    models = _listing(shown, "models", "the models with their versions and canaries", _models)
    models.add_argument("--names", action="store_true", help="print only the names, one a line")
    model = command(shown, "model", _show_model, "show a model, without secrets")
    model.add_argument("model", metavar="MODEL", help="name of the model")
    _part(model)
    _listing(
        shown, "nodes", "which node has accepted or rejected the config",
        lambda found: node_table(found["nodes"]),
    )  # fmt: skip
    _listing(shown, "endpoints", "the endpoints of the models, as each Envoy sees them", _endpoints)
    _listing(
        shown, "videos", "the streams of cameras, and uploads, as the video service reports them",
        _videos,
    )  # fmt: skip
    _listing(shown, "breakers", "the breakers that are not closed", _breakers)


def _part(parser: argparse.ArgumentParser) -> None:
    """Options of a command that shows a part of the config."""
    gateway_options(parser)
    parser.add_argument(
        "-o", "--output", choices=("yaml", "json"), default="yaml", help="format of the result"
    )
    parser.add_argument(
        "--defaults", action="store_true", help="also show keys that the config does not set"
    )


def _show_part(name: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        return _print_part(options, name)

    return run


def _show_model(options: argparse.Namespace) -> int:
    return _print_part(options, "models", options.model)


def _print_part(options: argparse.Namespace, *path: str) -> int:
    found = Api.of(options).get(*path, defaults=options.defaults)
    print(serialized(options.output, found), end="")
    return 0


def _listing(shown: Subcommands, name: str, text: str, view: View) -> argparse.ArgumentParser:
    """A command that lists the answer of the resource with its name."""

    def run(options: argparse.Namespace) -> int:
        api = Api.of(options)
        found = api.get(name)
        with api.reading():
            blocks = list(view(found))
            if getattr(options, "names", False):
                blocks = [Line(each["name"]) for each in found["models"]]
        show(options.output, found, lambda: blocks)
        return 0

    parser = command(shown, name, run, f"show {text}")
    gateway_options(parser)
    output_option(parser)
    return parser


def _models(found: Data) -> Iterator[Block]:
    rows = []
    for each in found["models"]:
        canaries = [f"{canary['version']} {canary['percent']:g} %" for canary in each["canaries"]]
        rows.append(
            Row((
                each["name"], each["type"] or "-", each["stable"], ", ".join(each["versions"]),
                ", ".join(canaries) or "-",
            ))
        )  # fmt: skip
    yield Table(("MODEL", "TYPE", "STABLE", "VERSIONS", "CANARIES"), rows)


def _endpoints(found: Data) -> Iterator[Block]:
    rows = []
    for each in found["endpoints"]:
        cells = (f"{each['model']}/{each['version']}", each["address"], str(each["weight"]))
        drains = Cell("yes", "warn") if each["drain"] else "-"
        for seen in each["seen"] or [{"node": None, "state": "unknown", "why": ""}]:
            state = Cell(seen["state"], ENDPOINT_STYLES.get(seen["state"], "bad"))
            rows.append(Row((*cells, drains, state, seen["node"] or "-", seen["why"])))
    columns = ("MODEL/VERSION", "ADDRESS", "WEIGHT", "DRAIN", "STATE", "NODE", "WHY")
    yield Table(columns, rows)


def _videos(found: Data) -> Iterator[Block]:
    yield stream_table(found["streams"])


def _breakers(found: Data) -> Iterator[Block]:
    not_closed = [each for each in found["breakers"] if each["state"] != "closed"]
    closed = len(found["breakers"]) - len(not_closed)
    if found["known"] and not found["breakers"]:
        yield Line("no version has a breaker")
    blocks = breaker_blocks({**found, "closed": closed, "not_closed": not_closed})
    yield from (block for block in blocks if block != Line())
