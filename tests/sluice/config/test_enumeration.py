"""Lists of names in messages are bounded and end with a conjunction."""

import pytest

from sluice.config.enumeration import enumerated


@pytest.mark.parametrize(
    ("names", "both", "either"),
    [
        ("", "", ""),
        ("a", "a", "a"),
        ("ab", "a and b", "a or b"),
        ("abc", "a, b and c", "a, b or c"),
        ("abcde", "a, b, c and 2 more", "a, b, c or one of 2 more"),
    ],
)
def test_names_with_a_conjunction(names: str, both: str, either: str) -> None:
    assert enumerated(list(names), maximum=3) == both
    assert enumerated(list(names), "or", maximum=3) == either
