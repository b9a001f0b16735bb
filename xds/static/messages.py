"""Envoy's messages as JSON."""

import importlib
import re
from collections.abc import Iterator
from typing import Any, Final

import betterproto2

# Any: JSON, in the mapping of protobuf.
Json = dict[str, Any]

_PACKED = re.compile(rb"type\.googleapis\.com/([A-Za-z0-9_.]+)\.[A-Za-z0-9_]+")
"""The package of a message in a google.protobuf.Any."""


_MISSPELT: Final = {
    "consecutive_5_xx": "consecutive_5xx",
    "enforcing_consecutive_5_xx": "enforcing_consecutive_5xx",
}
"""Names of fields that betterproto2 does not write as in Envoy's API."""


def message_json(kind: type[betterproto2.Message], body: bytes) -> Json:
    """A serialized message as JSON, with the messages in it that travel in an `Any`."""
    for package in set(_PACKED.findall(body)):
        # A message is known when its module has been imported.
        importlib.import_module(f"envoy_data_plane.{package.decode()}")
    found: Json = kind.parse(body).to_dict(casing=betterproto2.Casing.SNAKE)
    for each in objects(found):
        if each.get("@type") == "":
            del each["@type"]  # an empty google.protobuf.Any
        for wrong in _MISSPELT.keys() & each.keys():
            each[_MISSPELT[wrong]] = each.pop(wrong)
    return found


def objects(value: object) -> Iterator[Json]:
    """All objects in a JSON value. The caller may change each."""
    inner: list[object] = []
    if isinstance(value, dict):
        yield value
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    for each in inner:
        yield from objects(each)
