"""Text of other processes is one printable line of bounded length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.printable import printable


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("node-1 \u00e9\u4e2d", "node-1 \u00e9\u4e2d"),
        ("a\nnode b rejected", "a\\nnode b rejected"),
        ("\x1b[2J\x9b1m\x00", "\\x1b[2J\\x9b1m\\x00"),
        ("\u202eabc\u2028", "\\u202eabc\\u2028"),
        ("x" * 21, "x" * 17 + "..."),
    ],
)
def test_what_is_not_printable_is_escaped_and_the_rest_is_truncated(text: str, line: str) -> None:
    assert printable(text, 20 if "x" * 20 in text else 100) == line


@given(st.text(st.characters()), st.integers(3, 50))
def test_every_text_becomes_printable_and_has_at_most_the_limit(text: str, limit: int) -> None:
    line = printable(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
