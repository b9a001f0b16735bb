"""Finds the sections of the config schema in the Pydantic types."""

from collections.abc import Iterator
from typing import TypeAlias, TypeGuard, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sluice.config.errors import KeyPath
from sluice.config.gateway import GatewayConfig

Section: TypeAlias = type[BaseModel]

NAME, ITEM = "NAME", "[]"
"""Placeholders in the path of a section, for any key of a map and any index of a list."""

_PLACEHOLDER: dict[object, KeyPath] = {dict: (NAME,), tuple: (ITEM,)}


def sections() -> Iterator[tuple[KeyPath, Section]]:
    """Every section with its path, parents first. Each section is yielded once."""
    seen: set[Section] = set()
    waiting: list[tuple[KeyPath, Section]] = [((), GatewayConfig)]
    while waiting:
        path, section = waiting.pop(0)
        if section not in seen:
            seen.add(section)
            yield path, section
            waiting[:0] = [((*path, *step), child) for step, child in _subsections(section)]


def fields(section: Section) -> dict[str, FieldInfo]:
    """The fields of a section, by their keys in a config."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def key_of(section: Section, name: str) -> str:
    """The key in a config of the field with this name in Python."""
    return section.model_fields[name].alias or name


def section_at(path: KeyPath, root: Section = GatewayConfig) -> Section:
    """The section at a path below `root`. Raises LookupError if there is no section."""
    if not path:
        return root
    for step, section in _subsections(root):
        if len(step) <= len(path) and all(map(_matches, step, path)):
            return section_at(path[len(step) :], section)
    raise LookupError(f"{root.__name__} has no section at {path}")


def is_section(annotation: object) -> TypeGuard[Section]:
    """Whether a type is a config section."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _subsections(section: Section) -> Iterator[tuple[KeyPath, Section]]:
    for name, field in fields(section).items():
        yield from _walk(field.annotation, (name,))


def _walk(annotation: object, path: KeyPath) -> Iterator[tuple[KeyPath, Section]]:
    if is_section(annotation):
        yield path, annotation
        return
    for argument in get_args(annotation):
        yield from _walk(argument, (*path, *_PLACEHOLDER.get(get_origin(annotation), ())))


def _matches(step: str | int, key: str | int) -> bool:
    return step in (NAME, ITEM, key)
