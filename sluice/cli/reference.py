"""Generates the reference page of the command line from the parsers."""

import argparse

from sluice.cli import parser

_HEAD = """# Commands

Generated from the command line by `make docs`. Every command has `--help`.

Exit status: 0, the command succeeded; 1, it failed; 2, the config or an argument is not valid.
`sluice explain` also exits with 3: the gateway would refuse the request.

Commands find the gateway by an option such as `--control-plane`, else by the addresses in CONFIG,
else by those in `SLUICE_CONFIG`, else at the default addresses. Errors name the address and where
it comes from.

| environment variable | |
|---|---|
| `SLUICE_CONFIG` | Config file of all commands that take a CONFIG and get none. |
"""


def reference() -> str:
    """The page in Markdown."""
    (commands,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return _HEAD + "".join(_command(name, command) for name, command in commands.choices.items())


def _command(name: str, command: argparse.ArgumentParser) -> str:
    usage = " ".join(command.format_usage().removeprefix("usage: ").split())
    lines = [f"\n## `sluice {name}`\n", f"{_sentence(command.description or '')}\n"]
    lines += ["```", usage, "```"]
    rows = [_row(action) for action in command._actions if action.dest != "help"]
    if rows:
        lines += ["", "| argument | |", "|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar}`"
    text = _sentence(action.help or "")
    if action.choices:
        text += f" One of {', '.join(map(str, action.choices))}."
    if action.option_strings and action.default not in (None, False, []):
        text += f" Default `{action.default}`."
    return f"| {names} | {text.strip()} |"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


if __name__ == "__main__":
    print(reference(), end="")
