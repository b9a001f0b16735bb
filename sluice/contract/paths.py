"""Paths of the Open Inference Protocol (V2), and of the gRPC methods that Envoy calls."""

from typing import Final

OIP_PREFIX: Final = "/v2/models/"
"""Prefix of the paths of models in REST."""

OIP_GRPC_PREFIX: Final = "/inference.GRPCInferenceService/"
"""Prefix of the paths of gRPC methods."""

OIP_OPERATIONS: Final = frozenset(("", "ready", "infer", "generate", "generate_stream"))
"""REST operations of a model: paths below `OIP_PREFIX` and its name. The empty path is metadata.
`generate` and `generate_stream` are the protocol's extension for text generation."""

READ_OPERATIONS: Final = frozenset(("", "ready"))
"""Members of `OIP_OPERATIONS` for GET and HEAD: metadata and readiness."""

GRPC_OPERATIONS: Final = frozenset(("", "ready", "infer"))
"""Members of `OIP_OPERATIONS` that have a gRPC method, so they can be converted."""

LIVE: Final = "/v2/health/live"
"""Path of the gateway's liveness: Envoy runs."""

READY: Final = "/v2/health/ready"
"""Path of the gateway's readiness: Envoy can reach a worker that has a policy."""

SERVER_METADATA: Final = "/v2"
"""Path of the gateway's own metadata."""

ADS_SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
ADS_METHOD: Final = "StreamAggregatedResources"
ADS_STREAM: Final = f"/{ADS_SERVICE}/{ADS_METHOD}"
ADS_DELTA_METHOD: Final = "DeltaAggregatedResources"
ADS_DELTA: Final = f"/{ADS_SERVICE}/{ADS_DELTA_METHOD}"

LOAD_SERVICE: Final = "envoy.service.load_stats.v3.LoadReportingService"
LOAD_METHOD: Final = "StreamLoadStats"
"""Method of the control plane that Envoy calls with its load reports (LRS)."""

CSDS_SERVICE: Final = "envoy.service.status.v3.ClientStatusDiscoveryService"
CSDS_STREAM: Final = "StreamClientStatus"
CSDS_FETCH: Final = "FetchClientStatus"

OBSERVATION_SERVICE: Final = "sluice.observations.v1.ObservationService"
OBSERVATION_METHOD: Final = "StreamReports"
OBSERVATIONS: Final = f"/{OBSERVATION_SERVICE}/{OBSERVATION_METHOD}"
"""Method of the control plane that workers call with what they have seen."""

VIDEO_SERVICE: Final = "sluice.video.v1.VideoAnalysis"
VIDEO_ANALYZE: Final = "Analyze"
VIDEO_WATCH: Final = "Watch"
"""Methods of the video service that clients call, through the gateway."""

VIDEO_GRPC_PREFIX: Final = f"/{VIDEO_SERVICE}/"
"""Prefix of the paths of these methods. The header `x-model-name` names the model."""

VIDEO_OPERATION: Final = "video"
"""REST operation of a model with `video`: `POST` sends a video, and `GET video/STREAM` watches a
stream of the config."""

VIDEO_REPORT_SERVICE: Final = "sluice.video.v1.VideoReports"
VIDEO_REPORT_METHOD: Final = "StreamReports"
VIDEO_REPORTS: Final = f"/{VIDEO_REPORT_SERVICE}/{VIDEO_REPORT_METHOD}"
"""Method of the control plane that workers of the video service call with their streams."""

EXT_PROC: Final = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
EXT_AUTHZ: Final = "/envoy.service.auth.v3.Authorization/Check"
INSPECT: Final = "/sluice.protection.v1.ProtectionService/Inspect"
"""Method of a worker that `sluice explain` calls."""

RATE_LIMIT: Final = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
RUNTIME: Final = "/envoy.service.runtime.v3.RuntimeDiscoveryService/StreamRuntime"
REPORTS: Final = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
"""Method of a worker that Envoy calls with reports of finished requests."""
