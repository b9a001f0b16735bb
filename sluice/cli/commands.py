"""Registers commands, and defines their errors and the arguments that several commands have."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]

EXIT_FAILURE = 1
EXIT_USAGE = 2
"""The config or the command line is not valid; argparse exits with the same status."""


class CommandError(Exception):
    """A command failed. The message is printed after the command's name."""

    status = EXIT_FAILURE


class UsageError(CommandError):
    """An argument is not valid."""

    status = EXIT_USAGE


def command(
    commands: Subcommands, name: str, run: Run, text: str, packages: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Add a command that calls `run`, which returns the exit status; `text` is its help.

    `packages` are top-level packages that `run` imports, and that are checked before it is called.
    """
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run, prog=parser.prog, packages=packages)
    return parser


def config_argument(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the positional CONFIG."""
    parser.add_argument(
        "config", metavar="CONFIG", type=Path, nargs=None if required else "?", help="config file"
    )
