"""Removes internal headers from responses that neither accept a WebSocket nor are errors.

Envoy sends such a response (200, 301 ...) to the client as a local reply with the headers of the
model server, past the upstream filters, which remove these headers from all other responses
(source/common/router/upstream_codec_filter.cc). So the local reply gets a mark, and a filter of the
listener changes the responses with the mark.
"""

from typing import Final

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation as Mutation
from envoy_data_plane.envoy.config.core.v3 import HeaderValueOption, TypedExtensionConfig
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.filters.common.matcher.action.v3 import SkipFilter
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation,
    Mutations,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.type.matcher.v3 import HttpResponseHeaderMatchInput
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig as MatcherExtension
from envoy_data_plane.xds.type.matcher.v3 import (
    Matcher,
    MatcherMatcherList,
    MatcherMatcherListFieldMatcher,
    MatcherMatcherListPredicate,
    MatcherMatcherListPredicateSinglePredicate,
    MatcherOnMatch,
    StringMatcher,
)

from protos.route_pb2 import Route
from sluice.contract.headers import INTERNAL_PREFIX
from xds.resources import header_mutations
from xds.resources.data_plane_messages import of_protos, pack
from xds.resources.proto_messages import enabled, header

_FILTER: Final = "sluice.failed_handshake"
_MARK: Final = f"{INTERNAL_PREFIX}failed-handshake"
_YES: Final = "true"


def mark() -> HeaderValueOption:
    """The response header that marks a local reply with the headers of a model server."""
    return of_protos(HeaderValueOption, header(_MARK, _YES))


def response_filter(expose_reason: bool) -> HttpFilter:
    """The filter. Envoy omits it from requests whose route does not enable it.

    The route has added the headers of the gateway before those of the model server, so the filter
    adds them again.
    """
    copied = header_mutations.copied_to_responses(reason=expose_reason, limits=True)
    mutations = header_mutations.removed_from_responses()
    mutations += (Mutation(append=of_protos(HeaderValueOption, each)) for each in copied)
    changed = HeaderMutation(mutations=Mutations(response_mutations=mutations))
    config = ExtensionWithMatcher(
        xds_matcher=_skip_without_mark(),
        extension_config=TypedExtensionConfig(name=_FILTER, typed_config=pack(changed)),
    )
    return HttpFilter(name=_FILTER, typed_config=pack(config), disabled=True)


def enable(route: Route) -> None:
    """Enable the filter for the requests of a route."""
    route.typed_per_filter_config[_FILTER].CopyFrom(enabled())


def omit(route: Route) -> None:
    """Undo `enable`, for a copy of the route that gets no handshakes."""
    if _FILTER in route.typed_per_filter_config:
        del route.typed_per_filter_config[_FILTER]


def _skip_without_mark() -> Matcher:
    name = HttpResponseHeaderMatchInput(header_name=_MARK)
    marked = MatcherMatcherListPredicateSinglePredicate(
        input=MatcherExtension(name="response_header", typed_config=pack(name)),
        value_match=StringMatcher(exact=_YES),
    )
    unmarked = MatcherMatcherListPredicate(
        not_matcher=MatcherMatcherListPredicate(single_predicate=marked)
    )
    skip = MatcherExtension(name="skip", typed_config=pack(SkipFilter()))
    case = MatcherMatcherListFieldMatcher(predicate=unmarked, on_match=MatcherOnMatch(action=skip))
    return Matcher(matcher_list=MatcherMatcherList(matchers=[case]))
