"""`sluice canary`: how many users get a new version of a model."""

import argparse
import json
import re
from collections.abc import Iterator

from sluice.cli.api import Api, Data
from sluice.cli.changes import Edit, change, change_options
from sluice.cli.commands import Subcommands, command, group, shown
from sluice.cli.gateway import gateway_options
from sluice.cli.output import Block, Line, Row, Table, output_option, show
from sluice.cli.targets import version_argument

_PERCENT = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,2})?", re.ASCII)


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    canary = group(commands, "canary", "move users to a new version of a model, or back")
    status = command(canary, "status", _status, "list the canaries with their percentages")
    gateway_options(status)
    output_option(status)
    started = command(canary, "set", _set, "make a version a canary, or change its percentage")
    version_argument(started)
    started.add_argument(
        "percent", metavar="PERCENT", type=_percent, help="share of the users, from 0 to 100"
    )
    change_options(started)
    promoted = command(
        canary, "promote", _promote, "make a canary the stable version, for all users"
    )
    aborted = command(canary, "abort", _abort, "give all users the stable version again")
    for parser in (promoted, aborted):
        version_argument(parser)
        change_options(parser)


def _percent(text: str) -> float:
    number = text.removesuffix("%")
    if _PERCENT.fullmatch(number) and float(number) <= 100:
        return float(number)
    raise argparse.ArgumentTypeError(
        f"write a number from 0 to 100 with up to two decimals, not {shown(text)}"
    )


def _status(options: argparse.Namespace) -> int:
    api = Api.of(options)
    found = api.get("canaries")
    with api.reading():
        blocks = list(_canaries(found))
    show(options.output, found, lambda: blocks)
    return 0


def _canaries(found: Data) -> Iterator[Block]:
    rows = [
        Row((each["model"], each["version"], f"{each['percent']:g} %", each["stable"]))
        for each in found["canaries"]
    ]
    if not rows:
        yield Line("no model has a canary")
        return
    yield Table(("MODEL", "CANARY", "PERCENT", "STABLE"), rows)


def _path(options: argparse.Namespace) -> tuple[str, ...]:
    model, version = options.target
    return ("models", model, "canaries", version)


def _set(options: argparse.Namespace) -> int:
    body = json.dumps({"percent": options.percent}).encode()
    return change(Api.of(options), options, Edit("PUT", _path(options), body))


def _promote(options: argparse.Namespace) -> int:
    return change(Api.of(options), options, Edit("POST", (*_path(options), "promote")))


def _abort(options: argparse.Namespace) -> int:
    return change(Api.of(options), options, Edit("POST", (*_path(options), "abort")))
