"""Bodies that are a config or a part of it: YAML, JSON, or a JSON merge patch."""

from typing import Final

from pydantic import BaseModel

from sluice.config import ConfigError, Problem
from sluice.config.document import DocumentError, parse
from sluice.config.edit import with_section
from sluice.config.errors import KeyPath
from sluice.config.placeholders import with_secrets
from sluice.config.redaction import REDACTED
from sluice.config.render import render
from sluice.config.validation import shown_path, shown_pointer
from xds.admin.api.json_body import read_json
from xds.admin.api.merge_patch import Data
from xds.admin.api.operations import JSON, MERGE_PATCH, YAML, Body, Call
from xds.admin.api.problems import ProblemError, Reason

CONFIG_TYPES: Final = (YAML, JSON, "text/yaml", "application/x-yaml")
"""RFC 9512 registers `application/yaml`; the others are older names."""

_SECRETS: Final = "A text `(redacted)` stands for the secret in force at the same key."


def whole(schema: type[BaseModel], what: str) -> Body:
    """The body that is a config or a part of it."""
    return Body(CONFIG_TYPES, f"{what}, as YAML or JSON. {_SECRETS}", schema)


def patch(what: str) -> Body:
    """The body that is a patch of a config or of a part of it."""
    description = f"A JSON merge patch (RFC 7396) of {what}: null removes a key. {_SECRETS}"
    return Body((MERGE_PATCH,), description)


def config_text(call: Call) -> str:
    """The body as the text of a config: YAML as it was sent. Raises ProblemError."""
    if call.media_type == JSON:
        return render(read_json(call.body))
    return call.text()


def text_with_secrets(text: str, in_force: BaseModel) -> str:
    """The text of a config with the secrets in force in place of `(redacted)`.

    Only sections with such a place change. Raises ConfigError.
    """
    if REDACTED not in text:
        return text
    try:
        root = parse(text)
    except DocumentError:
        return text
    if root is None or not isinstance(root.data, dict):
        return text
    filled = with_secrets(root.data, in_force)
    assert isinstance(filled, dict)
    for key, data in filled.items():
        if data != root.data[key]:
            text = with_section(text, key, data)
    return text


def part_data(call: Call, path: KeyPath) -> object:
    """The body as the data of the part of the config at a path.

    Raises ProblemError, or ConfigError if it is not valid YAML.
    """
    if call.media_type == JSON:
        return read_json(call.body)
    text = call.text()
    try:
        root = parse(text)
    except DocumentError as error:
        at = (*path, *error.path)
        message = f"{error.message} (line {error.line} of the body)"
        problem = Problem("body", 0, shown_path(at), message, pointer=shown_pointer(at))
        raise ConfigError([problem]) from None
    return None if root is None else root.data


def patch_data(call: Call) -> Data:
    """The body as a patch of a map. Raises ProblemError."""
    value = read_json(call.body)
    if not isinstance(value, dict):
        raise ProblemError(Reason.INVALID_BODY, "a merge patch must be a JSON object")
    return value
