"""Adds commands to the parser; the files that arguments name; errors of commands."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from sluice.config.files import read_file

Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]

EXIT_FAILURE = 1
EXIT_USAGE = 2
"""The config or the command line is not valid; argparse exits with the same status."""


class CommandParser(argparse.ArgumentParser):
    """Parser of one command. Arguments may stand between options, as in curl."""

    _intermixed = False

    # The types in argparse are overloads for namespaces of other classes.
    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse options first, and then the arguments between them."""
        if self._intermixed:
            return super().parse_known_args(args, namespace)
        # `parse_known_intermixed_args` calls this method.
        self._intermixed = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False


class CommandError(Exception):
    """A command failed. `main` prints the name of the command and this message."""

    status = EXIT_FAILURE


class UsageError(CommandError):
    """An argument is not valid."""

    status = EXIT_USAGE


def command(
    commands: Subcommands, name: str, run: Run, help_text: str, packages: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Add a command. `run` executes the command and returns the exit status.

    `packages` are top-level packages that `run` imports. `main` checks them before it calls `run`.
    """
    parser = commands.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(run=run, prog=parser.prog, packages=packages)
    return parser


def read_argument(file: Path, maximum: int) -> bytes:
    """The content of a file that an argument names. Raises CommandError."""
    try:
        return read_file(file, maximum)
    except OSError as error:
        raise CommandError(f"{file}: the file cannot be read: {error.strerror}") from error
