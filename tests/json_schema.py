"""Checks data against JSON Schema (2020-12): the keywords that our documents use, and no others."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_ANNOTATIONS = {"title", "description", "default", "examples", "$ref", "format", "discriminator"}
_TYPES = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
    "integer": int, "number": (int, float),
}  # fmt: skip


def errors(data: Any, schema: Mapping[str, Any], root: Any, at: str = "") -> Iterator[str]:
    """What is wrong with the data. References point into `root`. Raises KeyError for others."""
    if "$ref" in schema:
        yield from errors(data, resolve(root, schema["$ref"]), root, at)
    for keyword, value in schema.items():
        if keyword not in _ANNOTATIONS:
            yield from _CHECKS[keyword](data, value, schema, root, at)


def resolve(root: Any, reference: str) -> Any:
    """What a local reference such as `#/components/schemas/X` points to."""
    assert reference.startswith("#/"), reference
    for key in reference[2:].split("/"):
        root = root[key]
    return root


def _type(data: Any, value: Any, _: Any, __: Any, at: str) -> Iterator[str]:
    number = isinstance(data, bool) and value in ("integer", "number")
    if number or not isinstance(data, _TYPES[value]):
        yield f"{at}: {data!r} is no {value}"


def _properties(data: Any, value: Any, _: Any, root: Any, at: str) -> Iterator[str]:
    for name, each in value.items():
        if isinstance(data, dict) and name in data:
            yield from errors(data[name], each, root, f"{at}/{name}")


def _patterns(data: Any, value: Any, _: Any, root: Any, at: str) -> Iterator[str]:
    for name, each in data.items() if isinstance(data, dict) else ():
        for pattern, schema in value.items():
            if re.search(pattern, name):
                yield from errors(each, schema, root, f"{at}/{name}")


def _additional(data: Any, value: Any, schema: Any, root: Any, at: str) -> Iterator[str]:
    for name in data if isinstance(data, dict) else ():
        if name in schema.get("properties", ()):
            continue
        if value is False:
            yield f"{at}: {name} is not in the schema"
        elif value is not True:
            yield from errors(data[name], value, root, f"{at}/{name}")


def _required(data: Any, value: Any, _: Any, __: Any, at: str) -> Iterator[str]:
    if isinstance(data, dict):
        yield from (f"{at}: {name} is missing" for name in value if name not in data)


def _items(data: Any, value: Any, _: Any, root: Any, at: str) -> Iterator[str]:
    for index, each in enumerate(data if isinstance(data, list) else ()):
        yield from errors(each, value, root, f"{at}/{index}")


def _any_of(data: Any, value: Any, _: Any, root: Any, at: str) -> Iterator[str]:
    if all(any(errors(data, each, root, at)) for each in value):
        yield f"{at}: {data!r} matches none of {value}"


def _enum(data: Any, value: Any, _: Any, __: Any, at: str) -> Iterator[str]:
    if data not in value:
        yield f"{at}: {data!r} is none of {value}"


def _bound(data: Any, _: Any, schema: Any, __: Any, at: str) -> Iterator[str]:
    size = len(data) if isinstance(data, str | list | dict) else data
    low = schema.get("minimum", schema.get("minLength", schema.get("minItems")))
    high = schema.get("maximum", schema.get("maxLength", schema.get("maxItems")))
    if size is not None and (
        (low is not None and size < low) or (high is not None and size > high)
    ):
        yield f"{at}: {data!r} is out of bounds"


def _pattern(data: Any, value: Any, _: Any, __: Any, at: str) -> Iterator[str]:
    if isinstance(data, str) and re.search(value, data) is None:
        yield f"{at}: {data!r} does not match {value}"


_CHECKS = {
    "type": _type, "properties": _properties, "additionalProperties": _additional,
    "patternProperties": _patterns,
    "required": _required, "items": _items, "anyOf": _any_of, "enum": _enum, "pattern": _pattern,
    "const": lambda data, value, *rest: _enum(data, [value], *rest),
    **dict.fromkeys(
        ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties",
         "minProperties", "exclusiveMinimum", "exclusiveMaximum"), _bound
    ),
}  # fmt: skip
