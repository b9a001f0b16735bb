"""`sluice history` and `sluice rollback`: the revisions of the config."""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime

from sluice.cli.api import Api, Data
from sluice.cli.changes import (
    MAX_REVISION,
    Edit,
    change_if_confirmed,
    change_options,
    listed_changes,
)
from sluice.cli.commands import Subcommands, command
from sluice.cli.gateway import gateway_options
from sluice.cli.numbers import whole_number
from sluice.cli.output import Block, Field, Line, Row, Table, output_option, show

MAX_LISTED = 1000


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    history = command(
        commands, "history", _history, "list the revisions of the config, or show what one changed"
    )
    _revision_argument(history, "show what this revision changed", nargs="?")
    history.add_argument(
        "--from", dest="base", metavar="REVISION", type=whole_number(1, MAX_REVISION),
        help="with a REVISION: compare with this one; default: the one before",
    )  # fmt: skip
    history.add_argument(
        "--limit", metavar="NUMBER", type=whole_number(1, MAX_LISTED), default=20,
        help="maximum number of revisions; default: %(default)s",
    )  # fmt: skip
    history.add_argument(
        "--before", metavar="REVISION", type=whole_number(1, MAX_REVISION),
        help="list only revisions before this one",
    )  # fmt: skip
    gateway_options(history)
    output_option(history)
    rollback = command(
        commands, "rollback", _roll_back,
        "put the config of an earlier revision into force, as a new revision",
    )  # fmt: skip
    _revision_argument(rollback, "the revision to restore")
    change_options(rollback, asks=True)


def _revision_argument(
    parser: argparse.ArgumentParser, text: str, nargs: str | None = None
) -> None:
    parser.add_argument(
        "revision", metavar="REVISION", nargs=nargs, type=whole_number(1, MAX_REVISION), help=text
    )


def _history(options: argparse.Namespace) -> int:
    api = Api.of(options)
    if options.revision is not None:
        return _show_revision(api, options)
    found = api.get("history", limit=options.limit, before=options.before)
    with api.reading():
        blocks = list(_revisions(found))
    show(options.output, found, lambda: blocks)
    return 0


def _revisions(found: Data) -> Iterator[Block]:
    columns = ("REVISION", "TIME", "AUTHOR", "ORIGIN", "NODES", "VERSION", "REASON")
    yield Table(columns, [_row(each) for each in found["revisions"]])


def _row(revision: Data) -> Row:
    return Row((
        str(revision["revision"]), _time(revision["at"]), revision["author"], revision["origin"],
        _nodes(revision), revision["version"], revision["reason"] or "-",
    ))  # fmt: skip


def _nodes(revision: Data) -> str:
    """The share of the Envoys that got the revision first."""
    return "-" if revision["nodes"] is None else f"{100 * revision['nodes']:g}%"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _show_revision(api: Api, options: argparse.Namespace) -> int:
    number = str(options.revision)
    revision = api.get("history", number)
    query = {} if options.base is None else {"from": options.base}
    difference = api.get("history", number, "diff", **query)
    del revision["config"]
    with api.reading():
        blocks = [
            Field("revision", number),
            Field("time", _time(revision["at"])),
            *(Field(each, revision[each]) for each in ("author", "origin", "version", "reason")),
            Line(),
            *listed_changes(difference),
        ]
    show(options.output, {**revision, **difference}, lambda: blocks)
    return 0


def _roll_back(options: argparse.Namespace) -> int:
    given = {"revision": options.revision, "reason": options.reason or ""}
    edit = Edit("POST", ("rollback",), json.dumps(given).encode())
    return change_if_confirmed(Api.of(options), options, edit)
