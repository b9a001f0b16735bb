"""Contexts: named gateways with their URL and credentials, in a file of this user.

The file has the names of token files, never a token.
"""

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator

from sluice.cli.commands import UsageError
from sluice.config.document import DocumentError, parse
from sluice.config.files import UnusableFileError, read_named_file
from sluice.config.validation import error_message
from sluice.config.values import FilePath, Name, Strict
from sluice.http.credentials import Credentials
from sluice.near_names import did_you_mean
from sluice.output import replace_file

MAX_FILE = 1 << 20
"""Bytes of the file."""

URL_REMEDY: Final = "write a URL such as http://127.0.0.1:8081"


class Context(Strict):
    """One gateway. File names are absolute, or begin with `~`."""

    url: str
    token_file: FilePath | None = None
    ca: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None

    @field_validator("url")
    @classmethod
    def _check_url(cls, text: str) -> str:
        if not is_url(text):
            raise ValueError(URL_REMEDY)
        return text

    @property
    def credentials(self) -> Credentials:
        """The credentials for the gateway."""
        names = (self.token_file, self.ca, self.certificate, self.key)
        token, ca, certificate, key = (
            None if name is None else Path(name).expanduser() for name in names
        )
        return Credentials(token, ca, certificate, key)


class Contexts(Strict):
    """The content of the file. `current` is the context of commands that name none."""

    current: Name | None = None
    contexts: dict[Name, Context] = Field(default_factory=dict)


def is_url(text: str) -> bool:
    """Whether the text is the URL of a server, without credentials."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        return False
    return (
        url.scheme in ("http", "https")
        and bool(url.hostname)
        and port != 0
        and url.username is None
        and not (url.query or url.fragment)
        and text.isprintable()
        and " " not in text
    )


def contexts_file() -> Path:
    """The file: `$XDG_CONFIG_HOME/sluice/contexts.yaml`.

    As the XDG specification says, a relative path is ignored; the default is `~/.config`. Raises
    UsageError if this user has no home, such as in a container.
    """
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    try:
        folder = base if base.is_absolute() else Path.home() / ".config"
    except RuntimeError:
        raise UsageError(
            "this user has no home folder for contexts: set XDG_CONFIG_HOME to a folder that you "
            "can write"
        ) from None
    return folder / "sluice" / "contexts.yaml"


def read_contexts() -> Contexts:
    """The contexts of this user; none without a file or a home. Raises CommandError."""
    try:
        file = contexts_file()
    except UsageError:
        return Contexts()
    # Also false if this user may not enter the home folder, which may be that of another one.
    if not os.access(file, os.F_OK):
        return Contexts()
    try:
        root = parse(read_named_file(file, MAX_FILE).decode())
        return Contexts.model_validate((root.data if root is not None else None) or {})
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(map(str, detail["loc"]))
        problem = f"{key}: {error_message(detail, Contexts)}"
    except (DocumentError, UnusableFileError, UnicodeDecodeError) as error:
        problem = str(error)
    raise UsageError(f"{file}: {problem}", hint=f"correct {file}, or remove it")


def write_contexts(contexts: Contexts) -> None:
    """Write the file in one step. Raises OSError."""
    content = yaml.safe_dump(contexts.model_dump(exclude_none=True), sort_keys=False)
    replace_file(contexts_file(), content.encode())


def find_context(contexts: Contexts, name: str) -> Context:
    """The context with a name. Raises CommandError."""
    found = contexts.contexts.get(name)
    if found is None:
        near = did_you_mean(name, contexts.contexts) or ""
        raise UsageError(
            f"no context {name}{near}",
            hint="`sluice context list` lists the contexts; `sluice context add` adds one",
        )
    return found
