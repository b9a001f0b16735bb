"""Decodes the request header blocks of one connection, with a cache of repeated blocks."""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from extproc.transport.http2.errors import AbuseError, ErrorCode, Http2ConnectionError
from extproc.transport.http2.fields import check_request
from extproc.transport.http2.header_blocks import Fields, decode_block

Request = TypeVar("Request")

CACHE_BLOCKS: Final = 64
CACHE_BLOCK_SIZE: Final = 1024
"""Requests of one Envoy differ in few fields; 64 blocks of 1 KiB bound the cache's memory."""


class _VersionedTable(HeaderTable):
    """A dynamic table with a version that grows with every change.

    `add` and `maxsize` are the only ways to change the table.
    """

    def __init__(self) -> None:
        self.version = 0
        super().__init__()

    def add(self, name: bytes, value: bytes) -> None:
        self.version += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return HeaderTable.maxsize.fget(self)  # type: ignore[attr-defined, no-any-return]

    @maxsize.setter
    def maxsize(self, size: int) -> None:
        self.version += 1
        HeaderTable.maxsize.fset(self, size)  # type: ignore[attr-defined]


class HeaderDecoder(Generic[Request]):
    """Decodes header blocks in the order of their arrival.

    A block that does not change the dynamic table decodes to the same fields until another block
    changes the table, so its result is cached until then. Envoy sends such blocks once the table
    contains the fields of its requests.
    """

    __slots__ = ("_cache", "_max_header_list", "_parse_request", "_table")

    def __init__(self, parse_request: Callable[[Fields], Request], max_header_list: int) -> None:
        self._parse_request = parse_request
        self._table = _VersionedTable()
        self._max_header_list = max_header_list
        self._cache: dict[bytes, tuple[Request, int]] = {}

    def decode_request(self, block: bytes) -> tuple[Request, int]:
        """The parsed request, and its content-length or -1.

        Raises Http2ConnectionError for an invalid block, Http2StreamError for a malformed request.
        """
        cached = self._cache.get(block)
        if cached is not None:
            return cached
        version = self._table.version
        fields = self.decode_fields(block)
        length = check_request(fields)
        result = self._parse_request(fields), length
        if self._table.version == version and len(block) <= CACHE_BLOCK_SIZE:
            if len(self._cache) >= CACHE_BLOCKS:
                self._cache.clear()
            self._cache[block] = result
        return result

    def decode_fields(self, block: bytes) -> Fields:
        """Decode any block. Blocks of closed streams must be decoded too, so that the dynamic table
        stays equal to the peer's (RFC 9113 section 4.3)."""
        version = self._table.version
        try:
            return decode_block(block, self._table, self._max_header_list, HeaderTable.DEFAULT_SIZE)
        except OversizedHeaderListError:
            raise AbuseError("max_header_list") from None
        except HPACKError as error:
            raise Http2ConnectionError(ErrorCode.COMPRESSION_ERROR, str(error)[:100]) from None
        finally:
            if self._table.version != version:  # an invalid block may have changed the table too
                self._cache.clear()
