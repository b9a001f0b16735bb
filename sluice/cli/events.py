"""`sluice events`: what happens in a gateway, as it happens."""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Final

from sluice.cli.api import Api, Data
from sluice.cli.commands import CommandError, Subcommands, command
from sluice.cli.endpoints import clock_time
from sluice.cli.exit_status import ExitStatus
from sluice.cli.gateway import gateway_options
from sluice.cli.numbers import whole_number
from sluice.cli.output import Line, Style, output_option, serialized, show, show_note
from sluice.http.events import ServerSentEvent

KINDS: Final = ("revision", "rollout", "nack", "node", "endpoint", "canary")

MISSED: Final = "missed"
"""The kind of the event that says that events are lost."""

MAX_DELAY: Final = 10.0
"""Maximum seconds until the command connects again."""

FIRST_DELAY: Final = 1.0

_STYLES: Final[dict[str, Style]] = {"revision": "good", "nack": "bad", MISSED: "warn"}


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    parser = command(
        commands, "events", _events, "follow what happens in the gateway, until Ctrl-C"
    )
    parser.add_argument(
        "--kind", action="append", choices=KINDS, default=[],
        help="show only events of this kind; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--after", metavar="ID", help="begin after the event with this ID, which -o json shows"
    )
    parser.add_argument(
        "--count", metavar="NUMBER", type=whole_number(1, 2**31),
        help="end after this number of events; default: never",
    )  # fmt: skip
    gateway_options(parser)
    output_option(parser)


def _events(options: argparse.Namespace) -> int:
    api = Api.of(options)
    shown = 0
    for event in _followed(api, options.after):
        if options.kind and event.kind not in (*options.kind, MISSED):
            continue
        with api.reading():
            _show(options.output, event, json.loads(event.data))
        shown += 1
        if shown == options.count:
            break
    return ExitStatus.OK


def _followed(api: Api, last_id: str | None) -> Iterator[ServerSentEvent]:
    """All events. When the connection ends, they go on after the last one that came.

    Raises CommandError if the first connection fails, or if the control plane refuses one.
    """
    connected, retry, delay = False, FIRST_DELAY, FIRST_DELAY
    while True:
        try:
            for event in api.events(last_id):
                connected, last_id = True, event.id or last_id
                retry = delay = min(event.retry or retry, MAX_DELAY)
                if event.data:
                    yield event
        except CommandError as error:
            if not connected or error.status != ExitStatus.NO_CONTROL_PLANE:
                raise
        show_note(f"the connection has ended; connecting again in {delay:g} s")
        time.sleep(delay)
        delay = min(2 * delay, MAX_DELAY)


def _show(output: str, event: ServerSentEvent, data: Data) -> None:
    """Print one event: one line each, except for YAML, which has documents."""
    record = {"id": event.id, "event": event.kind, "data": data}
    if output == "json":
        print(json.dumps(record), flush=True)
    elif output == "yaml":
        print("---\n" + serialized("yaml", record), end="", flush=True)
    else:
        show("table", record, lambda: [Line(_text(event.kind, data), _STYLES.get(event.kind, ""))])


def _text(kind: str, data: Data) -> str:
    if kind == MISSED:
        return "events have been missed: sluice status shows the state"
    members = " ".join(f"{name}={_value(value)}" for name, value in data.items() if name != "at")
    return f"{clock_time(data['at'])}  {kind:<9} {members}"


def _value(value: object) -> str:
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value)
