"""The changes between two configs, by key path and without secrets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from sluice.config.errors import KeyPath
from sluice.config.gateway import GatewayConfig
from sluice.config.redaction import hides, redacted_value
from sluice.config.schema import key_of


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs. `old` and `new` are plain data; None: the key is absent, or null.

    Texts that may be secrets are redacted: then `old` and `new` may be equal.
    """

    path: KeyPath
    old: object
    new: object


def config_changes(old: GatewayConfig, new: GatewayConfig) -> list[Change]:
    """The changes from one config to another, in the order of the schema and of the old config.

    Maps and sections are compared by key. In a list, the equal items at the beginning and at the
    end are left out, and the others are compared by their index. Models that are the same object
    cost nothing. A section that is new or removed has the fields that the config sets.
    """
    return list(_changes((), old, new, hidden=False))


def _changes(path: KeyPath, old: object, new: object, *, hidden: bool) -> Iterator[Change]:
    if old is new or old == new:
        return
    if isinstance(old, BaseModel) and type(old) is type(new):
        assert isinstance(new, BaseModel)
        for name in type(old).model_fields:
            of_field = hides(old, name, confidential=hidden)
            pair = getattr(old, name), getattr(new, name)
            key = key_of(type(old), name)
            yield from _changes((*path, key), *pair, hidden=of_field)
    elif isinstance(old, dict) and isinstance(new, dict) and not hidden:
        yield from _of_maps(path, old, new)
    elif isinstance(old, tuple) and isinstance(new, tuple) and _has_sections(old + new):
        yield from _of_lists(path, old, new, hidden=hidden)
    else:
        yield Change(path, _shown(old, hidden=hidden), _shown(new, hidden=hidden))


def _of_maps(
    path: KeyPath, old: Mapping[str, object], new: Mapping[str, object]
) -> Iterator[Change]:
    for key in [*old, *(key for key in new if key not in old)]:
        yield from _changes((*path, key), old.get(key), new.get(key), hidden=False)


def _of_lists(
    path: KeyPath, old: tuple[object, ...], new: tuple[object, ...], *, hidden: bool
) -> Iterator[Change]:
    shorter = min(len(old), len(new))
    start = 0
    while start < shorter and old[start] == new[start]:
        start += 1
    end = 0
    while end < shorter - start and old[-1 - end] == new[-1 - end]:
        end += 1
    olds, news = old[start : len(old) - end], new[start : len(new) - end]
    for offset in range(max(len(olds), len(news))):
        pair = (each[offset] if offset < len(each) else None for each in (olds, news))
        yield from _changes((*path, start + offset), *pair, hidden=hidden)


def _has_sections(items: tuple[object, ...]) -> bool:
    return any(isinstance(item, BaseModel) for item in items)


def _shown(value: object, *, hidden: bool) -> object:
    return redacted_value(value, hidden=hidden, defaults=False)
