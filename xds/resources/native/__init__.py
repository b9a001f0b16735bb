"""Native placement: routes with which Envoy admits requests without the callout.

Native routes only ever admit. A request that no native route admits takes its model's callout
route. So nothing here needs a refusal, and every condition may exclude more than it must.
"""

from xds.resources.native.conditions import Callers, NativeIssuer, admissible
from xds.resources.native.model import NativeModel, everywhere, operations

__all__ = [
    "Callers",
    "NativeIssuer",
    "NativeModel",
    "admissible",
    "everywhere",
    "operations",
]
