"""`sluice init` and `sluice docs`: the demo config to edit, and the documentation."""

import argparse
import sys
from difflib import get_close_matches
from pathlib import Path

from sluice import demo
from sluice.cli.commands import CommandError, Subcommands, UsageError, command
from sluice.cli.numbers import whole_number
from sluice.data import data_path
from sluice.demo import DemoExistsError, copy_demo
from sluice.devkeys import DevKeys

_MAX_PORT = 65535


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    init = command(
        commands, "init", _init, "write the demo config and requests to try it, for you to edit"
    )
    init.add_argument(
        "folder", metavar="FOLDER", type=Path, nargs="?", default=demo.FOLDER,
        help=f"folder of the files; default: {demo.FOLDER}",
    )  # fmt: skip
    init.add_argument(
        "--port", type=whole_number(1, _MAX_PORT - demo.PORTS), metavar="PORT",
        help=f"the gateway's port, followed by up to {demo.PORTS - 1} ports for its other "
        "processes; default: the ports of the documentation",
    )  # fmt: skip
    docs = command(commands, "docs", _docs, "list the pages of the documentation, or print one")
    docs.add_argument("page", metavar="PAGE", nargs="?", help="page to print, such as configure")


def write_demo(folder: Path, port: int | None = None) -> None:
    """Write the files of the demo and the development key, and print where they are.

    Raises CommandError if a file exists, and OSError.
    """
    try:
        keys = DevKeys.default()
        keys.ensure()
        paths = copy_demo(folder, keys.jwks, port)
    except DemoExistsError as error:
        raise CommandError(f"{error}: give another FOLDER") from error
    for path in paths:
        print(f"wrote {path}", file=sys.stderr)


def _init(options: argparse.Namespace) -> int:
    write_demo(options.folder, options.port)
    config = options.folder / demo.CONFIG
    print(f"start it with: sluice up --demo {config}", file=sys.stderr)
    return 0


def _docs(options: argparse.Namespace) -> int:
    pages = _pages()
    if options.page is None:
        width = max(map(len, pages))
        for name, path in pages.items():
            print(f"{name:<{width}}  {_title(path)}")
        print(f"\nThe files are in {data_path('docs')}; print one with: sluice docs PAGE")
        return 0
    name = options.page.removeprefix("docs/").removesuffix(".md")
    if name not in pages:
        near = get_close_matches(name, pages, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"no page {options.page}; {hint}`sluice docs` lists all pages")
    print(pages[name].read_text(), end="")
    return 0


def _pages() -> dict[str, Path]:
    """The pages of the documentation by name, in the order in which a new user reads them."""
    docs = data_path("docs")
    first = "get-started"
    pages = {
        first: docs / f"{first}.md",
        "README": data_path("README.md"),
        "examples": data_path("examples") / "README.md",
    }
    for path in sorted(docs.rglob("*.md"), key=lambda path: (len(path.parts), path.name)):
        pages[str(path.relative_to(docs).with_suffix(""))] = path
    return pages


def _title(page: Path) -> str:
    return page.read_text().partition("\n")[0].removeprefix("# ")
