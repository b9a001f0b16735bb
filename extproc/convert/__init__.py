"""Payload conversion: clients send JSON, images, protobuf or bytes, the model server gets tensors.

Build `Converters` once for each model version. `Converters.choose` returns the converter for a
Content-Type. `ConversionPool` converts requests and responses with it, large ones on a thread.
"""

from extproc.convert.converter import ConvertedMessage, Converter, Converters
from extproc.convert.errors import ConversionError
from extproc.convert.inference import ResponseOptions
from extproc.convert.limits import ConversionLimits
from extproc.convert.pool import ConversionPool
from extproc.convert.signature import Signature

__all__ = [
    "ConversionError",
    "ConversionLimits",
    "ConversionPool",
    "ConvertedMessage",
    "Converter",
    "Converters",
    "ResponseOptions",
    "Signature",
]
