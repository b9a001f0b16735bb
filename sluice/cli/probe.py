"""`sluice probe`, in the parser of all commands. `sluice.cli.main` runs it without this parser."""

from sluice.cli.commands import Subcommands, command
from sluice.probe import DESCRIPTION, add_arguments, run


def register(commands: Subcommands) -> None:
    """Add this module's command."""
    add_arguments(command(commands, "probe", run, DESCRIPTION))
