"""The messages of validation errors: what to write, and what is there.

Pydantic's own messages are for programmers: they name Python's types and show regular expressions.
So each type of error that the schema can have has a message in `_MESSAGES`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from sluice.config.enumeration import enumerated
from sluice.config.invalid import INVALID
from sluice.config.pattern import WRONG_FORMAT
from sluice.config.values import (
    DURATION_REMEDY,
    SIZE_REMEDY,
    TypeLabel,
    format_duration,
    format_size,
)
from sluice.near_names import near_name

MAX_VALUE = 80
"""Characters of an invalid value that a message shows."""

MAX_KEYS = 4
"""Keys of a section that a message names."""

_ITEM = re.compile(r"[A-Za-z0-9_.*/-]{1,40}")
"""Text that needs no quotes in a list."""


@dataclass(frozen=True, slots=True)
class FieldType:
    """The type that the schema has for a value. `label` is the name of a scalar type, or empty.

    `may_be_empty`: whether a list or a map needs no items.
    """

    label: str = ""
    options: tuple[str, ...] = ()
    section: type[BaseModel] | None = None
    holds_sections: bool = False
    may_be_empty: bool = True

    @classmethod
    def of(cls, annotation: object, metadata: tuple[object, ...] = ()) -> "FieldType":
        """The type of an annotation, and of its metadata in a section."""
        label = next((each.name for each in metadata if isinstance(each, TypeLabel)), "")
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return cls.of(arguments[0], (*metadata, *arguments[1:]))
        if origin is Literal:
            return cls(options=tuple(map(str, arguments)))
        if origin in (dict, tuple):
            inner = cls.of(arguments[-1] if origin is dict else arguments[0])
            return cls(
                holds_sections=inner.section is not None,
                may_be_empty=not any(getattr(each, "min_length", 0) for each in metadata),
            )
        if isinstance(annotation, type):
            section = annotation if issubclass(annotation, BaseModel) else None
            return cls(label, section=section)
        of_union = [cls.of(each, metadata) for each in arguments if each is not type(None)]
        return next((each for each in of_union if each != cls()), cls(label))


@dataclass(frozen=True, slots=True)
class _Error:
    """A Pydantic error, and the type that the schema has for its value."""

    value: object
    context: Mapping[str, object]
    type: FieldType
    confidential: bool

    def bound(self, name: str) -> str:
        """A bound, in the unit of the value."""
        return self.quantity(self.context[name])

    def quantity(self, value: object) -> str:
        """A number, in the unit of the value."""
        if isinstance(value, int | float) and self.type.label == "duration":
            return format_duration(value)
        if isinstance(value, int | float) and self.type.label == "size":
            return format_size(value)
        return f"{value:.15g}" if isinstance(value, float) else str(value)

    @property
    def noun(self) -> str:
        """What the value is called: a number has units only if the schema gives it a label."""
        label = self.type.label
        return f"a {label}" if label in ("duration", "size") else "a number"


def message(detail: ErrorDetails, type_: FieldType, *, confidential: bool) -> str:
    """The message of an error, without the value if it may be a secret."""
    error = _Error(detail["input"], detail.get("ctx", {}), type_, confidential)
    kind = detail["type"]
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    if kind in _WITHOUT_VALUE:
        return _WITHOUT_VALUE[kind](error)
    text = _MESSAGES.get(kind, _not_valid)(error)
    if type_.label in _REMEDIES and kind.endswith(("_type", "_parsing")):
        text = _REMEDIES[type_.label]
    if confidential and not kind.endswith(("_type", "_parsing")):
        return text  # "not text" says nothing about text in a wrong format
    return f"{text}, not {_value(error, kind)}"


def _value(error: _Error, kind: str) -> str:
    """The invalid value, or its type if the value may be or may contain a secret."""
    value = error.value
    expects_collection = kind in ("model_type", "dict_type", "tuple_type")
    if isinstance(value, dict | list | tuple) or value is None or isinstance(value, bool):
        return _kind(value)
    if error.confidential or expects_collection:
        return _kind(value)
    if kind in _BOUNDS and error.type.label:
        return error.quantity(value)
    text = repr(value)
    return text if len(text) < MAX_VALUE else f"{text[: MAX_VALUE - 3]}..."


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list | tuple):
        return "a list"
    return "text" if isinstance(value, str) else "a number"


def _section(error: _Error) -> str:
    section = error.type.section
    fields = {} if section is None else section.model_fields
    required = [name for name, field in fields.items() if field.is_required()]
    if required:
        return f"write a map with the key{'s' * (len(required) > 1)} {enumerated(required)}"
    more = ", ..." if len(fields) > MAX_KEYS else ""
    return f"write a map with keys such as {', '.join(list(fields)[:MAX_KEYS])}{more}"


def _map(error: _Error) -> str:
    what = "a map from names to sections" if error.type.holds_sections else "a map"
    return f"write {what}, or {{}} for none" if error.type.may_be_empty else f"write {what}"


def _list(error: _Error) -> str:
    value = error.value
    is_scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    if is_scalar and not error.confidential and _ITEM.fullmatch(str(value)):
        return f"write a list, such as [{value}]"
    items = "whose items begin with a dash" if error.type.holds_sections else "such as [a, b]"
    return f"write a list, {items}{', or [] for none' if error.type.may_be_empty else ''}"


def _text(error: _Error) -> str:
    if isinstance(error.value, int | float):
        return "write text: put the value in quotes"
    return "write text"


def _option(error: _Error) -> str:
    near = near_name(str(error.value), error.type.options)
    hint = "" if near is None else f" (did you mean {near}?)"
    return f"write {enumerated(error.type.options, 'or')}{hint}"


def _length(error: _Error, name: str) -> str:
    """The bound of a length, with its noun."""
    bound = error.context[name]
    noun = "character" if isinstance(error.value, str) else "item"
    return f"{bound} {noun}" if bound == 1 else f"{bound} {noun}s"


def _too_short(error: _Error) -> str:
    count = len(error.value) if isinstance(error.value, str | dict | list | tuple) else 0
    found = f"it has {count}" if count else "it is empty"
    return f"write at least {_length(error, 'min_length')}; {found}"


def _too_long(error: _Error) -> str:
    size = len(error.value) if isinstance(error.value, str | dict | list | tuple) else "more"
    return f"write at most {_length(error, 'max_length')}; it has {size}"


def _message(error: _Error) -> str:
    return str(error.context["message"])


def _not_valid(_: _Error) -> str:
    return "write a valid value"


def _number(noun: str) -> Callable[[_Error], str]:
    return lambda _: f"write {noun}"


_BOUNDS: Final[Mapping[str, Callable[[_Error], str]]] = {
    "greater_than_equal": lambda e: f"write {e.noun} of at least {e.bound('ge')}",
    "less_than_equal": lambda e: f"write {e.noun} of at most {e.bound('le')}",
    "greater_than": lambda e: f"write {e.noun} above {e.bound('gt')}",
    "less_than": lambda e: f"write {e.noun} below {e.bound('lt')}",
}

_MESSAGES: Final[Mapping[str, Callable[[_Error], str]]] = {
    **_BOUNDS,
    "model_type": _section,
    "model_attributes_type": _section,
    "dict_type": _map,
    "tuple_type": _list,
    "string_type": _text,
    "int_type": _number("a whole number"),
    "int_parsing": _number("a whole number"),
    "int_from_float": _number("a whole number"),
    "int_parsing_size": _number("a smaller number"),
    "float_type": _number("a number"),
    "float_parsing": _number("a number"),
    "finite_number": _number("a finite number"),
    "multiple_of": lambda e: f"write a multiple of {e.context['multiple_of']}",
    "bool_type": _number("true or false"),
    "bool_parsing": _number("true or false"),
    "literal_error": _option,
    WRONG_FORMAT: _message,
}
"""By type of Pydantic's errors (`ErrorDetails`). The value follows."""

_WITHOUT_VALUE: Final[Mapping[str, Callable[[_Error], str]]] = {
    "missing": lambda _: "the key is required",
    "string_too_short": _too_short,
    "string_too_long": _too_long,
    "too_short": _too_short,
    "too_long": _too_long,
    INVALID: _message,
}

_ADDRESS_REMEDY: Final = "write an address as host:port, such as 127.0.0.1:8080"

_REMEDIES: Final = {
    "duration": DURATION_REMEDY,
    "size": SIZE_REMEDY,
    "address": _ADDRESS_REMEDY,
    "IP address and port": _ADDRESS_REMEDY,
}
"""What to write in place of a value of another type, by label."""
