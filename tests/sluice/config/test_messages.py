"""Every message of every key, for every wrong value, says what to write and shows no internals."""

import json
import re
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

import pytest

from sluice.config import ConfigError, GatewayConfig
from sluice.config.load import loads
from sluice.config.schema import fields, is_section, sections

Config = Callable[[object], object]
"""A config with a value at the place of a key."""

WRONG_VALUES: tuple[object, ...] = (
    None, True, "", "x", "a b", "5", "-1", -1, 0, 2.5, 10**30, float("inf"), float("nan"), [], {},
    ["x"], {"x": 1}, [{}], "10MB", "5 sec", "http://host:80", "300.1.1.1:80", "a" * 5000, "a\nb",
)  # fmt: skip

_REQUIRED: dict[str, object] = {
    "role": "reader",
    "address": "127.0.0.1:1",
    "algorithms": ["RS256"],
    "audiences": ["a"],
    "boxes": "b",
    "burst": 1,
    "callout": {"token_file": "a"},
    "certificate": "c",
    "datatype": "FP32",
    "descriptors": [{"key": "a"}],
    "dns": {"name": "a", "port": 1},
    "duration": "10s",
    "endpoints": [{"address": "127.0.0.1:1"}],
    "hosts": ["a.example"],
    "envoy": {"token_file": "b"},
    "folder": "/f",
    "height": 1,
    "issuer": "i",
    "key": "subject",
    "match": {"ids": ["a"]},
    "model": "m",
    "name": "a",
    "origins": ["*"],
    "otlp": {"address": "127.0.0.1:1"},
    "part": "subject",
    "password": {"env": "A"},
    "path": "/p",
    "percent": 5,
    "port": 1,
    "private_key": "k",
    "rate": 1,
    "secret_file": "s",
    "service": "s",
    "sha256": "1a" * 32,
    "shape": [1],
    "url": "rtsp://192.0.2.1/a",
    "username": "u",
    "value": "x",
    "values": ["a"],
    "version": "v1",
    "versions": {"v1": {"endpoints": [{"address": "127.0.0.1:1"}]}},
    "width": 1,
}
"""Valid values of the required keys."""

_INTERNALS = re.compile(
    r"[Ii]nput should|instance of|dictionary|tuple|unable to parse|validation|pattern|regex|type="
    r"|string|integer|field required|less than or equal|\^|\[A-Za-z|write a valid value|"
    + "|".join(rf"\b{section.__name__}\b" for _, section in sections())
)
"""What only a programmer of the schema knows. Names of sections are those of Python's classes."""


