"""Reading a document is bounded before the work, and scalars follow YAML 1.2."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.config.document import MAX_CHARACTERS, MAX_DEPTH, MAX_KEY, DocumentError, parse


def data(text: str) -> object:
    root = parse(text)
    assert root is not None
    return root.data


def error(text: str) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        parse(text)
    return caught.value


NESTED = {
    "flow": "[" * 100_000,
    "closed": "[" * 100_000 + "]" * 100_000,
    "maps": "{a: " * 100_000,
    "sequences": "- " * 100_000,
    "lines": "[\n" * 100_000,
    "blocks": "\n".join(" " * depth + "a:" for depth in range(2_000)),
    "anchors": " ".join(f"&a{number} [" for number in range(10_000)),
    "complex keys": "? " * 100_000,
}


@pytest.mark.parametrize("text", NESTED.values(), ids=NESTED)
def test_deep_nesting_is_refused(text: str) -> None:
    # In another process, because the old fault was a crash.
    code = "import sys; from sluice.config.document import parse; parse(sys.stdin.read())"
    ran = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True)
    assert ran.returncode == 1, ran.returncode
    last = ran.stderr.splitlines()[-1]
    assert "DocumentError: the file is nested more than" in last or "a key must be text" in last


def test_the_levels_are_counted_across_aliases() -> None:
    half = MAX_DEPTH // 2
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json.dumps(data(deepest)) == deepest
    nested = f"{'[' * half}{'[' * half}1{']' * half}{']' * half}"
    assert json.dumps(data(nested)) == nested
    opened, closed = "[" * half, "]" * half
    assert "nested" in error(f"[&a {opened}1{closed}, {opened}*a{closed}]").message
    assert error(f"a:\n {'[' * MAX_DEPTH}").line == 2


def test_aliases_are_counted_as_if_they_were_written_out() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "more than a million nodes" in error("\n".join(levels)).message
    long = "x" * 10_000
    aliases = ", ".join(["*a"] * (MAX_CHARACTERS // len(long)))
    assert "more than 16 Mi characters" in error(f"[&a {long}, {aliases}]").message


def test_an_alias_stands_for_its_anchor() -> None:
    root = parse("a: &x {b: [1, 2]}\nc:\n  d: *x\n")
    assert root is not None
    assert root.data == {"a": {"b": [1, 2]}, "c": {"d": {"b": [1, 2]}}}
    assert [root.line_of(path) for path in (("a", "b", 0), ("c", "d"))] == [1, 3]


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\na: 2", "the key occurs twice", 2),
        ("a: 1\n'a': 2", "the key occurs twice", 2),
        ("a: 1\n? [b]\n: 2", "a key must be text", 2),
        ("a: &x b\n*x : 2", "a key must be text", 2),
        (f"? '{'k' * (MAX_KEY + 1)}'\n: 2", "a key has more than 1024 characters", 1),
        ("a: &x [*x]", "an alias refers to itself", 1),
        ("a: *x", "the alias has no anchor", 1),
        ("a: 1\n---\nb: 1", "more than one document", 2),
        ("a:\n  - !!binary aGk=", "remove the YAML tag", 2),
        ("a: !!python/name:os.system ''", "remove the YAML tag", 1),
        ("a: !!python/object/apply:os.system [id]", "remove the YAML tag", 1),
        ("a: !!set {b}", "remove the YAML tag", 1),
        ("a: !!bool maybe", "remove the YAML tag", 1),
        ("a: !!timestamp x", "remove the YAML tag", 1),
        ('a: !!int ""', "remove the YAML tag", 1),
        ("a:\n  b: \x00", "the character U+0000 is not allowed", 2),
        ("a:\n  b: \x07", "the character U+0007 is not allowed", 2),
        ('a: "\\ud800"', "invalid Unicode character", 1),
        ("a: b: c", "not valid YAML", 1),
        ("a: 'b", "not valid YAML", 1),
    ],
)
def test_an_error_names_the_line(text: str, message: str, line: int) -> None:
    found = error(text)
    assert message in found.message
    assert found.line == line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("true", True), ("False", False),
        ("7", 7), ("-7", -7), ("+7", 7), ("010", 10), ("0o17", 15), ("0x1F", 31),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("1e999", math.inf), ("-.inf", -math.inf),
        # Text, although it is a number, a date or a boolean in YAML 1.1.
        ("1:59:59", "1:59:59"), ("1:59.5", "1:59.5"), ("1_000", "1_000"), ("0b1", "0b1"),
        ("2001-01-01", "2001-01-01"), ("2001-99-99", "2001-99-99"), ("yes", "yes"), ("off", "off"),
        ("<<", "<<"), ("=", "="), ("-", "-"), (".", "."), ("+", "+"), ("1" * 49, "1" * 49),
        ("0x" + "f" * 49, "0x" + "f" * 49), ("1" * 100_000, "1" * 100_000),
        ("'7'", "7"), ('"true"', "true"), ("!!str 7", "7"), ("! 7", "7"), ("1:59" * 999,) * 2,
    ],
)  # fmt: skip
def test_a_scalar_has_its_value_of_yaml_1_2(text: str, value: object) -> None:
    if text == "-":
        text = "'-'"
    assert data(f"a: {text}") == {"a": value}


def test_not_a_number_is_a_float() -> None:
    found = data("[.nan]")
    assert isinstance(found, list)
    assert math.isnan(found[0])


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**31), 10**31)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=10,
)


@given(_JSON)
def test_json_is_read_as_json(value: object) -> None:
    assert data(json.dumps([value], ensure_ascii=False)) == [value]


@given(st.text() | st.text("[]{}&*!|>'\"%#@,:-? \n\tab0.").map(lambda text: text * 3))
def test_any_text_is_read_or_refused(text: str) -> None:
    lines = text.count("\n") + 2
    try:
        root = parse(text)
    except DocumentError as refused:
        line = refused.line
    else:
        line = 0 if root is None else root.line
    assert 0 <= line <= lines
