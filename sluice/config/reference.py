"""Generates the reference page of the config from the schema."""

import json
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sluice.config.errors import KeyPath
from sluice.config.schema import Section, fields, is_section, sections
from sluice.config.values import TypeLabel

_HEAD = """# Config reference

Generated from the schema by `make docs`. `sluice schema` prints the JSON Schema for editors.

A config is a YAML file. Unknown keys are errors. Write durations as `250ms`, `30s`, `5m`, `1h` or
as a number of seconds, sizes as `512KiB`, `10MiB`, `1GiB` or as a number of bytes, and addresses as
`host:port`. Changes take effect at once, except in the sections that say "at the next start".

If a section occurs in several places, this page lists it only at the first place.
"""


def reference() -> str:
    """The page in Markdown."""
    return _HEAD + "".join(_section(path, section) for path, section in sections())


def _section(path: KeyPath, section: Section) -> str:
    title = f"`{'.'.join(map(str, path)).replace('.[]', '[]')}`" if path else "The file"
    lines = [f"\n## {title}\n", f"{_paragraphs(section.__doc__)}\n"]
    lines += ["| key | type | default | |", "|---|---|---|---|"]
    lines += [_row(name, field) for name, field in fields(section).items()]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str | None) -> str:
    paragraphs = (text or "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _row(name: str, field: FieldInfo) -> str:
    cells = [f"`{name}`", _type(field), _default(field), field.description or ""]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _type(field: FieldInfo) -> str:
    name = _label(field.metadata) or _type_name(field.annotation)
    return ", ".join([name, *_bounds(field)])


def _bounds(field: FieldInfo) -> Iterator[str]:
    """The strictest lower bound and the strictest upper bound."""
    above, least = _constraints(field, "gt"), _constraints(field, "ge")
    if above and (not least or max(above) >= max(least)):
        yield f"> {_value(max(above))}"
    elif least:
        yield f"≥ {_value(max(least))}"
    most = _constraints(field, "le")
    if most:
        yield f"≤ {_value(min(most))}"


def _constraints(field: FieldInfo, kind: str) -> list[float]:
    return [v for item in field.metadata if (v := getattr(item, kind, None)) is not None]


def _label(metadata: Iterable[object]) -> str | None:
    """The label of a type on the page; None if the annotation has no label."""
    return next((item.name for item in metadata if isinstance(item, TypeLabel)), None)


def _type_name(annotation: object) -> str:
    if is_section(annotation):
        return "section"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is dict:
        return f"map of name to {_type_name(arguments[1])}"
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is Annotated:
        return _label(arguments[1:]) or _type_name(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(_type_name(a) for a in arguments)
    plain: dict[type, str] = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return plain.get(annotation, "null") if isinstance(annotation, type) else str(annotation)


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, BaseModel):
        # The table of the section shows the defaults of its keys.
        return "" if default == type(default).model_construct() else f"`{_value(default)}`"
    if isinstance(default, tuple | dict | str) and not default:
        return "empty"
    if isinstance(default, tuple):
        return ", ".join(f"`{_value(item)}`" for item in default)
    return f"`{_value(default)}`"


def _value(value: object) -> str:
    if isinstance(value, BaseModel):
        return json.dumps(value.model_dump(exclude_defaults=True))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(reference(), end="")
