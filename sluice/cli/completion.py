"""`sluice completion`: completes commands, options and their values in a shell."""

import argparse
from pathlib import Path

from sluice.cli.commands import Subcommands, command

_LISTS = {
    "_sluice_contexts": "$(sluice context list --names 2>/dev/null)",
    "_sluice_models": "$(sluice get models --names 2>/dev/null)",
}
"""Functions that complete names which change, and the commands that list the names."""

_FUNCTIONS = {
    "bash": '{name}() {{ compgen -W "{names}" -- "$1"; }}\n',
    "zsh": '{name}() {{ compadd -- ${{(f)"{names}"}} }}\n',
}
"""How such a function is written, by shell."""


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    completion = command(
        commands,
        "completion",
        _completion,
        "print the script that completes commands, options and values in a shell",
    )
    completion.add_argument("shell", metavar="SHELL", choices=tuple(_FUNCTIONS), help="the shell")


def _completion(options: argparse.Namespace) -> int:
    # Imported late: no other command needs it.
    import shtab

    _complete_values(options.root)
    function = _FUNCTIONS[options.shell]
    lists = "".join(function.format(name=name, names=names) for name, names in _LISTS.items())
    print(shtab.complete(options.root, shell=options.shell, preamble=lists))
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
        elif action.dest in ("context", "model"):
            name = f"_sluice_{action.dest}s"
            action.complete = dict.fromkeys(_FUNCTIONS, name)  # type: ignore[attr-defined]
