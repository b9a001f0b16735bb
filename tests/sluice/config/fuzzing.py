"""Generates configs from the schema, with extreme values, and checks that valid ones compile.

The number of an input determines it, so that a failure can be reproduced.
"""

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from extproc.policy.compiled import compile_policy
from sluice.config import ConfigError, GatewayConfig, PolicyDocument, policy_document
from sluice.config.checked import LoadedConfig
from sluice.config.errors import MAX_PROBLEMS, KeyPath
from sluice.config.load import loads
from sluice.config.schema import fields, is_section
from sluice.config.validation import location
from sluice.config.values import TypeLabel
from tests.extproc.auth.tokens import key_set, rsa_jwk
from xds.resources.compiled import compile_config

DIRECTORY = Path(__file__).parent
MAX_REPAIRS = 60
MAX_MESSAGE = 1000
"""Characters of one error: a key path, a value and the allowed keys."""

_NUMBERS: tuple[int | float, ...] = (
    0, 1, 2, 3, 64, 100, 255, 256, 1024, 32_767, 32_768, 65_535, 65_536, 10**6, 10**7, 2**31 - 1,
    2**31, 2**32 - 1, 2**32, 2**40, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -1, -(2**31),
    0.5, 0.001, 1e-9, 5e-324, 1e308, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip
_LARGE = (2**31, 2**32, 2**63, 2**64, 10**30)
_ODD_TEXTS = (
    "", " ", "~", "null", "1:59:59", "2001-01-01", "010", "0x10", "<<", "*a", "&a", "!x", "{",
    "%", "%%", "%REQ(x)%", "\n", "\t", "a\nb", "\x00", "\x7f", "\x85", "\u2028", "\ufeff", "..",
    "/", "//", "a" * 300, "a" * 5000, "1" * 64, "0" * 5000, "f" * 64, "-" * 70, "/a/../b", "²", "٣",
)  # fmt: skip
_TEXTS = {
    "duration": ("1ms", "0.5ms", "0s", "30s", "1m", "8784h", "8785h", "0.000001s", "9" * 15 + "h"),
    "size": ("0B", "1B", "64KiB", "1MiB", "4GiB", "1024GiB", "1025GiB", "999999999999999GiB"),
    "address": ("127.0.0.1:1", "[::1]:65535", "h:9", "h:0", "h:65536", "unix:/a", "unix:"),
    "IP address and port": ("127.0.0.1:1", "[::1]:65535", "h:9", "127.1:9"),
    "Unix socket": ("unix:/a", "unix:/copies", "unix:a", "unix:"),
    "host name": ("a", "A.b", "-", "a" * 253),
    "origin": ("*", "null", "https://a.b", "https://*.a.b:8", "http://[::1]:3", "a.b"),
}  # fmt: skip
_SAMPLES: dict[str, tuple[str, ...]] = {
    "address": ("127.0.0.1:1", "[::1]:65535", "h:9", "10.0.0.1:7", "h:10"),
    "audiences": ("a", "b"),
    "claim": ("group", "a"),
    "content_types": ("application/json", "image/*", "*/*"),
    "header": ("x-a", "x-b"),
    "issuer": ("i", "j", "k", "l"),
    "jwks": ('{"keys": []}',),
    "jwks_uri": ("https://h/k", "http://h:1/"),
    "key": ("subject", "model", "claim:a", "header:x"),
    "name": ("a", "b", "c", "d", "x-a"),
    "origins": ("*", "null", "https://a.b", "https://*.a.b:8"),
    "output": ("none", "stdout", "/tmp/log-of-sluice"),
    "part": ("subject", "group", "header:x"),
    "path": ("/", "/ready"),
    "paths": ("/a", "/b", "/a/b", "/c"),
    "sha256": ("1a" * 32, "2b" * 32, "3c" * 32),
    "stable": ("v1",),
    "urls": ("redis://h:1/0", "redis://[::1]:2", "rediss://h:3/1"),
    "version": ("v2", "v1"),
}
"""Valid values by the name of their key."""

_SYNTAX = ("[" * 200, "{a: " * 200, "&a ", "*a", "!!int ", "? ", "- ", "---\n", '"', "'", "#", ":")
_KEY_SET = key_set(rsa_jwk(kid="one"))
_PLAIN_TEXTS = (
    "a", "b", "v1", "x-a", "authorization", "x-request-id", "host", ":path", "subject", "claim:a",
    "header:x", "model", "application/json", "*/*", "image/*", "/a", "/a/b", "none", "/tmp/log",
    "1a" * 32, "https://h/k", "http://h:1/", "redis://h:1/0", "redis://[::1", "A_B",
    "text-classification", _KEY_SET, '{"keys": []}', "{}",
)  # fmt: skip


@dataclass(slots=True)
class Tally:
    """Numbers of accepted and refused inputs, and of the sections in the accepted ones."""

    accepted: int = 0
    refused: int = 0
    keys: Counter[str] = field(default_factory=Counter)


class Fuzzer:
    """Checks numbered inputs, and counts the results."""

    def __init__(self) -> None:
        self.tally = Tally()

    def check(self, number: int) -> None:
        """Read a config, with and without its errors, and damaged.

        Raises an exception unless each is refused with a ConfigError, or compiles.
        """
        source = random.Random(number)
        config = _section(GatewayConfig, source, 0.4)
        self._check(config)
        self._check(_repaired(config))
        self._check_text(_mutated(json.dumps(config), source))

    def _check(self, config: dict[str, object]) -> None:
        self._check_text(json.dumps(config, ensure_ascii=False))

    def _check_text(self, text: str) -> None:
        try:
            loaded = loads(text)
            policy = policy_document(loaded, DIRECTORY)
        except ConfigError as error:
            self.tally.refused += 1
            _check_refusal(error)
            return
        self.tally.accepted += 1
        self.tally.keys.update(_keys(loaded.model_dump(exclude_unset=True)))
        compile_config(LoadedConfig(loaded, policy, DIRECTORY), loaded)
        received = PolicyDocument.model_validate_json(policy.model_dump_json())
        assert received == policy
        compile_policy(received)


def _check_refusal(error: ConfigError) -> None:
    assert 0 < len(error.problems) <= MAX_PROBLEMS
    assert all(len(str(problem)) < MAX_MESSAGE for problem in error.problems), error


def _keys(value: object, path: str = "") -> list[str]:
    """The paths of all keys, without the names in maps and the indexes of lists."""
    if not isinstance(value, dict):
        return [path]
    return [key for name, inner in value.items() for key in _keys(inner, f"{path}.{name}")]


def _section(section: object, source: random.Random, share: float) -> dict[str, object]:
    """Some keys of a section, and all required ones."""
    assert is_section(section)
    return {
        name: _value(name, info.annotation, info.metadata, source, share)
        for name, info in fields(section).items()
        if info.is_required() or source.random() < (0.95 if name == "models" else share)
    }


def _value(
    name: str, annotation: object, metadata: list[object], source: random.Random, share: float
) -> object:
    if is_section(annotation):
        return _section(annotation, source, share)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _value(name, arguments[0], [*_flat(arguments[1:]), *metadata], source, share)
    if origin in (Union, UnionType):
        chosen = source.choice([each for each in arguments if each is not type(None)])
        return None if source.random() < 0.1 else _value(name, chosen, metadata, source, share)
    if origin is Literal:
        return source.choice(arguments) if source.random() < 0.99 else "other"
    if origin is tuple:
        length = max(_length(source), *(getattr(m, "min_length", 0) or 0 for m in metadata), 0)
        return [_value(name, arguments[0], [], source, share * 0.7) for _ in range(length)]
    if origin is dict:
        names = ("v1", "v2") if name == "versions" else ("a", "b", "c")
        keys = [key for key in names if source.random() < 0.6] or ["v1"]
        if source.random() < 0.02:
            keys.append(source.choice(_ODD_TEXTS))
        return {key: _value(key, arguments[1], [], source, share) for key in keys}
    return _scalar(name, annotation, metadata, source)


def _length(source: random.Random) -> int:
    return source.choice((0, 1, 1, 1, 2, 2, 3))


def _flat(metadata: tuple[object, ...]) -> list[object]:
    found: list[object] = []
    for item in metadata:
        found += item.metadata if isinstance(item, FieldInfo) else [item]
    return found


def _scalar(name: str, annotation: object, metadata: list[object], source: random.Random) -> object:
    labels = [item.name for item in metadata if isinstance(item, TypeLabel)]
    if source.random() < 0.01:
        return source.choice((None, True, [], {}, "x", 7))
    if annotation is bool:
        return source.random() < 0.5
    if annotation in (int, float):
        if labels and source.random() < 0.5:
            return source.choice(_TEXTS[labels[0]])
        bounds = [
            bound for item in metadata for name in ("ge", "gt", "le")
            if (bound := getattr(item, name, None)) is not None
        ]  # fmt: skip
        unbounded = not any(getattr(item, "le", None) is not None for item in metadata)
        if unbounded and source.random() < 0.5:
            return source.choice(_LARGE)
        if bounds and source.random() < 0.8:
            bound = source.choice(bounds)
            off = source.choice((1, -1, bound * -0.001, 1e-9)) if source.random() < 0.1 else 0
            return bound + off
        return source.choice(_NUMBERS)
    if name in _SAMPLES and source.random() < 0.95:
        return source.choice(_SAMPLES[name])
    if labels and source.random() < 0.9:
        return source.choice(_TEXTS[labels[0]])
    return source.choice(_PLAIN_TEXTS if source.random() < 0.9 else _ODD_TEXTS)


def _repaired(config: dict[str, object]) -> dict[str, object]:
    """The config without the values that have errors. Extreme values that are valid stay."""
    data: dict[str, object] = json.loads(json.dumps(config))
    for _ in range(MAX_REPAIRS):
        try:
            GatewayConfig.model_validate(data)
        except ValidationError as error:
            for detail in reversed(error.errors()):
                _repair(data, detail)
        else:
            return data
    return {}


def _repair(data: dict[str, object], detail: ErrorDetails) -> None:
    """Remove the value, or its parent if the key is required or not there."""
    path = location(detail)
    _remove(data, path[:-1] if detail["type"] == "missing" else path)


def _remove(data: dict[str, object], path: KeyPath) -> None:
    parent: object = data
    for key in path[:-1]:
        try:
            parent = parent[key]  # type: ignore[index]
        except (LookupError, TypeError):
            return  # an earlier repair has removed it
    if not path:
        for section in ("limits", "telemetry"):
            data.pop(section, None)
        for model in data.get("models", {}).values():  # type: ignore[attr-defined]
            model.pop("paths", None)
    elif isinstance(parent, dict) and path[-1] not in parent and len(path) > 1:
        _remove(data, path[:-1])  # the default is not valid here
    elif isinstance(parent, dict):
        parent.pop(path[-1], None)
    elif isinstance(parent, list) and isinstance(path[-1], int) and path[-1] < len(parent):
        del parent[path[-1]]


def _mutated(text: str, source: random.Random) -> str:
    for _ in range(source.randrange(1, 5)):
        at = source.randrange(len(text) + 1)
        end = min(len(text), at + source.choice((0, 1, 2, 8)))
        text = text[:at] + source.choice((*_ODD_TEXTS, *_SYNTAX)) + text[end:]
    return text
