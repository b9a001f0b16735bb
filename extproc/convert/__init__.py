"""Payload conversion: whatever the client sends, the model server gets tensors.

Build `Converters` once for each model version, `choose` by Content-Type, convert with
`Converter.request` and `Converter.response`, through a `Pool` where it may take long.
"""

from extproc.convert.converter import Converted, Converter, Converters
from extproc.convert.errors import Unconvertible
from extproc.convert.limits import Limits
from extproc.convert.pool import Pool
from extproc.convert.signature import Signature
from extproc.convert.tensor import Reply

__all__ = [
    "Converted",
    "Converter",
    "Converters",
    "Limits",
    "Pool",
    "Reply",
    "Signature",
    "Unconvertible",
]
