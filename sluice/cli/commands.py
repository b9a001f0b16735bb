"""Adds commands to the parser; the files that arguments name; errors of commands."""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NoReturn, TypeAlias

from sluice.cli.exit_status import ExitStatus
from sluice.config.files import read_file
from sluice.near_names import did_you_mean
from sluice.printable import printable

Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """Parser whose errors say what to write, and suggest similar names."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit."""
        super().error(error_text(message))

    # The types in argparse are overloads for namespaces of other classes.
    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the arguments. An unknown option is the first error that is reported."""
        arguments = sys.argv[1:] if args is None else list(args)
        self._check_options(self._own(arguments))
        return super().parse_known_args(arguments, namespace)

    def _own(self, arguments: Sequence[str]) -> Iterable[str]:
        """The arguments that may be options of this parser: those before the command."""
        return takewhile(lambda each: each.startswith("-"), arguments)

    def _check_options(self, arguments: Iterable[str]) -> None:
        """Ends with an error for an unknown option, also if a required argument is missing."""
        known = [option for action in self._actions for option in action.option_strings]
        for argument in takewhile(lambda each: each != "--", arguments):
            if not _OPTION.fullmatch(argument):
                continue
            # A long option may be abbreviated; a short option may be followed by its value.
            name = argument.partition("=")[0] if argument.startswith("--") else argument[:2]
            if not any(each.startswith(name) for each in known):
                self.error(f"unknown option {shown(name)}{did_you_mean(name, known)}")


class CommandParser(Parser):
    """Parser of one command. Arguments may stand between options, as in curl.

    After `--`, everything is an argument. All arguments of such a command line come together,
    because argparse loses `--` when it looks for arguments between options.
    """

    _intermixed = False
    _is_group = False
    """Whether the command only groups others, such as `sluice canary`."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse options and arguments. Ends with an error if arguments remain."""
        arguments = sys.argv[1:] if args is None else list(args)
        if self._intermixed or self._is_group:
            return super().parse_known_args(arguments, namespace)
        if "--" in arguments:
            found, unknown = super().parse_known_args(arguments, namespace)
        else:
            found, unknown = self._parse_intermixed(arguments, namespace)
        unexpected = [argument for argument in unknown if argument != "--"]
        if unexpected:
            self.error(f"unexpected argument {shown(unexpected[0])}")
        return found, []

    def group(self) -> Subcommands:
        """Make this command a group of commands, and return it to add them."""
        self._is_group = True
        return self.add_subparsers(
            title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
        )

    def _parse_intermixed(
        self, arguments: Sequence[str], namespace: argparse.Namespace | None
    ) -> tuple[argparse.Namespace, list[str]]:
        self._check_options(arguments)
        # `parse_known_intermixed_args` calls `parse_known_args`.
        self._intermixed = True
        try:
            return self.parse_known_intermixed_args(arguments, namespace)
        finally:
            self._intermixed = False

    def _own(self, arguments: Sequence[str]) -> Iterable[str]:
        if self._is_group:
            return super()._own(arguments)
        # The second pass of `parse_known_intermixed_args` gets only the rest of the arguments.
        return () if self._intermixed else arguments


def error_text(message: str) -> str:
    """An error of argparse, as a sentence that says what to write."""
    choice = _WRONG_CHOICE.fullmatch(message)
    if choice is not None:
        options = re.findall(r"[^\s',]+", choice["options"])
        what = "command" if choice["argument"] == "COMMAND" else f"value of {choice['argument']}"
        hint = did_you_mean(choice["value"], options)
        return (
            f"unknown {what} {shown(choice['value'])}{hint or ';'} choose from {', '.join(options)}"
        )
    return message.removeprefix("argument ")


def shown(argument: str) -> str:
    """An argument in an error."""
    return printable(argument, MAX_SHOWN)


_WRONG_CHOICE = re.compile(
    r"argument (?P<argument>\S+): invalid choice: '(?P<value>.*)' \(choose from (?P<options>.*)\)",
    re.DOTALL,
)
_OPTION = re.compile(r"-(?![0-9.])[^\s]+")
"""An argument that argparse takes as an option: not a negative number, nor text with a blank."""

MAX_SHOWN = 100
"""Characters of an argument that an error shows."""


class CommandError(Exception):
    """A command failed. `main` prints the name of the command, this message and the hint.

    `hint` says what to do next: a command to run, or a setting to change.
    """

    status: int = ExitStatus.FAILED

    def __init__(
        self, message: object, *, hint: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(str(message))
        self.hint = hint
        if status is not None:
            self.status = status


class UsageError(CommandError):
    """An argument is not valid."""

    status = ExitStatus.USAGE


def command(
    commands: Subcommands, name: str, run: Run, help_text: str, packages: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """Add a command. `run` executes the command and returns the exit status.

    `packages` are top-level packages that `run` imports. `main` checks them before it calls `run`.
    """
    parser = commands.add_parser(name, help=help_text, description=help_text)
    parser.set_defaults(run=run, prog=parser.prog, packages=packages)
    return parser


def group(commands: Subcommands, name: str, help_text: str) -> Subcommands:
    """Add a command that groups others, such as `sluice canary`, and return it to add them."""
    parser = commands.add_parser(name, help=help_text, description=help_text)
    assert isinstance(parser, CommandParser)
    return parser.group()


def read_argument(file: Path, maximum: int) -> bytes:
    """The content of a file that an argument names. Raises CommandError."""
    try:
        return read_file(file, maximum)
    except OSError as error:
        raise CommandError(f"{file}: the file cannot be read: {error.strerror}") from error
