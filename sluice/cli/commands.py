"""What the command modules have in common: how a command is registered, and shared options."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
EXIT_USAGE = 2
"""The config or the command line is wrong, as argparse has it too."""

Run = Callable[[argparse.Namespace], int]


def command(commands: Subcommands, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    """Add a command that `run` carries out; `text` is its one-line help."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def config_argument(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add the positional CONFIG."""
    parser.add_argument(
        "config", metavar="CONFIG", type=Path, nargs=None if required else "?", help="config file"
    )
