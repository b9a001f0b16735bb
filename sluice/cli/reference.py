"""Generates the reference page of the command line from the parsers."""

import argparse
from collections.abc import Iterator

from sluice.cli import parser
from sluice.cli.exit_status import ExitStatus

_HEAD = """# Commands

Generated from the command line by `make docs`. Every command has `--help`.

Commands find the gateway by an option such as `--control-plane URL`, else by `--context NAME`, else
by the addresses in CONFIG, else by those in `SLUICE_CONFIG`, else by the current context (`sluice
context use`), else at the default addresses. Errors name the address and where it comes from.

| environment variable | |
|---|---|
| `SLUICE_CONFIG` | Config file of all commands that take a CONFIG and get none. |
| `XDG_CONFIG_HOME` | Folder of `sluice/contexts.yaml`, the contexts; default: `~/.config`. |
| `NO_COLOR` | Without colours. Output that is not a terminal never has colours. |

## Exit status

The numbers never get another meaning. After an error, a line `hint:` says what to do next.

| status | meaning |
|---|---|
"""


def reference() -> str:
    """The page in Markdown."""
    statuses = (f"| {each.value} | {_sentence(each.meaning)} |\n" for each in ExitStatus)
    commands = (_command(name, each) for name, each in _commands("sluice", parser()))
    return _HEAD + "".join(statuses) + "".join(commands)


def _commands(
    prefix: str, command: argparse.ArgumentParser
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command with its whole name. A group stands for its commands."""
    groups = [a for a in command._actions if isinstance(a, argparse._SubParsersAction)]
    for each in groups:
        for name, below in each.choices.items():
            yield from _commands(f"{prefix} {name}", below)
    if not groups:
        yield prefix, command


def _command(name: str, command: argparse.ArgumentParser) -> str:
    usage = " ".join(command.format_usage().removeprefix("usage: ").split())
    lines = [f"\n## `{name}`\n", f"{_sentence(command.description or '')}\n"]
    lines += ["```", usage, "```"]
    shown = (each for each in command._actions if each.help != argparse.SUPPRESS)
    rows = [_row(action) for action in shown if action.dest != "help"]
    if rows:
        lines += ["", "| argument | |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar}`"
    text = _sentence((action.help or "") % vars(action))
    if action.choices:
        text += f" One of {', '.join(map(str, action.choices))}."
    stated = "default" in (action.help or "")
    if action.option_strings and action.default not in (None, False, []) and not stated:
        text += f" Default `{action.default}`."
    return f"| {names} | {text.strip()} |"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


if __name__ == "__main__":
    print(reference(), end="")
