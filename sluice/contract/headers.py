"""HTTP headers that the gateway reads or sets. Names are in lower case, as HTTP/2 sends them."""

from typing import Final

MODEL_NAME: Final = "x-model-name"
"""Model of a gRPC call. The path of a gRPC call names only the method."""

MODEL_VERSION: Final = "x-model-version"
"""Version that the client requests. The callout replaces the value with the chosen version."""

MODEL_TYPE: Final = "x-model-type"
"""Model type that the client requests. A canary can match it."""

MODEL_SERVICE: Final = "x-model-service"
"""Envoy cluster that the callout chose. Routes use this header (`cluster_header`). Clients cannot
set it."""

INTERNAL_PREFIX: Final = "x-sluice-"
"""Prefix of headers that only the gateway may set. Envoy removes headers with this prefix from
requests of clients and from responses of model servers."""

MODEL: Final = "x-sluice-model"
"""Model of an admitted request."""

SUBJECT: Final = "x-sluice-subject"
"""Subject of the caller, percent-encoded. Not set for an anonymous caller."""

REASON: Final = "x-sluice-reason"
"""Reason of the admission, or in a response of the refusal or the local reply."""

LIMIT: Final = "x-sluice-limit"
"""Limit of Envoy that refused the request, in the response (`limits.models.NAME`)."""

CANARY: Final = "x-sluice-canary"
"""`true` if the version was chosen as a canary. Not set otherwise."""

MIRROR: Final = "x-sluice-mirror"
"""`true` if the request is a copy for a version that mirrors another. Not set otherwise."""

STAGE_METADATA: Final = "x-sluice-stage"
"""Metadata of Envoy's calls to the callout: the version of the staged config whose routes Envoy
uses. Not set by an Envoy without a staged config."""

VERIFIED_SUBJECT: Final = "x-sluice-token-subject"
"""Subject of the token that Envoy has verified, as it is in the token. No model server gets it."""

PATH: Final = "x-sluice-path"
"""Path that the client requested. The callout sets this header if it converts the request."""

VIDEO_CREDENTIALS: Final = ("x-sluice-authorization", "x-sluice-api-key")
"""Credentials of a client for the video service, which sends them with the request for each frame.
Envoy removes the headers of credentials from all requests, so they travel under these names, and
the clusters of the video service give them their own names back: `authorization`, and the name of
`auth.api_key_header`."""

BODY_LENGTH: Final = "x-sluice-body-length"
"""Length of a converted body. Envoy moves it to `content-length`, of requests to the model server
and of responses to the client. The callout cannot set `content-length` (see its `messages`)."""

METHOD: Final = "x-sluice-method"
"""Method of the client. The callout sets this header if it replaces the method."""

RATE_LIMIT: Final = ("ratelimit", "ratelimit-policy")
"""Response headers of draft-ietf-httpapi-ratelimit-headers. The callout sets request headers with
`INTERNAL_PREFIX` and these names, and the route copies them to the response."""

REQUEST_ID: Final = "x-request-id"
TRACEPARENT: Final = "traceparent"
CONTENT_LENGTH: Final = "content-length"
GRPC_TIMEOUT: Final = "grpc-timeout"
GRPC_STATUS: Final = "grpc-status"

CLIENT_ADDRESS: Final = "x-envoy-external-address"
"""Address of the client. Envoy takes it from the connection or from the headers of trusted
proxies."""

AUTHORIZATION: Final = "authorization"

CREDENTIALS: Final = (AUTHORIZATION, "proxy-authorization")
"""Request headers with credentials (RFC 9110 section 11). The callout removes these headers unless
`auth.forward_credentials` is set."""

MAX_HEADERS_KIB: Final = 60
"""Maximum size of a request's headers, with those that the gateway adds."""

MAX_HEADERS: Final = 100
"""Maximum number of a request's headers, with those that the gateway adds."""

ALIASES: Final = (
    *(
        f"x_{owner}[-_].*|x-{owner}_.*|x-{owner}-.*_.*"
        for owner in ("sluice", "model", "envoy", "forwarded", "request")
    ),
    "content_length|transfer_encoding|proxy_authorization",
)
"""Regular expressions of names that a server which reads underscores as hyphens (CGI, WSGI) takes
for a header that the gateway or Envoy sets, checks or removes. Clients cannot set them. Envoy
accepts only short expressions."""
