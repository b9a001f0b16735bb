"""Changes of the config through the admin API: shows them, asks, makes them, and waits."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import yaml

from sluice.cli.api import JSON, Api, Data
from sluice.cli.commands import CommandError
from sluice.cli.convergence import add_wait_options, wait_for_nodes
from sluice.cli.exit_status import ExitStatus
from sluice.cli.gateway import gateway_options
from sluice.cli.numbers import share, whole_number
from sluice.cli.output import Block, Field, Line, Style, at_terminal, output_option, show

MAX_LINES: Final = 200
"""Lines of one value that a person gets to see. `--output json` has all."""

MAX_REVISION: Final = 2**53


@dataclass(frozen=True, slots=True)
class Edit:
    """A request that changes the config: method, path below `/v1`, and body."""

    method: str
    path: tuple[str, ...]
    body: bytes | None = field(default=None, repr=False)
    media_type: str = JSON

    def send(
        self, api: Api, options: argparse.Namespace, *, dry_run: bool, base: int | None
    ) -> Data:
        """Make the change, or only check it. `base`: the revision that it must be based on."""
        query = {
            "dry_run": dry_run,
            "reason": options.reason,
            "nodes": options.nodes,
            "allow_disruption": options.allow_disruption or None,
            "strict": options.strict or None,
        }
        return api.send(
            self.method, *self.path, body=self.body, media_type=self.media_type, query=query,
            if_match=base,
        )  # fmt: skip


def change_options(parser: argparse.ArgumentParser, *, asks: bool = False) -> None:
    """Add the options of all commands that change the config. `asks`: the command asks first."""
    gateway_options(parser)
    output_option(parser)
    parser.add_argument("--reason", metavar="TEXT", help="why; the history shows it")
    parser.add_argument(
        "--if-version", metavar="REVISION", type=whole_number(1, MAX_REVISION),
        help="change the config only if this revision is still the last one",
    )  # fmt: skip
    parser.add_argument(
        "--nodes", metavar="SHARE", type=share,
        help="give the change to this share of the Envoys first, such as 10%%, and to the others "
        "when these are healthy; default: `rollout.nodes` of the config",
    )  # fmt: skip
    strict_option(parser)
    parser.add_argument(
        "--allow-disruption", action="store_true",
        help="change the config also if this would cut off clients",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="check and show the changes, and do not make them"
    )
    if asks:
        parser.add_argument(
            "-y", "--yes", action="store_true",
            help="do not ask; without a terminal, the command never asks",
        )  # fmt: skip
    add_wait_options(parser)


def strict_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that has the real Envoy check a config."""
    parser.add_argument(
        "--strict", action="store_true",
        help="let the Envoy beside the control plane check the config too",
    )  # fmt: skip


def change(api: Api, options: argparse.Namespace, edit: Edit) -> int:
    """Make a change, and show what it has changed. Raises CommandError."""
    made = edit.send(api, options, dry_run=options.dry_run, base=options.if_version)
    return _finish(api, options, made)


def change_if_confirmed(api: Api, options: argparse.Namespace, edit: Edit) -> int:
    """Show what a change does, ask, and make it. Raises CommandError."""
    proposed = edit.send(api, options, dry_run=True, base=options.if_version)
    with api.reading():
        unchanged, base = not proposed["changes"], int(proposed["revision"])
        shown = list(change_blocks(proposed))
    if options.dry_run or unchanged:
        return _finish(api, options, {**proposed, "dry_run": options.dry_run})
    if options.output == "table":
        show("table", proposed, lambda: shown)
    if not options.yes:
        _confirm()
    # Only what has been shown is changed: if the config has changed meanwhile, it is a conflict.
    made = edit.send(api, options, dry_run=False, base=base)
    return _finish(api, options, made, changes_shown=True)


def _confirm() -> None:
    """Ask the person at the terminal, if there is one. Raises CommandError for a no."""
    if not at_terminal():
        return
    print("make these changes? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("nothing has changed", hint="answer y, or use --yes")


def _finish(
    api: Api, options: argparse.Namespace, made: Data, *, changes_shown: bool = False
) -> int:
    """Show the result of a change, and wait for the nodes if the options say so."""
    with api.reading():
        revision, version = int(made["revision"]), str(made["version"])
        blocks = [] if changes_shown else list(change_blocks(made))
        blocks.append(_summary(made, revision, version))
    show(options.output, made, lambda: blocks)
    if options.wait and not made["dry_run"]:
        return wait_for_nodes(api, revision, version, options.timeout)
    return ExitStatus.OK


def _summary(made: Data, revision: int, version: str) -> Block:
    if made["dry_run"]:
        return Line(f"not changed (dry run); version {version} is valid, on revision {revision}")
    if not made["changes"]:
        return Line(f"nothing to change: revision {revision}, version {version}")
    return Line(f"revision {revision}, version {version}", "good")


def change_blocks(difference: Data) -> Iterator[Block]:
    """The changes and the warnings of a candidate."""
    yield from listed_changes(difference)
    for warning in difference["warnings"]:
        key = f"{warning['key']}: " if warning["key"] else ""
        yield Field("warning", f"{key}{warning['detail']} [{warning['code']}]", "warn")


def listed_changes(difference: Data) -> Iterator[Block]:
    """Each changed key, with its old and its new value."""
    for each in difference["changes"]:
        yield from _change(str(each["path"]) or "/", each["old"], each["new"])
    if difference["omitted"]:
        yield Line(f"and {difference['omitted']} more changes", "dim")


def _change(path: str, old: object, new: object) -> Iterator[Block]:
    if old is None:
        yield from _value("+", path, new, "good")
    elif new is None:
        yield from _value("-", path, old, "bad")
    elif _is_short(old) and _is_short(new):
        yield Line(f"~ {path}: {_short(old)} -> {_short(new)}", "warn")
    else:
        yield from _value("-", path, old, "bad")
        yield from _value("+", path, new, "good")


def _value(sign: str, path: str, value: object, style: Style) -> Iterator[Block]:
    if _is_short(value):
        yield Line(f"{sign} {path}: {_short(value)}", style)
        return
    yield Line(f"{sign} {path}:", style)
    lines = yaml.safe_dump(value, sort_keys=False).splitlines()
    for line in lines[:MAX_LINES]:
        yield Line(f"{sign}   {line}", style)
    if len(lines) > MAX_LINES:
        yield Line(f"{sign}   ({len(lines) - MAX_LINES} more lines)", style)


def _is_short(value: object) -> bool:
    return not value or not isinstance(value, dict | list)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) and value else json.dumps(value)
