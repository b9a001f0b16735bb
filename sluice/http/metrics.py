"""Serves metrics in the text formats of Prometheus and OpenMetrics."""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from sluice.http.hosts import HttpEndpoint


def metrics_endpoint(collector: Collector) -> HttpEndpoint:
    """Return the endpoint `/metrics`. The request's Accept header chooses the format."""
    registry = CollectorRegistry()
    registry.register(collector)

    async def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": media_type})

    return metrics
