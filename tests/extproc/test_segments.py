"""Content in several buffers gets a head without a copy of the large buffers."""

import pytest

from extproc.segments import Buffer, Content, Segments, prefixed


@pytest.mark.parametrize(
    "content",
    [b"abcd", Segments(b"ab", b"cd"), Segments(memoryview(b"abc"), b"d"), Segments(b"abcd")],
)
def test_a_head_precedes_the_content(content: Content) -> None:
    assert bytes(prefixed(b"head", content)) == b"headabcd"
    assert len(prefixed(b"head", content)) == 8
    assert bytes(content) == b"abcd"


@pytest.mark.parametrize("first", [b"short", memoryview(b"large")])
def test_a_head_is_joined_only_with_a_first_buffer_of_bytes(first: Buffer) -> None:
    large = memoryview(bytes(100))
    buffers = Segments(first, large).prefixed(b"head").buffers
    assert buffers[-1] is large
    assert len(buffers) == (2 if isinstance(first, bytes) else 3)
