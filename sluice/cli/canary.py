"""`sluice canary`: how many users get a new version of a model."""

import argparse
import json
import re
from collections.abc import Iterator

from sluice.cli.api import Api, Data
from sluice.cli.changes import Edit, change, change_options
from sluice.cli.commands import Subcommands, command, group, shown
from sluice.cli.endpoints import clock_time
from sluice.cli.gateway import gateway_options
from sluice.cli.output import Block, Line, Row, Table, output_option, show
from sluice.cli.targets import version_argument
from sluice.config.values import format_duration

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
    stopped = command(canary, "pause", _pause, "stop the steps of a canary for now")
    resumed = command(canary, "resume", _resume, "let the steps of a canary go on")
    for parser in (stopped, resumed):
        version_argument(parser)
        parser.add_argument("--reason", default="", help="why; the status of the canary shows it")
        gateway_options(parser)
        output_option(parser)


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
    canaries = found["canaries"]
    rows = [
        Row(
            (
                each["model"],
                each["version"],
                f"{each['percent']:g} %",
                each["stable"],
                *_automation(each["automation"]),
            )
        )
        for each in canaries
    ]
    if rows:
        columns = ("MODEL", "CANARY", "PERCENT", "STABLE", "STEP", "LEFT", "STATE")
        yield Table(columns, rows)
    else:
        yield Line("no model has a canary")
    for each in canaries:
        if each["automation"] is not None:
            yield from _details(each, each["automation"])
    for each in found["finished"]:
        yield Line(_told(each, f"{each['state']} {clock_time(each['at'])}"))
        yield Line(f"  {each['reason']}")


def _automation(automation: Data | None) -> tuple[str, str, str]:
    """Step, time left and state."""
    if automation is None:
        return "-", "-", "by hand"
    remaining = automation["remaining"]
    left = "-" if remaining is None else format_duration(round(remaining))
    step = f"{automation['step']} of {len(automation['steps'])}"
    return step, left, automation["state"]


def _details(canary: Data, automation: Data) -> Iterator[Block]:
    steps = ", ".join(
        f"{step['percent']:g} % for {format_duration(step['duration'])}"
        for step in automation["steps"]
    )
    yield Line(_told(canary, steps))
    by = f"{automation['author']} {clock_time(automation['at'])}"
    yield Line(f"  {automation['state']}: {automation['reason']} ({by})")
    if automation["progress"]:
        yield Line(f"  now: {automation['progress']}")


def _told(canary: Data, text: str) -> str:
    return f"{canary['model']}/{canary['version']}: {text}"


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


def _pause(options: argparse.Namespace) -> int:
    return _stop_or_go_on(options, "pause")


def _resume(options: argparse.Namespace) -> int:
    return _stop_or_go_on(options, "resume")


def _stop_or_go_on(options: argparse.Namespace, action: str) -> int:
    api = Api.of(options)
    found = api.send("POST", *_path(options), action, query={"reason": options.reason})
    model, version = options.target
    with api.reading():
        blocks = [Line(f"{model}/{version} is {found['state']}: {found['reason']}")]
    show(options.output, found, lambda: blocks)
    return 0
