"""The text of validation errors: the key and the rule, but no value that may be a secret.

Errors in a `Confidential` section never show a value, nor a key that the schema does not define: in
`sha256:KEY`, where a blank is missing, YAML reads the secret as a part of the key. Errors in other
sections show numbers and text, but no map and no list, because these may contain such a section.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import get_args, get_origin

from pydantic_core import ErrorDetails

from sluice.config.errors import KeyPath
from sluice.config.gateway import GatewayConfig
from sluice.config.schema import Section, is_section, section_at
from sluice.config.values import Confidential

HIDDEN = "…"
"""Shown in place of a key that may be a secret, or that is no plain name."""

MAX_SHOWN_KEYS = 16
"""Keys of a path that an error shows. Only rate limit descriptors are nested deeper."""

MAX_VALUE = 80
"""Characters of an invalid value that an error shows."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
_KEY_OF_MAP = "[key]"
"""Pydantic appends this to the path of a key that is not valid itself."""


def location(detail: ErrorDetails) -> KeyPath:
    """The key path of an error."""
    return tuple(part for part in detail["loc"] if part != _KEY_OF_MAP)


def shown_path(path: KeyPath, root: Section = GatewayConfig) -> str:
    """A key path as text, such as `auth.issuers.0.leeway`."""
    keys = [key for key, _ in _walk(path[:MAX_SHOWN_KEYS], root)]
    return ".".join([*keys, HIDDEN] if len(path) > MAX_SHOWN_KEYS else keys)


def error_message(detail: ErrorDetails, root: Section = GatewayConfig) -> str:
    """The message of a Pydantic error, with the invalid value if it cannot be a secret."""
    path = location(detail)
    if detail["type"] == "extra_forbidden":
        return _unknown_key(path, root)
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if detail["type"] in ("missing", "value_error"):
        return message
    return message + _value(detail, _is_confidential(path, root))


def _value(detail: ErrorDetails, confidential: bool) -> str:
    """The invalid value, or its type if the type is the error."""
    value, is_type_error = detail["input"], detail["type"].endswith("_type")
    expects_collection = detail["type"] in ("model_type", "dict_type", "tuple_type")
    if isinstance(value, dict | list | tuple) or confidential or expects_collection:
        return f", not {_kind(value)}" if is_type_error else ""
    text = repr(value)
    return f", not {text if len(text) < MAX_VALUE else text[: MAX_VALUE - 3] + '...'}"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    return "text" if isinstance(value, str) else "a number or a boolean"


def _unknown_key(path: KeyPath, root: Section) -> str:
    allowed = sorted(section_at(path[:-1], root).model_fields)
    close = get_close_matches(str(path[-1]), allowed, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"unknown key; {hint}allowed keys: {', '.join(allowed)}"


def _is_confidential(path: KeyPath, root: Section) -> bool:
    return _holds_secrets(root) or any(secret for _, secret in _walk(path, root))


def _walk(path: KeyPath, root: Section) -> Iterator[tuple[str, bool]]:
    """Each key as text, and whether its value is in a confidential section."""
    annotation: object = root
    confidential = _holds_secrets(root)
    for key in path:
        known = is_section(annotation) and key in annotation.model_fields
        plain = isinstance(key, int) or _PLAIN_KEY.fullmatch(key) is not None
        annotation = _value_type(annotation, key)
        text = str(key) if known or isinstance(key, int) or (plain and not confidential) else HIDDEN
        confidential = confidential or _holds_secrets(annotation)
        yield text, confidential


def _holds_secrets(annotation: object) -> bool:
    return is_section(annotation) and issubclass(annotation, Confidential)


def _value_type(annotation: object, key: str | int) -> object:
    """The type of the value at a key of a section, map or list; None if there is none."""
    if is_section(annotation):
        field = annotation.model_fields.get(str(key))
        return None if field is None else _bare(field.annotation)
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return _bare(arguments[1])
    return _bare(arguments[0]) if get_origin(annotation) is tuple else None


def _bare(annotation: object) -> object:
    """The type without `Annotated` and without `None`."""
    while not is_section(annotation) and get_origin(annotation) not in (dict, tuple):
        inner = [each for each in get_args(annotation) if each is not type(None)]
        if not inner:
            break
        annotation = inner[0]
    return annotation
