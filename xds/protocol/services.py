"""The gRPC services of xDS: ADS for all types together, and one service for each type of Envoy.

Each service has a method for each variant of the protocol.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from protos.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from sluice.contract.paths import ADS_DELTA_METHOD, ADS_METHOD, ADS_SERVICE
from xds.protocol import resource_types
from xds.protocol.encoding import ResponseEncoder
from xds.protocol.exchange import DeltaExchange, Exchange, SotwExchange
from xds.protocol.reflection import Method, ServiceDescription
from xds.protocol.resource_types import ResourceType


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of the protocol: its messages, and the exchange on a stream.

    The arguments of `exchange`: the encoder, and whether the stream may have several types.
    """

    request: type[DiscoveryRequest] | type[DeltaDiscoveryRequest]
    response: type[DiscoveryResponse] | type[DeltaDiscoveryResponse]
    exchange: Callable[[ResponseEncoder, bool], Exchange]


SOTW: Final = Variant(DiscoveryRequest, DiscoveryResponse, SotwExchange)
DELTA: Final = Variant(DeltaDiscoveryRequest, DeltaDiscoveryResponse, DeltaExchange)


@dataclass(frozen=True, slots=True)
class DiscoveryService:
    """A gRPC service. `type`: the only type that it serves; None for ADS.

    `types`: the types that ADS serves, by the URL that a client requests; None for others.
    """

    name: str
    type: ResourceType | None
    methods: Mapping[str, Variant]
    types: Callable[[str], ResourceType | None] = field(default=resource_types.BY_URL.get)

    def type_of(self, url: str) -> ResourceType | None:
        """The type of a request; None if the service does not serve it.

        The service of one type also takes requests that name no type.
        """
        if self.type is None:
            return self.types(url)
        return self.type if url in ("", self.type.url) else None

    @property
    def description(self) -> ServiceDescription:
        """What reflection says of the service."""
        methods = {name: Method(each.request, each.response) for name, each in self.methods.items()}
        return ServiceDescription(self.name, methods)


SERVICES: Final = (
    DiscoveryService(ADS_SERVICE, None, {ADS_METHOD: SOTW, ADS_DELTA_METHOD: DELTA}),
    *(
        DiscoveryService(
            each.service, each, {f"Stream{each.method}": SOTW, f"Delta{each.method}": DELTA}
        )
        for each in resource_types.ALL
        if each.service
    ),
)
