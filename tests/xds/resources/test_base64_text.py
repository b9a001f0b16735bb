"""Text that is found in a token without decoding it."""

from base64 import urlsafe_b64encode

from hypothesis import given
from hypothesis import strategies as st

from xds.resources.native.base64_text import spellings


@given(st.binary(max_size=8), st.text(min_size=1), st.binary(max_size=8))
def test_every_token_with_the_text_contains_a_spelling(
    before: bytes, text: str, after: bytes
) -> None:
    encoded = urlsafe_b64encode(before + text.encode() + after).decode()
    assert spellings(text)[len(before) % 3] in encoded


def test_spellings_have_all_characters_that_depend_on_the_text_alone() -> None:
    assert spellings('"crit"') == ("ImNyaXQi", "Jjcml0I", "iY3JpdC")
