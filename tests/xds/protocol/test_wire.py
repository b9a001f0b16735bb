"""Fields are written as protobuf writes them."""

from hypothesis import given
from hypothesis import strategies as st

from protos.core_pb2 import Pipe, TypedExtensionConfig
from xds.protocol.wire import Piece, field, hashed


@given(st.text(max_size=200))
def test_a_text_is_written_as_protobuf_writes_it(text: str) -> None:
    expected = Pipe(path=text).SerializeToString() if text else b"\n\x00"
    assert b"".join(field(1, text.encode())) == expected


@given(st.lists(st.binary(max_size=30_000), min_size=1, max_size=5))
def test_a_message_may_be_given_in_parts(contents: list[bytes]) -> None:
    values = [part for content in contents for part in field(2, content)]
    message = TypedExtensionConfig.FromString(b"".join(field(2, *values)))
    assert message.typed_config.value == contents[-1]


@given(st.binary(), st.binary(), st.binary())
def test_the_hash_of_a_message_depends_on_the_content_of_its_pieces(
    head: bytes, content: bytes, other: bytes
) -> None:
    same = hashed([head, Piece.of([content])]) == hashed([head, Piece.of([other])])
    assert same == (content == other)
    assert b"".join([head, Piece.of([content, other])]) == head + content + other
