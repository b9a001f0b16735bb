"""Which files and variables a config may name if it comes by API.

A caller of the API may change the config, but must not read or write other files of the machine: a
header with a secret sends the content of a file to a model server, and an access log writes to a
file. What the config in force names may stay, and may be named again for the same purpose. Other
files must be below the folder of the gateway.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final, get_args

from pydantic import BaseModel

from sluice.config.addresses import canonical_ip, is_ip, split_host_port, split_url
from sluice.config.errors import ConfigError, KeyPath, Place
from sluice.config.gateway import GatewayConfig
from sluice.config.schema import ITEM, NAME, is_section, key_of
from sluice.config.values import Outside

VARIABLES: Final = "SLUICE_SECRET_"
"""How the names of variables begin that a config by API may name: they hold nothing else."""

METADATA_NAMES: Final = frozenset({"metadata", "metadata.google.internal", "metadata.goog"})
METADATA_ADDRESSES: Final = frozenset(
    {"100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254"}
)
"""Servers of clouds with the credentials of their machines, beside the link-local addresses."""

STREAMS: Final = frozenset({"none", "stdout", "stderr"})
"""Outputs that are no file."""

_REMEDY: Final = (
    "a config that comes by API may name {}. Name others in the config file, or in the CONFIG "
    "with which the store begins"
)
_MESSAGES: Final[Mapping[Outside, str]] = {
    Outside.FILE: _REMEDY.format(
        "only files below the folder of --directory, and those that the config in force has for "
        "the same purpose"
    ),
    Outside.OUTPUT: _REMEDY.format("no new file or folder to write to"),
    Outside.VARIABLE: _REMEDY.format(
        f"only variables that begin with {VARIABLES}, and those that the config in force has for "
        "the same purpose"
    ),
    Outside.SERVER: _REMEDY.format(
        "no link-local addresses, at which clouds give credentials to their machines"
    ),
}


@dataclass(frozen=True, slots=True)
class _Named:
    """A file or variable that a config names. `purpose` is its key, without names and indexes."""

    path: KeyPath
    purpose: KeyPath
    kind: Outside
    value: str


def check_outside(
    config: GatewayConfig,
    in_force: GatewayConfig,
    directory: Path,
    folder: Path | None,
    place: Place,
) -> None:
    """Raises ConfigError for names that a caller of the API may not choose. Reads no file.

    Files are relative to `directory`, and may be below `folder`; None: there is no such folder.
    Models that are the same object in both configs cost nothing.
    """
    doubtful = [
        each for each in _named(config, in_force, ()) if not _is_allowed(each, directory, folder)
    ]
    if not doubtful:
        return
    known = {(each.purpose, each.value) for each in _named(in_force, None, ())}
    refused = [
        place(each.path, _MESSAGES[each.kind])
        for each in doubtful
        if (each.purpose, each.value) not in known
    ]
    if refused:
        raise ConfigError(refused)


def _is_allowed(named: _Named, directory: Path, folder: Path | None) -> bool:
    if named.kind is Outside.VARIABLE:
        return named.value.startswith(VARIABLES)
    if named.kind is Outside.OUTPUT:
        return named.value in STREAMS
    if named.kind is Outside.SERVER:
        return not _gives_credentials(named.value)
    # A hidden file or folder in the home directory of somebody has the credentials of another tool.
    if folder is None or any(part.startswith(".") and part != "." for part in _parts(named.value)):
        return False
    try:
        return (directory / named.value).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a NUL character
        return False


def _gives_credentials(server: str) -> bool:
    """Whether a server may be the one of a cloud with the credentials of its machines."""
    url = split_url(server) if "://" in server else None
    host = (url and url.hostname) or split_host_port(server)[0] or server
    if not is_ip(host):
        return host.lower().removesuffix(".") in METADATA_NAMES
    address = canonical_ip(host)
    return ip_address(address).is_link_local or address in METADATA_ADDRESSES


def _parts(name: str) -> tuple[str, ...]:
    return Path(name).parts


def _named(value: object, known: object, path: KeyPath, purpose: KeyPath = ()) -> Iterator[_Named]:
    """What a section names, except for what `known` has at the same path."""
    if value is known or not isinstance(value, BaseModel):
        return
    for name, kind in _fields(type(value)).items():
        found = getattr(value, name)
        same = getattr(known, name) if type(known) is type(value) else None
        if found is None or found is same or found == type(value).model_fields[name].default:
            continue
        key = key_of(type(value), name)
        if kind is not None:
            if found != same:
                yield _Named((*path, key), (*purpose, key), kind, str(found))
        else:
            yield from _of_value(found, same, (*path, key), (*purpose, key))


def _of_value(value: object, known: object, path: KeyPath, purpose: KeyPath) -> Iterator[_Named]:
    if isinstance(value, dict):
        of_known = known if isinstance(known, dict) else {}
        for key, each in value.items():
            yield from _of_value(each, of_known.get(key), (*path, key), (*purpose, NAME))
    elif isinstance(value, tuple):
        items = known if isinstance(known, tuple) else ()
        for index, each in enumerate(value):
            of_known_item = items[index] if index < len(items) else None
            yield from _of_value(each, of_known_item, (*path, index), (*purpose, ITEM))
    else:
        yield from _named(value, known, path, purpose)


@cache
def _fields(section: type[BaseModel]) -> Mapping[str, Outside | None]:
    """The fields that name something outside, and with None those that have sections that do."""
    found: dict[str, Outside | None] = {}
    for name, field in section.model_fields.items():
        marks = [*_marks(field.annotation), *(m for m in field.metadata if isinstance(m, Outside))]
        if marks:
            found[name] = Outside.OUTPUT if Outside.OUTPUT in marks else marks[0]
        elif any(_has_marks(each, frozenset({section})) for each in _sections(field.annotation)):
            found[name] = None
    return found


def _has_marks(section: type[BaseModel], above: frozenset[type[BaseModel]]) -> bool:
    """Whether a section or one below it names something. A section may contain itself."""
    if section in above:
        return False
    for field in section.model_fields.values():
        if any(isinstance(each, Outside) for each in field.metadata):
            return True
        if any(_marks(field.annotation)):
            return True
        if any(_has_marks(each, above | {section}) for each in _sections(field.annotation)):
            return True
    return False


def _marks(annotation: object) -> Iterator[Outside]:
    for each in (*getattr(annotation, "__metadata__", ()), *get_args(annotation)):
        if isinstance(each, Outside):
            yield each
        elif not is_section(each):
            yield from _marks(each)


def _sections(annotation: object) -> Iterator[type[BaseModel]]:
    if is_section(annotation):
        yield annotation
    else:
        for each in get_args(annotation):
            yield from _sections(each)
