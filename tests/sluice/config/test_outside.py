"""Every key of the config that names a file or a variable is known as one."""

import re
from typing import get_args

import pytest

from sluice.config import GatewayConfig
from sluice.config.errors import ConfigError, unplaced
from sluice.config.outside import check_outside
from sluice.config.schema import fields, is_section, section_at, sections

FILES = re.compile(r".*(_file|_folder|_env)|file|env|ca|certificate|private_key|client_ca|output")
"""Keys that name something outside, by the convention of the config."""


def _with(path: tuple[str, ...], key: str, value: object) -> object:
    """The section at a path with only this key."""
    section = section_at(path)
    return section.model_construct(**dict.fromkeys(section.model_fields) | {key: value})


def has_section(annotation: object) -> bool:
    """Whether a key has a section, whose keys name files, if any."""
    return is_section(annotation) or any(map(has_section, get_args(annotation)))


@pytest.mark.parametrize(
    "path",
    [
        (*path, key)
        for path, section in sections()
        for key, field in fields(section).items()
        if FILES.fullmatch(key) and not has_section(field.annotation)
    ],
    ids=".".join,
)
def test_a_caller_of_the_api_cannot_name_a_file_of_the_machine(
    path: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("gateway")
    *above, key = path
    value: object = _with(tuple(above), key, "/etc/shadow")
    for n in reversed(range(len(above))):
        if above[n] == "NAME":
            value = {"a": value}
        elif above[n] == "[]":
            value = (value,)
        else:
            value = _with(tuple(above[:n]), above[n], value)
    assert isinstance(value, GatewayConfig)
    with pytest.raises(ConfigError, match=key):
        check_outside(value, GatewayConfig(), folder, folder, unplaced)
    check_outside(value, value, folder, folder, unplaced)
