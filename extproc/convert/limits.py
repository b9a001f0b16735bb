"""Bounds on the memory and time of one conversion, each with the reason for its value."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionLimits:
    """Bounds of one conversion. Sizes are in bytes."""

    max_body: int = 10 * MIB
    """A request body after decompression: 10 KB of gzip can become 10 MB."""

    max_json_memory: int = 256 * MIB
    """Estimated memory of a parsed JSON document. The estimate is made before parsing. Numbers take
    up to 20 times the memory of their text, empty objects 30 times. 10 MiB of common numbers stay
    below the limit."""

    max_fields: int = 1 << 18
    """Fields of a protobuf message and its nested messages, counted before parsing: two bytes on
    the wire can become an input of 100 bytes. Typed contents count as one field; their BYTES
    elements have the same limit on their own, because each takes 250 bytes during conversion. A
    table of 40,000 columns with one input each stays below the limit, and so does a text of 250,000
    words."""

    max_dimensions: int = 16
    """Depth of nested `data` and length of a shape. Common models use at most 6."""

    max_tensor_bytes: int = 64 * MIB
    """Raw data of all tensors of a request. A JPEG of a few KiB can become a tensor of any declared
    size, and a multipart body can contain many."""

    max_parts: int = 256
    """Parts of a multipart body."""

    max_part_headers: int = 4096
    """Header bytes of one part: a disposition with a long file name, and a type."""

    max_jpeg_scan_pixels: int = 800_000_000
    """Pixels of a JPEG times its scans: 32 scans of 25 million pixels. Progressive encoders write
    about 10 scans. Each further scan takes a few bytes of the file, but the decoder processes every
    pixel again ("Two Issues with the JPEG Standard", libjpeg-turbo.org)."""

    max_codings: int = 2
    """Content codings that are applied to one body."""


DEFAULT = ConversionLimits()
