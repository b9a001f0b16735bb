"""Headers that Envoy removes because only the gateway may set them, and trailers of requests."""

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutation,
    HeaderMutationRemoveOnMatch,
)
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation as HeaderMutationFilter,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import Mutations
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from sluice.contract import headers
from xds.resources.messages import pack


def from_requests() -> TypedExtensionConfig:
    """Removes internal headers from a client's request before any filter or route reads them."""
    mutations = _removals(
        StringMatcher(exact=headers.MODEL_SERVICE), StringMatcher(prefix=headers.INTERNAL_PREFIX)
    )
    return TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation",
        typed_config=pack(EarlyHeaderMutation(mutations=mutations)),
    )


def at_model_server() -> HttpFilter:
    """Removes headers and trailers that only the gateway may set from a model server's response.

    An upstream filter, between the router and the model server. A filter of the listener would also
    remove the headers that a route or a local reply has added for the client.

    It also removes all trailers from requests. In gRPC, a request has no trailers: some servers
    close the connection, which all clients share, and grpcio reads trailers such as `grpc-timeout`
    as headers.
    """
    removals = _removals(
        StringMatcher(prefix=headers.INTERNAL_PREFIX),
        *(StringMatcher(exact=name) for name in headers.RATE_LIMIT),
    )
    mutations = Mutations(
        response_mutations=removals,
        response_trailers_mutations=removals,
        request_trailers_mutations=_removals(StringMatcher(safe_regex=RegexMatcher(regex=".+"))),
    )
    return HttpFilter(
        name="envoy.filters.http.header_mutation",
        typed_config=pack(HeaderMutationFilter(mutations=mutations)),
    )


def _removals(*matchers: StringMatcher) -> list[HeaderMutation]:
    return [
        HeaderMutation(remove_on_match=HeaderMutationRemoveOnMatch(key_matcher=matcher))
        for matcher in matchers
    ]