def _configs(annotation: object, wrap: Config, depth: int = 0) -> Iterator[Config]:
    """A config for every place of the schema where a value can be."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if is_section(annotation):
        if depth < 12:  # descriptors contain descriptors
            for name, field in fields(annotation).items():
                yield from _key(annotation, name, field.annotation, wrap, depth)
    elif origin is Annotated:
        yield from _configs(arguments[0], wrap, depth)
    elif origin in (Union, UnionType):
        for each in arguments:
            yield from _configs(each, wrap, depth)
    elif origin is tuple:
        yield lambda value: wrap([value])
        yield from _configs(arguments[0], lambda value: wrap([value]), depth + 1)
    elif origin is dict:
        yield lambda value: wrap({"a": value})
        yield lambda value: wrap({str(value): {}})
        yield from _configs(arguments[1], lambda value: wrap({"a": value}), depth + 1)


def _key(
    section: object, name: str, annotation: object, wrap: Config, depth: int
) -> Iterator[Config]:
    assert is_section(section)
    fields = section.model_fields.items()
    others = {key: _REQUIRED[key] for key, field in fields if field.is_required() and key != name}

    def at(value: object) -> object:
        return wrap({**others, name: value})

    yield at
    yield from _configs(annotation, at, depth + 1)


def test_every_message_says_what_to_write() -> None:
    messages = set()
    for config in _configs(GatewayConfig, lambda value: value):
        for value in WRONG_VALUES:
            try:
                loads(json.dumps(config(value)), "gateway.yaml")
            except ConfigError as error:
                for problem in error.problems:
                    assert problem.file == "gateway.yaml"
                    assert problem.line == 1
                    assert problem.key
                    messages.add(problem.message)
    without_values = {re.sub(r"'.*?'|\".*?\"|allowed keys: .*", "", each) for each in messages}
    assert {each for each in without_values if _INTERNALS.search(each)} == set()
    assert len(without_values) > 150


MODEL = "models: {a: {versions: {v1: {endpoints: [{address: 'h:1'}]}}, "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models: []", "models: write a map from names to sections, or {} for none, not a list"),
        ("models:", "models: write a map from names to sections, or {} for none, not null"),
        ("models: {a: x}", "models.a: write a map with the key versions, not text"),
        ("limits: {listener: 5}", "write a map with the keys rate and burst, not a number"),
        ("listener: x", "write a map with keys such as address, tls, trusted_hops, handshake_time"),
        ("models: {a b: {}}", "write a name of 1 to 63 letters, digits and . _ -"),
        ("telemetry: {otlp_log: {}}", "telemetry.otlp_log.address: the key is required"),
        ("limits: {backend: {kind: redi}}", "kind: write memory or redis (did you mean redis?)"),
        ("envoy: {log_level: INFO}", "(did you mean info?), not 'INFO'"),
        ("envoy: {concurrency: many}", "envoy.concurrency: write a whole number, not 'many'"),
        ("envoy: {concurrency: 1.5}", "envoy.concurrency: write a whole number, not 1.5"),
        ("envoy: {concurrency: true}", "envoy.concurrency: write a number, not true or false"),
        ("envoy: {runtime: {sluice.native.x: 1}}", "begin with sluice. belong to the gateway"),
        ("envoy: {runtime: {a: [1]}}", "runtime.a: write a number, a text, or true or false"),
        ("envoy: {concurrency: 0}", "write a number of at least 1, not 0"),
        ("envoy: {max_heap: 5KiB}", "write a size of at least 64MiB, not 5KiB"),
        ("envoy: {max_heap: 5 MB}", "write a size as a number and a unit, such as 512KiB, 10MiB "),
        ("callout: {message_timeout: 90s}", "write a duration of at most 1m, not 90s"),
        ("callout: {message_timeout: 5}", ""),
        ("callout: {message_timeout: []}", "write a duration as a number and a unit, such as 250"),
        ("requests: {expose_reason: on!}", "write true or false, not 'on!'"),
        ("telemetry: {access_log: {output: 5}}", "write text: put the value in quotes, not 5"),
        ("auth: {issuers: {}}", "write a list, whose items begin with a dash, or [] for none, not"),
        ("control_plane: {allowed_hosts: h}", "write a list, such as [h], not text"),
        (MODEL + "inputs: [{name: x, datatype: FP32, shape: 1}]}}", "a list, such as [1], not a n"),
        (MODEL + "methods: true}}", "models.a.methods: write a list, such as [a, b], not true"),
        ("models: {a: {versions: []}}", "versions: write a map from names to sections, not a list"),
        ("listener: {address: 8080}", "write an address as host:port, such as 127.0.0.1:8080, not"),
        (
            MODEL + "access: {public: true, allow: [{groups: [g]}]}}}",
            "models.a.access.allow: a pub",
        ),
        ("envoy: {admin: '0.0.0.0:1'}", "envoy.admin: other machines can reach 0.0.0.0:1: write"),
        (
            "callout: {address: 'h:65535'}",
            "callout.workers: worker 1 would have a port above 65535",
        ),
    ],
)
def test_a_message_fits_the_key(text: str, expected: str) -> None:
    if not expected:
        loads(text)
        return
    with pytest.raises(ConfigError) as caught:
        loads(text, "gateway.yaml")
    assert expected in str(caught.value)


def test_a_message_shows_no_value_of_a_section_with_secrets() -> None:
    text = """
auth:
  api_keys: [{name: swordfish 1, sha256: swordfish}]
  token_cache_entries: swordfish
  api_key_header: "swordfish swordfish"
limits: {backend: {prefix: sword fish, kind: swordfish}}
listener: {tls: {certificate: [swordfish], private_key: 5}}
"""
    with pytest.raises(ConfigError) as caught:
        loads(text)
    assert len(caught.value.problems) == 8
    assert "swordfish" not in str(caught.value)


def test_a_value_of_the_right_type_that_is_not_shown_has_no_type() -> None:
    """`not a number` would be wrong about a duration above the maximum."""
    issuer = "{issuer: i, audiences: [a], algorithms: [RS256], jwks_file: f, leeway: 1h}"
    with pytest.raises(ConfigError) as caught:
        loads(f"auth: {{issuers: [{issuer}], token_cache_entries: x}}")
    leeway, entries = map(str, caught.value.problems)
    assert leeway.endswith("leeway: write a duration of at most 10m")
    assert entries.endswith("token_cache_entries: write a whole number, not text")


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("models:\n\ta: 1\n", 2, "a tab indents the line: use spaces"),
        ("models:\n  a:\n  \tb: 1\n", 3, "a tab indents the line: use spaces"),
        ("a: b: c\n", 1, 'write a value that contains ": " in quotes'),
        ("a:\n  b: 1\n c: 2\n", 3, "check the indentation: keys of one map begin in the same col"),
        ("a: [1, 2\nb: 3\n", 2, "a list has no closing ]"),
        ("a: {b: 1\nc: 3\n", 2, "no comma between two keys; it begins in line 1"),
        ("a: 1\nb: 'x\nc: 1\n", 4, "a quote is not closed; it begins in line 2"),
        ("a: @x\n", 1, "write text that begins with @ in quotes"),
        ('a: "C:\\d"\n', 1, "use single quotes"),
        ("models:\n  a:1\n  b: 1\n", 3, "write a value that contains"),
        ("a: {{ x }}\n", 1, "write text that begins with { or [ in quotes"),
    ],
)
def test_a_syntax_error_says_what_to_write(text: str, line: int, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    (problem,) = caught.value.problems
    assert problem.line == line
    assert expected in problem.message
