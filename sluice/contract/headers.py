"""HTTP headers that the gateway reads or sets. Names are in lower case, as HTTP/2 sends them."""

from typing import Final

MODEL_NAME: Final = "x-model-name"
"""A gRPC client names the model here; its path names only the method."""

MODEL_VERSION: Final = "x-model-version"
"""A client may ask for a version. The callout overwrites it with the version that was chosen."""

MODEL_TYPE: Final = "x-model-type"
"""A client may name a model type; a canary can be chosen by it."""

MODEL_SERVICE: Final = "x-model-service"
"""The Envoy cluster that the callout chose. Routes read it (`cluster_header`); no client can set
it."""

INTERNAL_PREFIX: Final = "x-sluice-"
"""Only the gateway sets headers with this prefix. Envoy removes those that a client sends and those
that a model server sends."""

MODEL: Final = "x-sluice-model"
SUBJECT: Final = "x-sluice-subject"
REASON: Final = "x-sluice-reason"
CANARY: Final = "x-sluice-canary"

PATH: Final = "x-sluice-path"
"""The path that the client asked for. The callout sets it where it converts the request."""

RATE_LIMIT: Final = ("ratelimit", "ratelimit-policy")
"""Response headers of draft-ietf-httpapi-ratelimit-headers. The callout sets each with
`INTERNAL_PREFIX` on the request, and the route copies it to the response."""

REQUEST_ID: Final = "x-request-id"
TRACEPARENT: Final = "traceparent"
CONTENT_LENGTH: Final = "content-length"
GRPC_TIMEOUT: Final = "grpc-timeout"
GRPC_STATUS: Final = "grpc-status"

CLIENT_ADDRESS: Final = "x-envoy-external-address"
"""Envoy sets it from the connection, or from the proxies that it trusts."""

CREDENTIALS: Final = ("authorization", "proxy-authorization")
"""RFC 9110 section 11. `proxy-authorization` is for the proxy that receives it: the gateway."""

REPORTED: Final = (MODEL_SERVICE, SUBJECT, REASON, PATH, TRACEPARENT, GRPC_TIMEOUT)
"""Request headers that Envoy adds to an access log report. None of them holds a credential."""
