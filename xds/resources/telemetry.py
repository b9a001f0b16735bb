"""Telemetry that Envoy sends: reports to the callout, log records and spans to collectors.

Reports, records and spans contain only headers that Sluice has set, and parts of the request that
contain no credential.
"""

from collections.abc import Iterator
from typing import Final

from envoy_data_plane.envoy.config.accesslog.v3 import AccessLog
from envoy_data_plane.envoy.config.core.v3 import ApiVersion
from envoy_data_plane.envoy.config.trace.v3 import OpenTelemetryConfig, TracingHttp
from envoy_data_plane.envoy.extensions.access_loggers.grpc.v3 import CommonGrpcAccessLogConfig
from envoy_data_plane.envoy.extensions.access_loggers.open_telemetry.v3 import (
    OpenTelemetryAccessLogConfig,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManagerTracing,
)
from envoy_data_plane.envoy.type.tracing.v3 import CustomTag
from envoy_data_plane.envoy.type.v3 import Percent
from envoy_data_plane.opentelemetry.proto.common.v1 import AnyValue, KeyValue, KeyValueList

from protos.cluster_pb2 import Cluster, Http2ProtocolOptions
from sluice.config.telemetry import OtlpExport, Reports, Telemetry, Tracing
from sluice.contract import headers, names
from sluice.contract.report import (
    FIELD_SEPARATOR,
    GROUP_SEPARATOR,
    MAX_TEXT,
    MAX_TRACE,
    MAX_WORD,
    OUTCOME_FIELDS,
    REQUEST_FIELDS,
)
from sluice.contract.request_end import CALLOUT_DETAILS
from sluice.version import USER_AGENT
from xds.resources import upstream
from xds.resources.data_plane_messages import grpc_service, pack
from xds.resources.endpoints import Member, contain_endpoints
from xds.resources.proto_messages import seconds


def _by_gateway(header: str, length: str = "") -> str:
    """The format of a request header that only the gateway may set. `length` is its maximum.

    Envoy removes the client's before it chooses a route. If it refuses a request before, it has not
    removed them, and this format reads a header without a name, which no request has.
    """
    return f"%CEL(request.headers[xds.route_name == '' ? '' : '{header}']){length}%"


def _time(start: str, end: str) -> str:
    """The format of the microseconds between two events of a request."""
    return f"%COMMON_DURATION({start}:{end}:us)%"


_METHOD: Final = f"%REQ(:METHOD):{MAX_WORD}%"
_PATH: Final = f"%PATH(NQ:ORIG_OR_PATH):{MAX_TEXT}%"
_USER_AGENT: Final = f"%REQ(USER-AGENT):{MAX_TEXT}%"
"""Clients choose these texts, so a long one is cut."""

_REPORTED: Final = {
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "upstream": "%UPSTREAM_REMOTE_ADDRESS%",
    "service": f"%REQ({headers.MODEL_SERVICE})%",
    "reason": f"%REQ({headers.REASON})%",
    "grpc_trailer": f"%TRAILER({headers.GRPC_STATUS}):{MAX_WORD}%",
    "grpc_header": f"%RESP({headers.GRPC_STATUS}):{MAX_WORD}%",
    "limit": f"%RESP({headers.LIMIT}):{MAX_TEXT}%",
    "gateway_method": f"%REQ({headers.METHOD}):{MAX_WORD}%",
    "method": _METHOD,
    "details": "%RESPONSE_CODE_DETAILS%",
    "duration": _time("DS_RX_BEG", "DS_TX_END"),
    "duration_ms": "%DURATION%",
    "upstream_wait": _time("US_TX_END", "US_RX_BEG"),
    "received": _time("DS_RX_BEG", "DS_RX_END"),
    "answered": _time("DS_RX_BEG", "US_RX_BEG"),
    "received_then_answered": _time("DS_RX_END", "US_RX_BEG"),
    "answered_then_ended": _time("US_RX_BEG", "US_RX_END"),
    "request_bytes": "%BYTES_RECEIVED%",
    "response_bytes": "%BYTES_SENT%",
    "subject": f"%REQ({headers.SUBJECT}):{MAX_TEXT}%",
    "trace": f"%REQ({headers.TRACEPARENT}):{MAX_TRACE}%",
    "request_id": f"%REQ({headers.REQUEST_ID}):{MAX_TEXT}%",
    "grpc_timeout": f"%REQ({headers.GRPC_TIMEOUT}):{MAX_WORD}%",
    "gateway_path": f"%REQ({headers.PATH}):{MAX_TEXT}%",
    "path": f"%PATH(NQ:PATH):{MAX_TEXT}%",
    "user_agent": _USER_AGENT,
}
"""Formats of the fields of a report, but the route. No field is a header with a credential. Each
operator costs every request, so none is here only for convenience, and none is an expression (CEL).
"""


def report_format(route: str = "%ROUTE_NAME%") -> str:
    """The format of a report. `route` is the format of the field with the route of the request."""
    formats = {**_REPORTED, "route": route}
    return GROUP_SEPARATOR.join(
        FIELD_SEPARATOR.join(formats[name] for name in fields)
        for fields in (OUTCOME_FIELDS, REQUEST_FIELDS)
    )


_PLACEMENT: Final = (
    f"%CEL(xds.route_name in ['', '{names.OTHER}']"
    f" || !('{headers.MODEL_SERVICE}' in request.headers"
    f" || response.code_details.startsWith('{CALLOUT_DETAILS}')) ? ''"
    f" : xds.route_name.endsWith('{names.NATIVE_ROUTE_SUFFIX}') ? 'native' : 'callout')%"
)
"""Where the request was decided; empty if no model has the path, or there was no decision: neither
an admission, nor a refusal by the callout."""

_DECISION: Final = {
    "sluice.service": _by_gateway(headers.MODEL_SERVICE),
    "sluice.subject": _by_gateway(headers.SUBJECT, f":{MAX_TEXT}"),
    "sluice.reason": _by_gateway(headers.REASON),
    "sluice.canary": _by_gateway(headers.CANARY),
    "sluice.placement": _PLACEMENT,
    "sluice.details": "%RESPONSE_CODE_DETAILS%",
}
"""Attributes of log records and spans."""

_ATTRIBUTES: Final = {
    "http.request.method": _METHOD,
    "url.path": _PATH,
    "network.protocol.name": "%PROTOCOL%",
    "http.response.status_code": "%RESPONSE_CODE%",
    "http.request.body.size": "%BYTES_RECEIVED%",
    "http.response.body.size": "%BYTES_SENT%",
    "user_agent.original": _USER_AGENT,
    "server.upstream.address": "%UPSTREAM_HOST%",
    "sluice.duration_ms": "%DURATION%",
    "sluice.flags": "%RESPONSE_FLAGS%",
    "sluice.request_id": _by_gateway(headers.REQUEST_ID),
    **_DECISION,
}
"""Attributes of a log record, with the names of OpenTelemetry if it defines the attribute."""

_CHOSEN_VERSION: Final = (
    f"%CEL('{headers.MODEL_SERVICE}' in request.headers"
    f" ? request.headers['{headers.MODEL_VERSION}'] : '')%"
)
"""The version that the callout has chosen. In a refused request, the header is the client's."""


def _of_grpc(header: str) -> str:
    """The format of a header of a gRPC call, which other requests do not have."""
    is_grpc = "request.headers['content-type'].startsWith('application/grpc')"
    return f"%CEL({is_grpc} ? request.headers['{header}'] : ''):{MAX_TEXT}%"


_TAGS: Final = {
    "sluice.model": _by_gateway(headers.MODEL),
    "sluice.version": _CHOSEN_VERSION,
    **_DECISION,
    # Envoy's own have whole texts of the client. Its `http.url` also has the query, in which
    # clients may put secrets.
    "http.method": _METHOD,
    "http.url": f"%REQ(:SCHEME)%://%REQ(:AUTHORITY):{MAX_TEXT}%{_PATH}",
    "user_agent": _USER_AGENT,
    "guid:x-client-trace-id": f"%REQ(X-CLIENT-TRACE-ID):{MAX_TEXT}%",
    "grpc.path": _of_grpc(":path"),
    "grpc.authority": _of_grpc(":authority"),
    "grpc.content_type": _of_grpc("content-type"),
    "grpc.timeout": _of_grpc(headers.GRPC_TIMEOUT),
}
"""Attributes of a span, in addition to those of Envoy."""


def access_logs(telemetry: Telemetry) -> list[AccessLog]:
    """The HttpConnectionManager's access_log."""
    loggers = []
    if telemetry.reports.enabled:
        loggers.append(report_logger(telemetry.reports))
    if telemetry.otlp_log is not None:
        loggers.append(_records(telemetry.otlp_log))
    return [
        AccessLog(name="envoy.access_loggers.open_telemetry", typed_config=pack(logger))
        for logger in loggers
    ]


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
        custom_tags=[CustomTag(tag=tag, value=text) for tag, text in _TAGS.items()],
    )


def collectors(telemetry: Telemetry) -> Iterator[Cluster]:
    """The clusters of the configured OpenTelemetry collectors."""
    if telemetry.otlp_log is not None:
        yield _collector(names.OTLP_LOG_CLUSTER, telemetry.otlp_log)
    if telemetry.tracing is not None:
        yield _collector(names.OTLP_TRACE_CLUSTER, telemetry.tracing.otlp)


def report_logger(
    reports: Reports, cluster: str = names.CALLOUT_CLUSTER
) -> OpenTelemetryAccessLogConfig:
    """Reports to the workers, which are the endpoints of `cluster`.

    A batch has Envoy's builtin labels, with the id of its node.
    """
    # `common_config` is deprecated, but Envoy (1.37 to 1.40) reads the interval and the size only
    # there (source/extensions/access_loggers/open_telemetry/grpc_access_log_impl.cc). With the
    # fields that replace it, a batch waits for a second and has 16 KiB.
    batches = CommonGrpcAccessLogConfig(
        log_name="sluice-reports",
        grpc_service=grpc_service(cluster),
        transport_api_version=ApiVersion.V3,
        buffer_flush_interval=seconds(reports.flush_interval),
        buffer_size_bytes=reports.buffer_size,
    )
    return OpenTelemetryAccessLogConfig(
        common_config=batches,
        body=AnyValue(string_value=report_format()),
        stat_prefix="reports.",
    )


def _records(otlp: OtlpExport) -> OpenTelemetryAccessLogConfig:
    return OpenTelemetryAccessLogConfig(
        log_name="sluice",
        # Envoy's exporter of traces names itself, and that of logs does not.
        grpc_service=grpc_service(names.OTLP_LOG_CLUSTER, user_agent=USER_AGENT),
        resource_attributes=KeyValueList(values=[_attribute("service.name", otlp.service_name)]),
        body=AnyValue(string_value=f"{_METHOD} {_PATH} %RESPONSE_CODE%"),
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
    contain_endpoints(cluster, [Member(otlp.address)])
    return cluster
