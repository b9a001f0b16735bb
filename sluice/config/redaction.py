"""Removes secrets from a config before it is shown.

In a `Confidential` section, every text is removed, except for fields that are `Shown`. Numbers,
booleans and words of a fixed set cannot be secrets. So a new field is safe without further work.
"""

from typing import Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sluice.config.gateway import GatewayConfig
from sluice.config.schema import is_section, key_of
from sluice.config.values import Confidential, Shown

REDACTED: Final = "(redacted)"


def redacted(config: GatewayConfig, *, defaults: bool = True) -> dict[str, object]:
    """The config as plain data, without the texts of confidential sections.

    `defaults`: also the fields that the config does not set.
    """
    return _section(config, confidential=False, defaults=defaults)


def redacted_value(value: object, *, hidden: bool, defaults: bool = True) -> object:
    """A value of a config as plain data; `hidden`: its texts may be secrets."""
    if isinstance(value, BaseModel):
        return _section(value, confidential=hidden, defaults=defaults)
    if isinstance(value, str):
        return REDACTED if hidden else value
    if isinstance(value, tuple):
        return [redacted_value(item, hidden=hidden, defaults=defaults) for item in value]
    if isinstance(value, dict):
        if hidden and value:
            return REDACTED
        return {
            key: redacted_value(item, hidden=hidden, defaults=defaults)
            for key, item in value.items()
        }
    return value


def hides(section: BaseModel, name: str, *, confidential: bool) -> bool:
    """Whether the texts of a field may be secrets; `confidential`: those of the section are."""
    hidden = confidential or isinstance(section, Confidential)
    return hidden and _may_be_secret(type(section).model_fields[name])


def _section(section: BaseModel, *, confidential: bool, defaults: bool) -> dict[str, object]:
    return {
        key_of(type(section), name): redacted_value(
            getattr(section, name),
            hidden=hides(section, name, confidential=confidential),
            defaults=defaults,
        )
        for name in type(section).model_fields
        if defaults or name in section.model_fields_set
    }


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
