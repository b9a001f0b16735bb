"""HPACK (RFC 7541): decodes header blocks, and encodes fields without any state.

Decoding uses the tables of the `hpack` library, but not its `Decoder`: that copies the rest of the
block for each field and steps the Huffman automaton by half bytes. Tests compare the results with
`hpack.Decoder`, for blocks of encoders and for random blocks.
"""

from typing import Final

from hpack.exceptions import HPACKDecodingError, InvalidTableSizeError, OversizedHeaderListError
from hpack.hpack import decode_integer
from hpack.huffman_table import (
    HUFFMAN_COMPLETE,
    HUFFMAN_EMIT_SYMBOL,
    HUFFMAN_FAIL,
    HUFFMAN_TABLE,
)
from hpack.table import HeaderTable

Fields = list[tuple[bytes, bytes]]
"""Names and values in their order, pseudo-headers included."""

ENTRY_OVERHEAD: Final = 32
"""Bytes that each field counts beyond its name and value (RFC 9113 section 6.5.2)."""
LONGEST_INTEGER: Final = 8
"""Bytes passed to hpack for one integer: more than it accepts, so that it reports the error."""

EMPTY_DYNAMIC_TABLE: Final = b"\x20"
"""A dynamic table size update to 0 (section 6.3). It starts the first header block that we send on
a connection. Our blocks then respect any HEADER_TABLE_SIZE that the peer may set, and they are
constants for all connections."""


def decode_block(block: bytes, table: HeaderTable, max_header_list: int, max_table: int) -> Fields:
    """Decode a block; literals with incremental indexing are added to the table.

    Raises OversizedHeaderListError above `max_header_list` (RFC 9113 section 6.5.2), and another
    HPACKError for an invalid block. The table must not be used after either.
    """
    fields: Fields = []
    position = total = 0
    while position < len(block):
        first = block[position]
        if first & 0x80:  # indexed field (section 6.1)
            index, position = _decode_integer(block, position, 7)
            field = table.get_by_index(index)
        elif first & 0x60 == 0x20:  # dynamic table size update (section 6.3)
            if fields:
                raise HPACKDecodingError("table size update after a field")
            size, position = _decode_integer(block, position, 5)
            if size > max_table:
                raise InvalidTableSizeError("table size update above the limit")
            table.maxsize = size
            continue
        else:  # literal field (section 6.2)
            index, position = _decode_integer(block, position, 6 if first & 0x40 else 4)
            if index:
                name = table.get_by_index(index)[0]
            else:
                name, position = _decode_string(block, position)
            value, position = _decode_string(block, position)
            if first & 0x40:
                table.add(name, value)
            field = name, value
        fields.append(field)
        total += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
        if total > max_header_list:
            raise OversizedHeaderListError(f"header list larger than {max_header_list} bytes")
    return fields


def _decode_integer(block: bytes, position: int, prefix_bits: int) -> tuple[int, int]:
    """Section 5.1; returns the integer and the position after it."""
    largest = (1 << prefix_bits) - 1
    value = block[position] & largest
    if value < largest:
        return value, position + 1
    value, used = decode_integer(block[position : position + LONGEST_INTEGER], prefix_bits)
    return value, position + used


def _decode_string(block: bytes, position: int) -> tuple[bytes, int]:
    """Section 5.2; returns the string and the position after it."""
    if position >= len(block):
        raise HPACKDecodingError("block ends before a string")
    is_huffman = block[position] & 0x80
    length, start = _decode_integer(block, position, 7)
    stop = start + length
    if stop > len(block):
        raise HPACKDecodingError("block ends inside a string")
    text = block[start:stop]
    return (_decode_huffman(text) if is_huffman else text), stop


_Transition = tuple[int, bytes, int]
"""Next state, decoded symbols, and whether the string may end here."""
_transitions: dict[int, _Transition] = {}
"""Transitions of the Huffman automaton for whole bytes, by state and byte. Built on first use from
hpack's transitions for half bytes; 2^16 at most."""


def _decode_huffman(text: bytes) -> bytes:
    state, complete = 0, 1
    decoded = []
    for byte in text:
        key = state << 8 | byte
        transition = _transitions.get(key)
        if transition is None:
            transition = _transitions[key] = _build_transition(state, byte)
        state, symbols, complete = transition
        decoded.append(symbols)
    if not complete:
        raise HPACKDecodingError("incomplete Huffman string")
    return b"".join(decoded)


def _build_transition(state: int, byte: int) -> _Transition:
    symbols = bytearray()
    flags = 0
    for nibble in (byte >> 4, byte & 0x0F):
        state, flags, symbol = HUFFMAN_TABLE[state * 16 + nibble]
        if flags & HUFFMAN_FAIL:
            raise HPACKDecodingError("invalid Huffman string")
        if flags & HUFFMAN_EMIT_SYMBOL:
            symbols.append(symbol)
    return state, bytes(symbols), flags & HUFFMAN_COMPLETE


def encode_literal(name: bytes, value: bytes) -> bytes:
    """Encode a field as a literal without indexing and without Huffman coding (section 6.2.2).

    It refers to no table, so it is valid in every block of every connection.
    """
    return b"\x00" + _encode_string(name) + _encode_string(value)


def _encode_string(text: bytes) -> bytes:
    """Sections 5.1 and 5.2, with a prefix of 7 bits."""
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    encoded = bytearray((0x7F,))
    size -= 0x7F
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded) + text
