"""Paths: of the Open Inference Protocol (V2), and of the gRPC methods that Envoy calls."""

from typing import Final

OIP_PREFIX: Final = "/v2/models/"
"""Prefix of the models' paths in the protocol's REST form."""

OIP_GRPC_PREFIX: Final = "/inference.GRPCInferenceService/"
"""Prefix of the paths of the protocol's gRPC methods."""

ADS_SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
ADS_STREAM: Final = f"/{ADS_SERVICE}/StreamAggregatedResources"

EXT_PROC: Final = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
EXT_AUTHZ: Final = "/envoy.service.auth.v3.Authorization/Check"
RATE_LIMIT: Final = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
ACCESS_LOG: Final = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
