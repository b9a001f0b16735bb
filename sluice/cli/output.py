"""Output of commands: tables for people, JSON and YAML for programs.

A command gives its result as data and as a view: lines, fields and tables. On a terminal, rich
prints the view with colours. Elsewhere, the view is plain text in columns. Texts may come from
servers and their clients, so control characters are always escaped.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import yaml

from sluice.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

MAX_LINE = 5000
"""Maximum characters of a printed line or cell: more than a node's reason for a rejection."""

FORMATS = ("table", "json", "yaml")

LABEL = 10
"""Width of the label of a field."""

Style = Literal["", "good", "bad", "warn", "dim"]

_COLOURS: dict[Style, str] = {
    "": "",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "dim": "bright_black",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of text."""

    text: str = ""
    style: Style = ""


@dataclass(frozen=True, slots=True)
class Field:
    """A line that begins with a label."""

    label: str
    text: str
    style: Style = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table with a style."""

    text: str
    style: Style = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table. `notes` are lines below the row."""

    cells: Sequence[str | Cell]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Every row has as many cells as there are columns."""

    columns: Sequence[str]
    rows: Sequence[Row]


Block: TypeAlias = Line | Field | Table
View: TypeAlias = Iterable[Block]


def output_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--output`."""
    parser.add_argument(
        "-o", "--output", choices=FORMATS, default="table",
        help="what to print: a table for people, or JSON or YAML for programs",
    )  # fmt: skip


def show(output_format: str, data: object, view: Callable[[], View]) -> None:
    """Print a result to stdout: `data` as JSON or YAML, or the view."""
    if output_format == "table":
        show_view(view())
    else:
        print(serialized(output_format, data), end="")


def serialized(output_format: str, data: object) -> str:
    """Data as JSON or YAML, in ASCII: no text of another process controls a terminal."""
    if output_format == "json":
        return json.dumps(data, indent=2) + "\n"
    # Through JSON, because YAML would have tags for tuples and subclasses of str.
    text: str = yaml.dump(json.loads(json.dumps(data)), Dumper=_Dumper, sort_keys=False)
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes each text that a reader may take for a number, such as 1e3 and 0o17.

    PyYAML reads YAML 1.1, where these are texts. In YAML 1.2 they are numbers, as for kubectl.
    """


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?0[bBoOxX][0-9a-fA-F_]+$"), list("-+0")
)


def show_view(view: View) -> None:
    """Print a view to stdout."""
    if sys.stdout.isatty():
        terminal().print(rendered(view))
        return
    for line in plain(view):
        print(line, flush=True)


def show_note(text: str) -> None:
    """Print a line about the progress to stderr, so that stdout has only the result."""
    print(printable(text, MAX_LINE), file=sys.stderr)


def at_terminal() -> bool:
    """Whether a person can answer a question of the command."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def terminal(*, stderr: bool = False) -> "Console":
    """The terminal at stdout, or at stderr. rich obeys NO_COLOR and the type of the terminal."""
    # Imported late: most commands of scripts do not need it.
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def rendered(view: View) -> "RenderableType":
    """The view for a terminal."""
    from rich.console import Group

    return Group(*(_rendered(block) for block in view))


def _rendered(block: Block) -> "RenderableType":
    from rich.table import Table as RichTable
    from rich.text import Text

    if isinstance(block, Line):
        return _text(block.text, block.style)
    if isinstance(block, Field):
        label = Text(f"{block.label:<{LABEL}}", "bold")
        return label.append_text(_text(block.text, block.style))
    table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in block.columns:
        table.add_column(column, overflow="fold")
    for row in block.rows:
        *cells, last = (_cell(cell) for cell in row.cells)
        for note in row.notes:
            last.append("\n").append_text(_text(note, "warn"))
        table.add_row(*cells, last)
    return table


def _cell(cell: str | Cell) -> "Text":
    return _text(cell, "") if isinstance(cell, str) else _text(cell.text, cell.style)


def _text(text: str, style: Style) -> "Text":
    from rich.text import Text

    return Text(printable(text, MAX_LINE), _COLOURS[style])


def plain(view: View) -> Iterator[str]:
    """The lines of a view as plain text."""
    for block in view:
        if isinstance(block, Table):
            yield from _plain_table(block)
        else:
            label = f"{block.label:<{LABEL}}" if isinstance(block, Field) else ""
            yield printable(f"{label}{block.text}", MAX_LINE)


def _plain_table(table: Table) -> Iterator[str]:
    rows = [[_plain_cell(cell) for cell in row.cells] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *rows, strict=True)]
    yield _columns(table.columns, widths)
    for row, cells in zip(table.rows, rows, strict=True):
        yield _columns(cells, widths)
        for note in row.notes:
            yield " " * (widths[0] + 2) + printable(note, MAX_LINE)


def _plain_cell(cell: str | Cell) -> str:
    return printable(cell if isinstance(cell, str) else cell.text, MAX_LINE)


def _columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()
