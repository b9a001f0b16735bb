"""Removes secrets from a config before it is shown.

In a `Confidential` section, every text is removed, except for fields that are `Shown`. Numbers,
booleans and words of a fixed set cannot be secrets. So a new field is safe without further work.
"""

from typing import Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sluice.config import GatewayConfig
from sluice.config.schema import is_section
from sluice.config.values import Confidential, Shown

REDACTED: Final = "(redacted)"


def redacted(config: GatewayConfig) -> dict[str, object]:
    """The config as plain data, without the texts of confidential sections."""
    return _section(config, confidential=False)


def _section(section: BaseModel, *, confidential: bool) -> dict[str, object]:
    hidden = confidential or isinstance(section, Confidential)
    return {
        name: _value(getattr(section, name), hidden=hidden and _may_be_secret(field))
        for name, field in type(section).model_fields.items()
    }


def _value(value: object, *, hidden: bool) -> object:
    """A value as plain data; `hidden`: its texts may be secrets."""
    if isinstance(value, BaseModel):
        return _section(value, confidential=hidden)
    if isinstance(value, str):
        return REDACTED if hidden else value
    if isinstance(value, tuple):
        return [_value(item, hidden=hidden) for item in value]
    if isinstance(value, dict):
        if hidden and value:
            return REDACTED
        return {key: _value(item, hidden=hidden) for key, item in value.items()}
    return value


def _may_be_secret(field: FieldInfo) -> bool:
    shown = any(isinstance(item, Shown) for item in field.metadata)
    return not shown and _has_text(field.annotation)


def _has_text(annotation: object) -> bool:
    """Whether a value of the type may contain any text, in the value itself or in a section."""
    if get_origin(annotation) is Literal:
        return False
    if annotation is str or is_section(annotation):
        return True
    return any(map(_has_text, get_args(annotation)))
