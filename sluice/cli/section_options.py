"""Options of a command that replace keys of a section of the config."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

from pydantic import ValidationError

from sluice.cli.commands import UsageError
from sluice.config.validation import error_message
from sluice.config.values import Strict

Section = TypeVar("Section", bound=Strict)


def with_options(
    section: Section, given: Mapping[str, object], options: Mapping[str, str]
) -> Section:
    """The section with the values that are given by key. None: the option is not given.

    `options`: the names of the options, by key. Raises UsageError for an invalid option.
    """
    values = {key: value for key, value in given.items() if value is not None}
    try:
        return type(section).model_validate(section.model_dump() | values)
    except ValidationError as error:
        raise UsageError("; ".join(_problems(error, type(section), options))) from error


def _problems(
    error: ValidationError, schema: type[Strict], options: Mapping[str, str]
) -> Iterator[str]:
    for detail in error.errors():
        message = error_message(detail, schema)
        if detail["loc"]:
            key = str(detail["loc"][0])
            message = f"{options.get(key, key)} {detail['input']}: {message}"
        yield message
