"""Reads from sequence parameter sets what sources must know before a decoder sees them.

Clauses are those of ITU-T H.264 and H.265.
"""

from dataclasses import dataclass

from video.sources.bits import BitReader

MAX_SPS_BYTES = 4096
"""Bytes of a parameter set that are read. They include everything up to the fields below."""


@dataclass(frozen=True, slots=True)
class SequenceParameters:
    """The picture size in samples, and how far pictures can be out of order.

    `reorder` is the maximum number of pictures that precede a picture in decoding order and follow
    it in output order. None is unknown. `top_layer` is the highest temporal sub-layer.
    """

    width: int
    height: int
    reorder: int | None
    top_layer: int = 0


_HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Profiles with chroma_format_idc (H.264, 7.3.2.1.1)."""


def read_h264(nal: bytes) -> SequenceParameters:
    """Read an SPS with its NAL unit header (H.264, 7.3.2.1.1). Raises ValueError."""
    reader = BitReader(nal[1:MAX_SPS_BYTES])
    profile = reader.bits(8)
    intra_only = bool(reader.bits(8) & 0x10) and profile in _INTRA_PROFILES
    reader.bits(8)
    reader.unsigned()  # seq_parameter_set_id
    if profile in _HIGH_PROFILES:
        _skip_h264_formats(reader)
    reader.unsigned()  # log2_max_frame_num_minus4
    in_order = _skip_h264_order_count(reader)
    reader.unsigned()  # max_num_ref_frames
    reader.flag()
    width = 16 * (reader.unsigned() + 1)
    map_units = reader.unsigned() + 1
    frames_only = reader.flag()
    height = 16 * map_units * (1 if frames_only else 2)
    if not frames_only:
        reader.flag()
    reader.flag()  # direct_8x8_inference_flag
    if reader.flag():
        for _ in range(4):
            reader.unsigned()
    declared = _h264_reorder(reader) if reader.flag() else None
    # The baseline profile has no B slices, so that its pictures are in order (A.2.1).
    ordered = in_order or intra_only or profile == 66
    return SequenceParameters(width, height, 0 if ordered else declared)


_INTRA_PROFILES = frozenset({44, 86, 100, 110, 122, 244})
"""Profiles for which constraint_set3_flag means that all pictures are IDR pictures (A.2)."""


def _skip_h264_formats(reader: BitReader) -> None:
    chroma = reader.unsigned()
    if chroma == 3:
        reader.flag()
    reader.unsigned()
    reader.unsigned()
    reader.flag()
    if reader.flag():  # seq_scaling_matrix_present_flag
        for index in range(12 if chroma == 3 else 8):
            if reader.flag():
                _skip_h264_scaling_list(reader, 16 if index < 6 else 64)


def _skip_h264_scaling_list(reader: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + reader.signed()) % 256
        last = following or last


def _skip_h264_order_count(reader: BitReader) -> bool:
    """Skip the fields of pic_order_cnt_type. True if output order is decoding order (8.2.1.3)."""
    kind = reader.unsigned()
    if kind == 0:
        reader.unsigned()
    elif kind == 1:
        reader.flag()
        reader.signed()
        reader.signed()
        for _ in range(min(reader.unsigned(), 255)):
            reader.signed()
    return kind == 2


def _h264_reorder(reader: BitReader) -> int | None:
    """max_num_reorder_frames of the VUI parameters (E.1.1)."""
    _skip_h264_display(reader)
    if reader.flag():  # timing
        reader.bits(65)
    rates = 0
    for _ in range(2):
        if reader.flag():
            rates += 1
            _skip_h264_hrd(reader)
    if rates:
        reader.flag()
    reader.flag()  # pic_struct_present_flag
    if not reader.flag():  # bitstream_restriction_flag
        return None
    reader.flag()
    for _ in range(4):
        reader.unsigned()
    return reader.unsigned()


def _skip_h264_display(reader: BitReader) -> None:
    """Skip the VUI parameters for displaying pictures."""
    if reader.flag() and reader.bits(8) == 255:  # aspect ratio
        reader.bits(32)
    if reader.flag():  # overscan
        reader.flag()
    if reader.flag():  # video signal type
        reader.bits(4)
        if reader.flag():
            reader.bits(24)
    if reader.flag():  # chroma location
        reader.unsigned()
        reader.unsigned()


def _skip_h264_hrd(reader: BitReader) -> None:
    count = min(reader.unsigned(), 31) + 1
    reader.bits(8)
    for _ in range(count):
        reader.unsigned()
        reader.unsigned()
        reader.flag()
    reader.bits(20)


def read_h265(nal: bytes) -> SequenceParameters:
    """Read an SPS with its NAL unit header (H.265, 7.3.2.2.1). Raises ValueError."""
    reader = BitReader(nal[2:MAX_SPS_BYTES])
    reader.bits(4)
    top_layer = reader.bits(3)
    reader.flag()
    _skip_h265_profile(reader, top_layer)
    reader.unsigned()  # sps_seq_parameter_set_id
    if reader.unsigned() == 3:  # chroma_format_idc
        reader.flag()
    width, height = reader.unsigned(), reader.unsigned()
    if reader.flag():  # conformance window
        for _ in range(4):
            reader.unsigned()
    for _ in range(3):
        reader.unsigned()
    reorder = 0
    for _ in range(top_layer + 1 if reader.flag() else 1):
        reader.unsigned()  # sps_max_dec_pic_buffering_minus1
        reorder = reader.unsigned()
        reader.unsigned()
    return SequenceParameters(width, height, reorder, top_layer)


def _skip_h265_profile(reader: BitReader, top_layer: int) -> None:
    """Skip profile_tier_level (7.3.3)."""
    reader.bits(96)
    present = [(reader.flag(), reader.flag()) for _ in range(top_layer)]
    if top_layer:
        reader.bits(2 * (8 - top_layer))
    for profile, level in present:
        reader.bits((88 if profile else 0) + (8 if level else 0))
