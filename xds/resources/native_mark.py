"""The mark of requests that a native route admits, by which Envoy omits the callout.

A native route sets a request header, in a filter before the callout. Clients cannot set it, and no
model server gets it. A callout route reads its cluster from a header that only the callout sets, so
a request that had the mark by mistake would be refused.
"""

from typing import Final

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig as EnvoyExtension
from envoy_data_plane.envoy.extensions.filters.http.composite.v3 import Composite
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import HeaderMutation
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any as PackedMessage

from protos.core_pb2 import TypedExtensionConfig
from protos.http_filters_pb2 import ExecuteFilterAction, HeaderMutationPerRoute
from protos.matcher_pb2 import Matcher
from protos.route_pb2 import Route
from sluice.contract.headers import INTERNAL_PREFIX
from xds.protocol.wire import field
from xds.resources import data_plane_messages
from xds.resources.native.predicates import first_of, is_exactly, negated
from xds.resources.proto_messages import extension, header, pack, serialized

MARK: Final = f"{INTERNAL_PREFIX}native"
FILTER: Final = "sluice.native_mark"

_DELEGATE: Final = "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher"
_YES: Final = "true"


def mark_filter() -> HttpFilter:
    """The filter that sets the mark, for requests with a native route."""
    return HttpFilter(name=FILTER, typed_config=data_plane_messages.pack(HeaderMutation()))


def mark(route: Route) -> None:
    """Requests with this route get the mark."""
    route.typed_per_filter_config[FILTER].CopyFrom(_MARKED)


def unless_marked(name: str, filter_config: betterproto2.Message) -> PackedMessage:
    """The config of a filter that Envoy creates only for requests without the mark."""
    created = TypedExtensionConfig(
        name=name, typed_config=data_plane_messages.pack_for_protos(filter_config)
    )
    create = Matcher.OnMatch(action=extension("create", ExecuteFilterAction(typed_config=created)))
    matcher = serialized(first_of([(negated(is_exactly(MARK, _YES)), create)]))
    composite = bytes(
        EnvoyExtension(
            name="envoy.filters.http.composite", typed_config=data_plane_messages.pack(Composite())
        )
    )
    return PackedMessage(
        type_url=_DELEGATE, value=b"".join((*field(2, composite), *field(3, matcher)))
    )


_MARKED: Final = pack(
    HeaderMutationPerRoute(
        mutations=HeaderMutationPerRoute.Mutations(
            request_mutations=[HeaderMutationPerRoute.Mutation(append=header(MARK, _YES))]
        )
    )
)
