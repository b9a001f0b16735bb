"""An edit of a config's text gives exactly the wanted data, and leaves other lines as they are."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.config import edit
from sluice.config.document import parse
from sluice.config.render import render

TEXT = """\
# The gateway.
listener:
  address: 127.0.0.1:8080  # public
# All models.
models:
  # The first.
  a:
    versions: {v1: {endpoints: [{address: "127.0.0.1:1"}]}}

  # The second.
  b:
    type: |
      # no comment
    versions: {v1: {endpoints: [{address: "127.0.0.1:2"}]}}
# Limits follow.
limits:
  listener: null
"""
VERSION = {"versions": {"v1": {"endpoints": [{"address": "127.0.0.1:3"}]}}}

scalars = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=20)
scalars |= st.floats(allow_nan=False) | st.sampled_from(["1e3", "0o17", "no", "1:30", "~", "- a"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner)
)
texts = st.sampled_from(
    [
        TEXT,
        TEXT.replace("\n", "\r\n"),
        TEXT.rstrip("\n"),
        TEXT.partition("limits:")[0],
        "---\n" + TEXT + "...\n",
        render(parse(TEXT).data),  # type: ignore[union-attr]
        TEXT.replace("a:\n", "a: &a\n", 1) + "# *a\n",
        "{}\n",
        "models: {}\n",
        "models:\n",
        '{"models": {"a": {"stable": "v1"}, "b": {}}, "limits": {}}',
        "limits: {}\nmodels: {a: {}, b: {stable: '# x'}}\n",
        "",
    ]
)


def data(text: str) -> Any:
    root = parse(text)
    return {} if root is None or root.data is None else root.data


def models(text: str) -> Any:
    return data(text).get("models") or {}


@given(values)
def test_rendered_data_is_read_as_the_same_data(value: object) -> None:
    root = parse(render({"key": value}))
    assert root is not None
    assert root.data == {"key": value}


@given(texts, st.sampled_from(["a", "b", "c"]), values)
def test_a_model_is_replaced_or_added(text: str, name: str, value: object) -> None:
    edited = edit.with_model(text, name, {"x": value})
    assert models(edited) == {**models(text), name: {"x": value}}
    assert list(data(edited)) == list({**data(text), "models": None})
    assert edit.model_data(edited, name) == {"x": value}


@given(texts, st.sampled_from(["a", "b"]))
def test_a_model_is_removed(text: str, name: str) -> None:
    if name in models(text):
        left = {key: value for key, value in models(text).items() if key != name}
        assert data(edit.without_model(text, name)) == {**data(text), "models": left}


@given(texts, st.sampled_from(["limits", "models", "listener", "auth"]), values)
def test_a_section_is_replaced_added_or_removed(text: str, key: str, value: object) -> None:
    edited = edit.with_section(text, key, {"x": value})
    assert data(edited) == {**data(text), key: {"x": value}}
    removed = edit.with_section(edited, key, None)
    assert data(removed) == {k: v for k, v in data(text).items() if k != key}


def test_other_lines_and_comments_stay() -> None:
    edited = edit.with_model(TEXT, "a", VERSION)
    rendered = """\
  a:
    versions:
      v1:
        endpoints:
        - address: 127.0.0.1:3
"""
    before, after = TEXT.index("  a:\n"), TEXT.index("\n  # The second.")
    assert edited == TEXT[:before] + rendered + TEXT[after:]
    assert edit.with_section(TEXT, "limits", {"listener": None}) == TEXT
    assert edit.without_model(TEXT, "b") == TEXT[: TEXT.index("  b:")] + TEXT[TEXT.index("# Lim") :]


@pytest.mark.parametrize("text", [TEXT, "models: {}\n", "", "{}"])
def test_a_text_without_the_model_or_section_has_no_data_of_it(text: str) -> None:
    assert edit.model_data(text, "c") is None
    assert edit.section_data(text, "auth") is None
    assert edit.sections(TEXT).keys() == {"listener", "limits"}
