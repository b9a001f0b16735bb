"""Payload conversion: whatever the client sends, the model server gets tensors.

Build `Converters` once for each model version, `choose` by Content-Type, convert with
`Converter.request` and `Converter.response`, through a `ConversionPool` where it may take long.
"""

from extproc.convert.converter import ConvertedMessage, Converter, Converters
from extproc.convert.errors import ConversionError
from extproc.convert.limits import ConversionLimits
from extproc.convert.pool import ConversionPool
from extproc.convert.signature import Signature
from extproc.convert.tensor import ResponseOptions

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
