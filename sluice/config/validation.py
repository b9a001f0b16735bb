"""The text of validation errors: the key and the rule, but no value that may be a secret.

Errors in a `Confidential` section never show a value, nor a key that the schema does not define: in
`sha256:KEY`, where a blank is missing, YAML reads the secret as a part of the key. Errors in other
sections show numbers and text, but no map and no list, because these may contain such a section.
"""

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import get_args, get_origin

from pydantic_core import ErrorDetails

from sluice.config.errors import KeyPath, json_pointer
from sluice.config.gateway import GatewayConfig
from sluice.config.invalid import INVALID
from sluice.config.messages import FieldType, message
from sluice.config.schema import Section, fields, is_section, section_at
from sluice.config.values import Confidential
from sluice.near_names import did_you_mean

HIDDEN = "…"
"""Shown in place of a key that may be a secret, or that is no plain name."""

MAX_SHOWN_KEYS = 16
"""Keys of a path that an error shows. Only rate limit descriptors are nested deeper."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
_KEY_OF_MAP = "[key]"
"""Pydantic appends this to the path of a key that is not valid itself."""


def location(detail: ErrorDetails) -> KeyPath:
    """The key path of an error."""
    path = tuple(part for part in detail["loc"] if part != _KEY_OF_MAP)
    return path + detail["ctx"]["at"] if _is_placed(detail) else path


def shown_path(path: KeyPath, root: Section = GatewayConfig) -> str:
    """A key path as text, such as `auth.issuers.0.leeway`."""
    keys = [key for key, _ in _walk(path[:MAX_SHOWN_KEYS], root)]
    return ".".join([*keys, HIDDEN] if len(path) > MAX_SHOWN_KEYS else keys)


def shown_pointer(path: KeyPath, root: Section = GatewayConfig) -> str:
    """The JSON Pointer of a key path, without the keys from the first one that may be a secret."""
    keys = (key for key, _ in _walk(path[:MAX_SHOWN_KEYS], root))
    return json_pointer(tuple(takewhile(lambda key: key != HIDDEN, keys)))


def error_message(detail: ErrorDetails, root: Section = GatewayConfig) -> str:
    """The message of a Pydantic error: what to write, and the value if it cannot be a secret."""
    path = location(detail)
    if detail["type"] == "extra_forbidden":
        return _unknown_key(path, root)
    return message(detail, _field_type(path, root), confidential=_is_confidential(path, root))


def first_of_clash(detail: ErrorDetails) -> KeyPath | None:
    """The path of the other key of a clash; None if the error is no clash."""
    first: KeyPath | None = detail.get("ctx", {}).get("first") if _is_placed(detail) else None
    return None if first is None else (*detail["loc"], *first)


def booleans_as_numbers(data: object) -> Iterator[KeyPath]:
    """The booleans where the schema has a number: Pydantic would read `true` as 1."""
    for path in _booleans(data, ()):
        annotation: object = GatewayConfig
        for key in path:
            annotation = _value_type(annotation, key)
        if annotation in (int, float):
            yield path


def _booleans(data: object, path: KeyPath) -> Iterator[KeyPath]:
    """The paths of all booleans. The data has a bounded depth (`MAX_DEPTH`)."""
    if isinstance(data, bool):
        yield path
    elif isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            if isinstance(value, bool | dict | list):
                yield from _booleans(value, (*path, key))


def _is_placed(detail: ErrorDetails) -> bool:
    return detail["type"] == INVALID


def _unknown_key(path: KeyPath, root: Section) -> str:
    allowed = sorted(fields(section_at(path[:-1], root)))
    hint = did_you_mean(str(path[-1]), allowed)
    return f"unknown key{hint or ';'} allowed keys: {', '.join(allowed)}"


def _is_confidential(path: KeyPath, root: Section) -> bool:
    return _holds_secrets(root) or any(secret for _, secret in _walk(path, root))


def _walk(path: KeyPath, root: Section) -> Iterator[tuple[str, bool]]:
    """Each key as text, and whether its value is in a confidential section."""
    annotation: object = root
    confidential = _holds_secrets(root)
    for key in path:
        known = is_section(annotation) and key in fields(annotation)
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
        field = fields(annotation).get(str(key))
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


def _field_type(path: KeyPath, root: Section) -> FieldType:
    """The type of the value at a path, with the annotations of the schema."""
    annotation: object = root
    for key in path[:-1]:
        annotation = _value_type(annotation, key)
    if is_section(annotation) and path and (field := fields(annotation).get(str(path[-1]))):
        return FieldType.of(field.annotation, tuple(field.metadata))
    arguments = get_args(annotation)
    if path and get_origin(annotation) is dict:
        return FieldType.of(arguments[1])
    return FieldType.of(arguments[0] if path and arguments else annotation)
