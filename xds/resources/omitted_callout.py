"""Envoy omits the callout from requests that a native route admits.

The filter that calls the callout is created for a request by a filter around it, unless the route
says to skip that one. Envoy reads the route when the request gets there, so after the token filter.
A callout route reads its cluster from a header that only the callout sets, so a request without the
callout by mistake would be refused.
"""

from typing import Final

import betterproto2
from envoy_data_plane.envoy.config.core.v3 import HeaderValue
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig as EnvoyExtension
from envoy_data_plane.envoy.extensions.common.matching.v3 import ExtensionWithMatcher
from envoy_data_plane.envoy.extensions.filters.http.composite.v3 import Composite
from envoy_data_plane.envoy.extensions.filters.http.ext_proc.v3 import ExternalProcessor
from envoy_data_plane.google.protobuf import Any as PackedMessage
from google.protobuf.any_pb2 import Any as AnyMessage

from protos.core_pb2 import TypedExtensionConfig
from protos.http_filters_pb2 import ExecuteFilterAction, ExtensionWithMatcherPerRoute, SkipFilter
from protos.matcher_pb2 import Matcher
from protos.route_pb2 import Route
from sluice.contract.headers import STAGE_METADATA
from xds.protocol.wire import field
from xds.resources import data_plane_messages
from xds.resources.proto_messages import extension, pack, serialized

EXT_PROC: Final = "envoy.filters.http.ext_proc"
"""The name of the filter that calls the callout."""

_DELEGATE: Final = "type.googleapis.com/envoy.extensions.common.matching.v3.ExtensionWithMatcher"


def omit(route: Route) -> None:
    """Envoy omits the callout from requests with this route."""
    route.typed_per_filter_config[EXT_PROC].CopyFrom(_SKIPPED)


def unless_omitted(filter_config: betterproto2.Message) -> PackedMessage:
    """The config of the filter, which Envoy creates only for requests whose route needs it.

    `ExtProcPerRoute` would also omit the callout, but each one takes Envoy much more time to load,
    and Envoy would create the filter for every request.
    """
    composite = bytes(
        EnvoyExtension(
            name="envoy.filters.http.composite", typed_config=data_plane_messages.pack(Composite())
        )
    )
    always = serialized(_created(filter_config))
    return PackedMessage(
        type_url=_DELEGATE, value=b"".join((*field(2, composite), *field(3, always)))
    )


def marked(filter_config: PackedMessage, version: str) -> AnyMessage:
    """The config of routes from which Envoy does not omit the callout, with a mark of the calls.

    `filter_config`: as `unless_omitted` returns it. Only staged Envoys have such routes: Envoy
    hashes the settings of the callout for each request, so metadata takes time.
    """
    matcher = ExtensionWithMatcher.parse(filter_config.value).xds_matcher
    assert matcher is not None
    action = Matcher.FromString(bytes(matcher)).on_no_match.action.typed_config
    created = ExecuteFilterAction.FromString(action.value).typed_config.typed_config
    callout = ExternalProcessor.parse(created.value)
    assert callout.grpc_service is not None
    callout.grpc_service.initial_metadata.append(HeaderValue(key=STAGE_METADATA, value=version))
    return pack(ExtensionWithMatcherPerRoute(xds_matcher=_created(callout)))


def _created(filter_config: betterproto2.Message) -> Matcher:
    """Creates the filter for each request."""
    created = TypedExtensionConfig(
        name=EXT_PROC, typed_config=data_plane_messages.pack_for_protos(filter_config)
    )
    create = extension("create", ExecuteFilterAction(typed_config=created))
    return Matcher(on_no_match=Matcher.OnMatch(action=create))


_SKIPPED: Final = pack(
    ExtensionWithMatcherPerRoute(
        xds_matcher=Matcher(on_no_match=Matcher.OnMatch(action=extension("skip", SkipFilter())))
    )
)
