"""Changes of headers by Envoy: it removes those that only the gateway may set, and request
trailers, and sets the length of a converted body."""

from collections.abc import Iterable
from functools import cache
from typing import Final

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import (
    HeaderMutation,
    HeaderMutationRemoveOnMatch,
)
from envoy_data_plane.envoy.config.core.v3 import HeaderValueOption as EnvoyHeader
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutation as HeaderMutationFilter,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    HeaderMutationPerRoute as RequestMutations,
)
from envoy_data_plane.envoy.extensions.filters.http.header_mutation.v3 import (
    Mutations,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from google.protobuf.any_pb2 import Any as PackedMessage

from protos.base_pb2 import HeaderValueOption
from protos.http_filters_pb2 import HeaderMutationPerRoute
from protos.route_pb2 import Route
from sluice.contract import headers
from xds.resources import proto_messages, token_headers
from xds.resources.data_plane_messages import of_protos, pack, pack_for_protos

BODY_LENGTH_FILTER: Final = "sluice.body_length"
MODEL_SERVER_FILTER: Final = "envoy.filters.http.header_mutation"


def from_requests(with_underscores: bool) -> TypedExtensionConfig:
    """Removes internal headers from a client's request before any filter or route reads them.

    `with_underscores`: names may have underscores, so the spellings with underscores are removed.
    """
    aliases = headers.ALIASES if with_underscores else ()
    mutations = [
        HeaderMutation(remove=headers.MODEL_SERVICE),
        *_removals(
            StringMatcher(prefix=headers.INTERNAL_PREFIX),
            *(StringMatcher(safe_regex=RegexMatcher(regex=alias)) for alias in aliases),
        ),
    ]
    return TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation",
        typed_config=pack(EarlyHeaderMutation(mutations=mutations)),
    )


def at_model_server() -> HttpFilter:
    """The upstream filter between the router and the model server.

    From responses, it removes headers and trailers that only the gateway may set. A filter of the
    listener would also remove the headers that a route or a local reply has added for the client.

    From requests, it removes the headers with claims, also those that the routes do not know while
    a new config reaches Envoy. It also removes all trailers. In gRPC, a request has no trailers:
    some servers close the connection, which all clients share, and grpcio reads trailers such as
    `grpc-timeout` as headers. The routes of models that convert add a mutation (`set_lengths`).
    """
    return _at_model_server()


def at_converting_model_server() -> HttpFilter:
    """The same, which also sets the length of a converted body, for requests with every route."""
    return _at_model_server(*_set_length("REQ"))


def at_video_service(more: Iterable[HeaderMutation]) -> HttpFilter:
    """The same filter before the video service, with more mutations of requests."""
    return _at_model_server(*more)


def _at_model_server(*more: HeaderMutation) -> HttpFilter:
    removals = removed_from_responses()
    mutations = Mutations(
        request_mutations=[*_removals(StringMatcher(prefix=token_headers.PREFIX)), *more],
        response_mutations=removals,
        response_trailers_mutations=removals,
        request_trailers_mutations=_removals(StringMatcher(safe_regex=RegexMatcher(regex=".+"))),
    )
    return HttpFilter(
        name=MODEL_SERVER_FILTER,
        typed_config=pack(HeaderMutationFilter(mutations=mutations)),
    )


_KEPT_REASON: Final = "sluice-kept-reason"


def next_to_router() -> Mutations:
    """The changes by a filter of the listener, where an Envoy has no upstream filters of ours.

    They are those of `at_model_server` and `set_lengths`. The filter also sees the refusals by the
    callout, so it keeps their reason, and the headers with limits. The route must remove those of
    the model server.
    """
    reason = proto_messages.header(_KEPT_REASON, f"%RESP({headers.REASON})%")
    restored = proto_messages.header(headers.REASON, f"%RESP({_KEPT_REASON})%")
    return Mutations(
        request_mutations=[
            *_removals(StringMatcher(prefix=token_headers.PREFIX)),
            *_set_length("REQ"),
        ],
        response_mutations=[
            HeaderMutation(append=of_protos(EnvoyHeader, reason)),
            *_removals(StringMatcher(prefix=headers.INTERNAL_PREFIX)),
            HeaderMutation(append=of_protos(EnvoyHeader, restored)),
            HeaderMutation(remove=_KEPT_REASON),
        ],
        response_trailers_mutations=removed_from_responses(),
        request_trailers_mutations=_removals(StringMatcher(safe_regex=RegexMatcher(regex=".+"))),
    )


def removed_from_responses() -> list[HeaderMutation]:
    """Removes the headers or trailers of model servers that only the gateway may set."""
    return [
        *_removals(StringMatcher(prefix=headers.INTERNAL_PREFIX)),
        *(HeaderMutation(remove=name) for name in headers.RATE_LIMIT),
    ]


def copied_to_responses(*, reason: bool, limits: bool) -> list[HeaderValueOption]:
    """Headers of the decision that Envoy copies from the request to the response.

    Envoy adds none for a header that the request does not have.
    """
    sources = {headers.REASON: headers.REASON} if reason else {}
    if limits:
        sources |= {name: f"{headers.INTERNAL_PREFIX}{name}" for name in headers.RATE_LIMIT}
    return [proto_messages.header(name, f"%REQ({source})%") for name, source in sources.items()]


def converted_responses() -> HttpFilter:
    """The filter of the listener that sets `content-length` of a converted response.

    Envoy omits it from requests whose route does not convert.
    """
    mutations = Mutations(response_mutations=_set_length("RESP"))
    return HttpFilter(
        name=BODY_LENGTH_FILTER,
        typed_config=pack(HeaderMutationFilter(mutations=mutations)),
        disabled=True,
    )


def set_lengths(route: Route) -> None:
    """Let Envoy set `content-length` of converted requests and responses of a route.

    Without it, a model server that knows no chunks reads no body. Only routes that convert pay for
    the mutations.
    """
    enabled = proto_messages.pack(HeaderMutationPerRoute())
    route.typed_per_filter_config[BODY_LENGTH_FILTER].CopyFrom(enabled)
    route.typed_per_filter_config[MODEL_SERVER_FILTER].CopyFrom(_request_length())


@cache
def _request_length() -> PackedMessage:
    mutations = Mutations(request_mutations=_set_length("REQ"))
    return pack_for_protos(RequestMutations(mutations=mutations))


def _set_length(command: str) -> list[HeaderMutation]:
    """Moves the length of a converted body to `content-length`.

    `command` is the operator for the headers to read. When a request is retried, the header is
    gone, and `content-length` stays.
    """
    length = proto_messages.header("content-length", f"%{command}({headers.BODY_LENGTH})%")
    return [
        HeaderMutation(append=of_protos(EnvoyHeader, length)),
        HeaderMutation(remove=headers.BODY_LENGTH),
    ]


def _removals(*matchers: StringMatcher) -> list[HeaderMutation]:
    return [
        HeaderMutation(remove_on_match=HeaderMutationRemoveOnMatch(key_matcher=matcher))
        for matcher in matchers
    ]
