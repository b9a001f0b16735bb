"""HTTP/2 error codes, and the two kinds of error that a peer can cause (RFC 9113 section 5.4)."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Http2ConnectionError(Exception):
    """An error that ends the connection with GOAWAY (section 5.4.1)."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class AbuseError(Http2ConnectionError):
    """The peer exceeded an abuse limit; `limit` is the name of the limit."""

    def __init__(self, limit: str) -> None:
        super().__init__(ErrorCode.ENHANCE_YOUR_CALM, f"limit exceeded: {limit}")
        self.limit = limit


class Http2StreamError(Exception):
    """An error that ends one stream with RST_STREAM; the other streams go on (section 5.4.2)."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason
