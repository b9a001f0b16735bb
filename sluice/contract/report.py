"""The report of a finished request: the text that Envoy writes and the callout parses.

The text travels as the body of an OpenTelemetry log record, whose time is the start of the request.
It has two groups of fields, because the fields of the first group have the same values in many
requests. Neither a header nor a path can contain a separator (RFC 9110 section 5.5). The fields of
a group that a client chooses come last.
"""

from typing import Final

NODE_ATTRIBUTE: Final = "node_name"
"""The builtin label of Envoy's log records with the id of its node."""

FIELD_SEPARATOR: Final = "\n"
GROUP_SEPARATOR: Final = "\r"

ABSENT: Final = "-"
"""Envoy writes this for a field without a value."""

MAX_TEXT: Final = 512
"""Maximum bytes of a path, user agent, request id, subject or limit. Clients and issuers choose the
length of most."""

MAX_WORD: Final = 16
"""Maximum bytes of a method, a `grpc-status` or a `grpc-timeout`. Valid ones are shorter."""

MAX_TRACE: Final = 55
"""Bytes of a W3C `traceparent` of version 00."""

OUTCOME_FIELDS: Final = (
    "protocol",
    "status",
    "flags",
    "upstream",
    "route",
    "service",
    "reason",
    "grpc_trailer",
    "grpc_header",
    "limit",
    "gateway_method",
    "method",
)
"""The first group, in order.

`service`, `reason` and `gateway_method` are request headers of the gateway, `limit` is a response
header of the gateway. `grpc_trailer` and `grpc_header` are the status of a gRPC call in trailers
and in headers.
"""

REQUEST_FIELDS: Final = (
    "details",
    "duration",
    "duration_ms",
    "upstream_wait",
    "received",
    "answered",
    "received_then_answered",
    "answered_then_ended",
    "request_bytes",
    "response_bytes",
    "subject",
    "trace",
    "request_id",
    "grpc_timeout",
    "gateway_path",
    "path",
    "user_agent",
)
"""The second group, in order.

All times but `duration_ms` are in microseconds, and absent if one of the two events did not happen,
or if the second came before the first:

- `duration`: from the first byte of the request to the last byte of its response.
- `duration_ms`: from the first byte of the request to its end, in milliseconds, always present.
- `upstream_wait`: from the last byte sent to the model server to the first byte of its response.
- `received`, `answered`: from the first byte of the request to its last byte, and to the first byte
  of the response.
- `received_then_answered`: from the last byte of the request to the first byte of the response.
- `answered_then_ended`: from the first byte of the response to the last byte.
"""
