"""How much one conversion may hold in memory, each limit with the reason for its value."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionLimits:
    """Sizes in bytes."""

    max_body: int = 10 * MIB
    """A request body after its content coding is undone: a 10 KB gzip bomb holds 10 MB."""

    max_json_memory: int = 256 * MIB
    """Estimate of what a JSON document takes once parsed, made before parsing. Numbers take up to
    20 times their text and empty objects 30 times; 10 MiB of ordinary numbers stay below."""

    max_fields: int = 1 << 18
    """Fields of a protobuf message and of those within it, counted before parsing: two bytes become
    100 as an input. Contents count as one field, and their elements of BYTES to a number of their
    own, this one too: each becomes 250 bytes for a while. A table of 40,000 columns, each an input,
    stays below, and so does a text of 250,000 words."""

    max_dimensions: int = 16
    """Nesting of `data`, and length of a shape. Real tensors have at most 6."""

    max_tensor_bytes: int = 64 * MIB
    """All tensors of a request together, as the model server gets them. A JPEG of a few KiB can
    become a tensor of any declared size, and multipart bodies hold many."""

    max_parts: int = 256
    """Parts of a multipart body."""

    max_part_headers: int = 4096
    """Header bytes of one part: a disposition, a type and a long file name."""

    max_jpeg_passes: int = 800_000_000
    """Pixels times scans of a JPEG. Progressive encoders write about 10 scans; each further one
    takes a few bytes, and costs the decoder a pass over every pixel ("Two Issues with the JPEG
    Standard", libjpeg-turbo.org). 32 scans of 25 million pixels."""

    max_codings: int = 2
    """Content codings on top of one another."""


DEFAULT = ConversionLimits()
