"""`sluice completion`: completes commands, options and their values in a shell."""

import argparse
from pathlib import Path

from sluice.cli.commands import Subcommands, command

_CONTEXTS = "$(sluice context list --names 2>/dev/null)"

_NAMES = {
    "bash": f'_sluice_contexts() {{ compgen -W "{_CONTEXTS}" -- "$1"; }}',
    "zsh": f'_sluice_contexts() {{ compadd -- ${{(f)"{_CONTEXTS}"}} }}',
}
"""Functions that complete names which change, by shell."""


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    completion = command(
        commands,
        "completion",
        _completion,
        "print the script that completes commands, options and values in a shell",
    )
    completion.add_argument("shell", metavar="SHELL", choices=tuple(_NAMES), help="the shell")


def _completion(options: argparse.Namespace) -> int:
    # Imported late: no other command needs it.
    import shtab

    _complete_values(options.root)
    print(shtab.complete(options.root, shell=options.shell, preamble=_NAMES[options.shell]))
    return 0


def _complete_values(parser: argparse.ArgumentParser) -> None:
    """Complete the names of files and contexts. shtab completes choices by itself."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                _complete_values(each)
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif "--context" in action.option_strings or action.dest == "context":
            action.complete = dict.fromkeys(_NAMES, "_sluice_contexts")  # type: ignore[attr-defined]
