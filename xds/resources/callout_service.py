"""How Envoy calls the callout's workers."""

from envoy_data_plane.envoy.config.core.v3 import BackoffStrategy, GrpcService, RetryPolicy

from sluice.contract.names import CALLOUT_CLUSTER
from xds.resources.data_plane_messages import grpc_service
from xds.resources.proto_messages import seconds

MAX_CALLOUT_RETRIES = 8
"""Maximum retries of a call to the callout, for calls that fail because a worker has ended or
hangs. With their back-offs, they take about as long as the restart of a worker."""

RETRY_BACK_OFF = 0.025
"""Maximum seconds before the first retry of a call. Envoy doubles it for each further retry. A few
milliseconds are enough for Envoy's threads to learn that the worker is ejected."""


def callout_service() -> GrpcService:
    """The gRPC service of the workers. Envoy repeats a call that fails without a response."""
    service = grpc_service(CALLOUT_CLUSTER)
    # `reset` includes failed connections. Envoy's default for the first back-off is up to 1 s.
    service.retry_policy = RetryPolicy(
        retry_on="reset",
        num_retries=MAX_CALLOUT_RETRIES,
        retry_back_off=BackoffStrategy(base_interval=seconds(RETRY_BACK_OFF)),
    )
    return service
