"""Telemetry that Envoy sends: reports to the callout, log records and spans to collectors.

Reports, records and spans contain only headers that Sluice has set, and parts of the request that
contain no credential.
"""

from collections.abc import Iterator

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.core.v3 import ApiVersion
from envoy_data_plane.envoy.config.trace.v3 import OpenTelemetryConfig, TracingHttp
from envoy_data_plane.envoy.extensions.access_loggers.grpc.v3 import (
    CommonGrpcAccessLogConfig,
    HttpGrpcAccessLogConfig,
)
from envoy_data_plane.envoy.extensions.access_loggers.open_telemetry.v3 import (
    OpenTelemetryAccessLogConfig,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManagerTracing,
)
from envoy_data_plane.envoy.type.tracing.v3 import CustomTag, CustomTagHeader
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.opentelemetry.proto.common.v1 import AnyValue, KeyValue, KeyValueList

from protos.cluster_pb2 import Cluster, Http2ProtocolOptions
from sluice.config.telemetry import OtlpExport, Reports, Telemetry, Tracing
from sluice.contract import headers, names
from sluice.user_agent import USER_AGENT
from xds.resources import upstream
from xds.resources.endpoints import contain_endpoints
from xds.resources.messages import grpc_service, pack, seconds


def _by_gateway(header: str) -> str:
    """The format of a request header that only the gateway may set.

    Envoy removes the client's before it chooses a route. If it refuses a request before, it has not
    removed them, and this format reads a header without a name, which no request has.
    """
    return f"%CEL(request.headers[xds.route_name == '' ? '' : '{header}'])%"


_ATTRIBUTES = {
    "http.request.method": "%REQ(:METHOD)%",
    "url.path": "%PATH(NQ:ORIG_OR_PATH)%",
    "network.protocol.name": "%PROTOCOL%",
    "http.response.status_code": "%RESPONSE_CODE%",
    "http.request.body.size": "%BYTES_RECEIVED%",
    "http.response.body.size": "%BYTES_SENT%",
    "user_agent.original": "%REQ(USER-AGENT):512%",
    "server.upstream.address": "%UPSTREAM_HOST%",
    "sluice.duration_ms": "%DURATION%",
    "sluice.flags": "%RESPONSE_FLAGS%",
    "sluice.details": "%RESPONSE_CODE_DETAILS%",
    "sluice.request_id": _by_gateway(headers.REQUEST_ID),
    "sluice.service": _by_gateway(headers.MODEL_SERVICE),
    "sluice.subject": _by_gateway(headers.SUBJECT),
    "sluice.reason": _by_gateway(headers.REASON),
    "sluice.canary": _by_gateway(headers.CANARY),
}
"""Attributes of a log record, with the names of OpenTelemetry if it defines the attribute."""

_TAGS = {
    "sluice.service": headers.MODEL_SERVICE,
    "sluice.model": headers.MODEL,
    "sluice.subject": headers.SUBJECT,
    "sluice.reason": headers.REASON,
    "sluice.canary": headers.CANARY,
}
"""Attributes of a span, and the request headers of the callout that contain them."""

_CHOSEN_VERSION = (
    f"%CEL('{headers.MODEL_SERVICE}' in request.headers"
    f" ? request.headers['{headers.MODEL_VERSION}'] : '')%"
)
"""The version that the callout has chosen. In a refused request, the header is the client's."""

_URL = "%REQ(:SCHEME)%://%REQ(:AUTHORITY)%%PATH(NQ:ORIG_OR_PATH)%"
"""Replaces Envoy's `http.url`, which contains the query. Clients may put secrets in the query."""


def access_logs(telemetry: Telemetry) -> list[AccessLog]:
    """The HttpConnectionManager's access_log."""
    logs = []
    if telemetry.reports.enabled:
        logs.append(
            AccessLog(
                name="envoy.access_loggers.http_grpc",
                typed_config=pack(_reports(telemetry.reports)),
            )
        )
    if telemetry.otlp_log is not None:
        logs.append(
            AccessLog(
                name="envoy.access_loggers.open_telemetry",
                typed_config=pack(_records(telemetry.otlp_log)),
            )
        )
    return logs


def tracing(settings: Tracing | None) -> HttpConnectionManagerTracing | None:
    """The HttpConnectionManager's tracing. A sampled traceparent of a client is traced too."""
    if settings is None:
        return None
    collector = OpenTelemetryConfig(
        grpc_service=grpc_service(names.OTLP_TRACE_CLUSTER), service_name=settings.otlp.service_name
    )
    return HttpConnectionManagerTracing(
        provider=TracingHttp(name="envoy.tracers.opentelemetry", typed_config=pack(collector)),
        random_sampling=Percent(value=settings.sampling),
        # The span of a request gets child spans for the model server and for the callout.
        spawn_upstream_span=True,
        custom_tags=[
            CustomTag(tag="http.url", value=_URL),
            CustomTag(tag="sluice.version", value=_CHOSEN_VERSION),
            CustomTag(tag="sluice.details", value="%RESPONSE_CODE_DETAILS%"),
            *(
                CustomTag(tag=tag, request_header=CustomTagHeader(name=header))
                for tag, header in _TAGS.items()
            ),
        ],
    )


def collectors(telemetry: Telemetry) -> Iterator[Cluster]:
    """The clusters of the configured OpenTelemetry collectors."""
    if telemetry.otlp_log is not None:
        yield _collector(names.OTLP_LOG_CLUSTER, telemetry.otlp_log)
    if telemetry.tracing is not None:
        yield _collector(names.OTLP_TRACE_CLUSTER, telemetry.tracing.otlp)


def _reports(reports: Reports) -> HttpGrpcAccessLogConfig:
    return HttpGrpcAccessLogConfig(
        common_config=CommonGrpcAccessLogConfig(
            log_name="sluice",
            grpc_service=grpc_service(names.CALLOUT_CLUSTER),
            transport_api_version=ApiVersion.V3,
            buffer_flush_interval=seconds(reports.flush_interval),
            buffer_size_bytes=reports.buffer_size,
        ),
        additional_request_headers_to_log=list(headers.REPORTED),
        additional_response_headers_to_log=[headers.GRPC_STATUS, headers.LIMIT],
        additional_response_trailers_to_log=[headers.GRPC_STATUS],
    )


def _records(otlp: OtlpExport) -> OpenTelemetryAccessLogConfig:
    return OpenTelemetryAccessLogConfig(
        log_name="sluice",
        # Envoy's exporter of traces names itself, and that of logs does not.
        grpc_service=grpc_service(names.OTLP_LOG_CLUSTER, user_agent=USER_AGENT),
        resource_attributes=KeyValueList(values=[_attribute("service.name", otlp.service_name)]),
        body=AnyValue(string_value="%REQ(:METHOD)% %PATH(NQ:ORIG_OR_PATH)% %RESPONSE_CODE%"),
        attributes=KeyValueList(values=[_attribute(*item) for item in _ATTRIBUTES.items()]),
        stat_prefix="sluice.",
    )


def _attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _collector(name: str, otlp: OtlpExport) -> Cluster:
    cluster = Cluster(
        name=name,
        connect_timeout=seconds(1),
        typed_extension_protocol_options=upstream.http2(Http2ProtocolOptions()),
    )
    contain_endpoints(cluster, [(otlp.address, 1)])
    return cluster
