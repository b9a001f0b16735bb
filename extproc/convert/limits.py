"""Limits on the memory and time of one conversion, with the reasons for their values."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionLimits:
    """Limits of one conversion. Sizes are in bytes."""

    max_body: int = 10 * MIB
    """Size of a request body after decompression: 10 KB of gzip can become 10 MB."""

    max_response: int = 8 * MIB
    """Size of a response body, before and after decompression. A server chooses it, but a client
    may choose the request that leads to it."""

    max_json_memory: int = 96 * MIB
    """Memory of a parsed JSON document, estimated before parsing. The parser holds the interpreter
    lock until it has created all objects, so the limit bounds that time too. 10 MiB of numbers stay
    below the limit if a number has at least 8 characters. So do a color image of 640 x 480 pixels
    as nested arrays, and a table of 40,000 columns with one input each."""

    max_fields: int = 1 << 18
    """Fields of a protobuf message and its nested messages, counted before parsing: two bytes on
    the wire can become an input of 100 bytes. 16 integers or booleans in typed contents count as
    one, because one byte on the wire becomes a number of 8 bytes. So a request may have 4 million
    of them. A table of 40,000 columns with one input each stays below the limit."""

    max_entries: int = 40_960
    """Inputs, requested outputs and parameters of a request in total. Each takes some microseconds.
    A table of 40,000 columns with one input each stays below the limit."""

    max_bytes_elements: int = 1 << 18
    """BYTES elements of a request in total, because each is an object during conversion. A text of
    250,000 words stays below the limit."""

    max_dimensions: int = 16
    """Depth of nested `data`, and length of a shape. Common models use at most 6 dimensions."""

    max_tensor_bytes: int = 64 * MIB
    """Raw data of all tensors of a request. A JPEG of a few KiB can become a tensor of any declared
    size, and a multipart body can contain many JPEGs."""

    max_parts: int = 256
    """Parts of a multipart body, each of which is one image."""

    max_part_headers: int = 4096
    """Size of the headers of one part: Content-Disposition with a long file name, and
    Content-Type."""

    max_image_memory: int = 152 * MIB
    """Memory to decode one image, estimated from its header. With two conversions at once, a worker
    stays below 400 MB. For a small tensor, 25 million pixels fit as a PNG, and as a JPEG with three
    colors. A WebP needs 16 bytes for a pixel, so its limit is 8.6 million pixels: 3840 x 2160
    fit."""

    max_image_segments: int = 1 << 14
    """Segments of a JPEG, and chunks of a PNG or WebP. They are read one by one, and can have as
    few as 4 bytes. PNG encoders write chunks of 8 KiB or more, so 128 MiB of them fit."""

    max_jpeg_scan_pixels: int = 800_000_000
    """Pixels of JPEGs times their scans: 32 scans of 25 million pixels. Progressive encoders write
    about 10 scans. Each further scan takes a few bytes of the file, but the decoder processes every
    pixel again ("Two Issues with the JPEG Standard", libjpeg-turbo.org)."""

    max_codings: int = 2
    """Content codings of one body. Clients apply one."""


DEFAULT = ConversionLimits()
