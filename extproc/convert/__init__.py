"""Converts JSON, images, protobuf and raw bytes of clients into tensors for model servers.

Build `Converters` once for each model version. `Converters.choose` returns the converter for a
Content-Type. `ConversionPool` runs the conversions: large bodies on a thread, small ones at once.
"""

from extproc.convert.content_coding import ACCEPTED_CODINGS
from extproc.convert.converted_message import ConvertedMessage
from extproc.convert.converter import Converter
from extproc.convert.converters import Converters
from extproc.convert.errors import ConversionError
from extproc.convert.inference import Query, ResponseOptions
from extproc.convert.limits import ConversionLimits
from extproc.convert.pool import CallerPool, Conversion, ConversionPool
from extproc.convert.signature import Signature

__all__ = [
    "ACCEPTED_CODINGS",
    "CallerPool",
    "Conversion",
    "ConversionError",
    "ConversionLimits",
    "ConversionPool",
    "ConvertedMessage",
    "Converter",
    "Converters",
    "Query",
    "ResponseOptions",
    "Signature",
]
