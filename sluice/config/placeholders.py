"""Puts secrets in force in the place of `(redacted)`, with which a config was shown.

A caller reads a config without its secrets, changes a part of it, and sends it back.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pydantic import BaseModel

from sluice.config.errors import MAX_PROBLEMS, ConfigError, KeyPath, Problem
from sluice.config.redaction import REDACTED
from sluice.config.validation import shown_path, shown_pointer

IDENTITIES: Final = ("name", "issuer", "version", "address")
"""Keys of an item of a list that tell which item it is. Its index may change."""


def with_secrets(data: object, in_force: object, path: KeyPath = ()) -> object:
    """The data with the values in force in the place of `(redacted)`.

    `in_force` is what the config in force has at `path`: a section or another value. Raises
    ConfigError with the places for which no value is in force.
    """
    missing: list[KeyPath] = []
    found = _filled(data, in_force, path, missing)
    if missing:
        message = f"no secret is in force for {REDACTED} at this key: write the value"
        problems = [
            Problem("config", 0, shown_path(each), message, pointer=shown_pointer(each))
            for each in missing[:MAX_PROBLEMS]
        ]
        raise ConfigError(problems, omitted=len(missing) - len(problems))
    return found


def _filled(data: object, in_force: object, path: KeyPath, missing: list[KeyPath]) -> object:
    if isinstance(data, str) and data == REDACTED:
        if in_force is None:
            missing.append(path)
        return _plain(in_force)
    if isinstance(data, dict):
        return {
            key: _filled(value, _member(in_force, key), (*path, key), missing)
            for key, value in data.items()
        }
    if isinstance(data, list):
        items = in_force if isinstance(in_force, tuple) else ()
        same = len(items) == len(data) and all(each == REDACTED for each in data)
        return [
            _filled(item, items[n] if same else _item(items, item), (*path, n), missing)
            for n, item in enumerate(data)
        ]
    return data


def _member(in_force: object, key: str) -> object:
    if isinstance(in_force, BaseModel):
        return getattr(in_force, key) if key in type(in_force).model_fields else None
    return in_force.get(key) if isinstance(in_force, Mapping) else None


def _item(items: Iterable[object], item: object) -> object:
    """The item in force that has the same identity; None if it is not certain."""
    if not isinstance(item, dict):
        return None
    key = next((key for key in IDENTITIES if key in item), None)
    same = [] if key is None else [each for each in items if _member(each, key) == item[key]]
    return same[0] if len(same) == 1 else None


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
