"""`sluice apply` and `sluice diff`: put a config file into force, or compare it."""

import argparse
import sys
from pathlib import Path

from sluice.cli.api import YAML, Api
from sluice.cli.changes import (
    Edit,
    change_blocks,
    change_if_confirmed,
    change_options,
    strict_option,
)
from sluice.cli.commands import CommandError, Subcommands, command, read_argument
from sluice.cli.exit_status import ExitStatus
from sluice.cli.gateway import gateway_options
from sluice.cli.output import Line, output_option, show
from sluice.config.load import MAX_FILE

STDIN = Path("-")


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    applied = command(
        commands,
        "apply",
        _apply,
        "put a config file into force: shows the changes, asks on a terminal, and makes them",
    )
    _file_option(applied)
    change_options(applied, asks=True)
    compared = command(
        commands, "diff", _diff, "check a config file, and show what it would change"
    )
    _file_option(compared)
    gateway_options(compared)
    output_option(compared)
    strict_option(compared)
    compared.add_argument(
        "--exit-code", action="store_true",
        help=f"exit with {ExitStatus.DIFFERENT.value} if there are changes",
    )  # fmt: skip


def _file_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--file", metavar="FILE", type=Path, required=True,
        help="config file, or - for stdin",
    )  # fmt: skip


def _apply(options: argparse.Namespace) -> int:
    content = _read(options.file)
    if options.file == STDIN and not options.yes and sys.stderr.isatty():
        raise CommandError(
            "stdin is the config, so nobody can answer", hint="use --yes", status=ExitStatus.USAGE
        )
    api = Api.of(options, _name(options.file))
    return change_if_confirmed(api, options, Edit("PUT", ("config",), content, YAML))


def _diff(options: argparse.Namespace) -> int:
    api = Api.of(options, _name(options.file))
    content = _read(options.file)
    query = {"strict": options.strict or None}
    found = api.send("POST", "config", "diff", body=content, media_type=YAML, query=query)
    with api.reading():
        different = bool(found["changes"])
        blocks = list(change_blocks(found))
        if not different:
            blocks.append(Line(f"no changes: revision {found['revision']} has this config"))
    show(options.output, found, lambda: blocks)
    return ExitStatus.DIFFERENT if different and options.exit_code else ExitStatus.OK


def _read(file: Path) -> bytes:
    """The content of the file. Raises CommandError."""
    if file != STDIN:
        return read_argument(file, MAX_FILE)
    content = sys.stdin.buffer.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise CommandError(f"stdin has more than {MAX_FILE >> 20} MiB")
    return content


def _name(file: Path) -> str:
    return "stdin" if file == STDIN else str(file)
