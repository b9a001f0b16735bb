"""`sluice context`: the gateways of this user, by name."""

import argparse
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from sluice.cli.commands import Subcommands, UsageError, command, group
from sluice.cli.contexts import (
    URL_REMEDY,
    Context,
    contexts_file,
    find_context,
    is_url,
    read_contexts,
    write_contexts,
)
from sluice.cli.output import Block, Cell, Line, Row, Table, output_option, show, show_note
from sluice.config.addresses import is_local
from sluice.config.values import Name

_FILES = {
    "--token-file": "file with the bearer token, one line",
    "--ca": "certificates that verify the server; default: those of the system",
    "--certificate": "certificate of this client",
    "--key": "private key of this client's certificate",
}


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    contexts = group(commands, "context", "name gateways, and choose one for other commands")
    shown = command(contexts, "list", _list, "list the gateways, and mark the current one")
    output_option(shown)
    shown.add_argument("--names", action="store_true", help="print only the names, one a line")
    used = command(contexts, "use", _use, "make a gateway the current one")
    _name_argument(used)
    added = command(contexts, "add", _add, "add a gateway; the first one becomes the current one")
    _name_argument(added)
    added.add_argument("url", metavar="URL", type=_url, help="URL of the control plane")
    for option, text in _FILES.items():
        added.add_argument(option, metavar="FILE", type=Path, help=text)
    added.add_argument(
        "--replace", action="store_true", help="replace a gateway that has this name"
    )
    removed = command(contexts, "remove", _remove, "remove a gateway")
    _name_argument(removed)


def _name_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("context", metavar="NAME", type=_name, help="name of the gateway")


def _name(text: str) -> str:
    try:
        return TypeAdapter[str](Name).validate_python(text)
    except ValidationError as error:
        raise argparse.ArgumentTypeError(error.errors()[0]["msg"]) from None


def _url(text: str) -> str:
    if not is_url(text):
        raise argparse.ArgumentTypeError(URL_REMEDY)
    return text


def _list(options: argparse.Namespace) -> int:
    found = read_contexts()
    if options.names:
        for name in found.contexts:
            print(name)
        return 0
    rows = [
        Row((
            Cell("*" if name == found.current else "", "good"), name, each.url,
            each.token_file or "-", each.ca or "-",
        ))
        for name, each in found.contexts.items()
    ]  # fmt: skip

    def view() -> list[Block]:
        if not rows:
            return [Line(f"no contexts in {contexts_file()}")]
        return [Table(("", "NAME", "URL", "TOKEN FILE", "CA"), rows)]

    show(options.output, found.model_dump(), view)
    return 0


def _use(options: argparse.Namespace) -> int:
    found = read_contexts()
    find_context(found, options.context)
    write_contexts(found.model_copy(update={"current": options.context}))
    show_note(f"commands now ask {found.contexts[options.context].url}")
    return 0


def _add(options: argparse.Namespace) -> int:
    found = read_contexts()
    if options.context in found.contexts and not options.replace:
        raise UsageError(f"the context {options.context} exists", hint="replace it with --replace")
    if options.key is not None and options.certificate is None:
        raise UsageError("--key needs --certificate")
    url = urlsplit(options.url)
    if options.token_file is not None and url.scheme != "https" and not is_local(url.hostname):
        raise UsageError("a token needs a URL that begins with https: it would cross the network")
    context = Context(
        url=options.url.rstrip("/"),
        token_file=_absolute(options.token_file),
        ca=_absolute(options.ca),
        certificate=_absolute(options.certificate),
        key=_absolute(options.key),
    )
    contexts = {**found.contexts, options.context: context}
    current = found.current or options.context
    write_contexts(found.model_copy(update={"current": current, "contexts": contexts}))
    if current != options.context:
        show_note(f"use it with --context NAME, or: sluice context use {options.context}")
    return 0


def _absolute(file: Path | None) -> str | None:
    return None if file is None else str(file.expanduser().absolute())


def _remove(options: argparse.Namespace) -> int:
    found = read_contexts()
    find_context(found, options.context)
    contexts = {name: each for name, each in found.contexts.items() if name != options.context}
    current = None if found.current == options.context else found.current
    write_contexts(found.model_copy(update={"current": current, "contexts": contexts}))
    return 0
