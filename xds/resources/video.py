"""The video service in Envoy: the clusters of its workers, and the routes of its requests.

The callout names the cluster of the video service in place of that of a version. Bytes of a video
pass Envoy as they come, in both directions at once: no filter buffers them, and the limits of a
model's requests and responses do not apply.
"""

from functools import cache
from pathlib import Path
from typing import Final

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation
from envoy_data_plane.envoy.config.core.v3 import HeaderValueOption as EnvoyHeader

from protos.cluster_pb2 import CircuitBreakers, Cluster, CommonHttpOptions, HttpFilter
from protos.matcher_pb2 import StringMatcher
from protos.route_pb2 import HeaderMatcher, RetryPolicy, Route, RouteAction, RouteMatch
from sluice.config import Model
from sluice.config.gateway import Requests
from sluice.config.identity import Identity
from sluice.config.video import VideoService
from sluice.config.video_model import ModelVideo
from sluice.contract import headers, names, paths
from xds.resources import cors, credentials, header_mutations, proto_messages, upstream
from xds.resources.data_plane_messages import of_protos
from xds.resources.endpoints import Member, contain_endpoints
from xds.resources.proto_messages import seconds, uint32
from xds.resources.retries import avoiding_previous_hosts
from xds.resources.worker_identity import transport_socket

CONNECT_TIMEOUT: Final = 1.0
"""Seconds until a connection to a worker must be open."""

IDLE_TIMEOUT: Final = 30.0
"""Seconds after which Envoy closes an idle connection: earlier than the video service does."""

MAX_REQUESTS: Final = 100_000
"""Concurrent requests: high, because the video service has limits of its own."""

EJECTION_INTERVAL, EJECTION_TIME = 0.5, 5.0
"""Seconds between two looks for workers that are ejected no longer, and of an ejection."""

GRACE: Final = 10.0
"""Seconds that Envoy waits longer than the video service, whose answer says what is wrong."""

OTHER_WORKER: Final = 421
"""Status of a worker for a watcher of a stream that another worker has (Misdirected Request)."""

CONNECT_RETRIES, WATCH_RETRIES = 2, 8
"""Maximum retries: of a failed connection, and of a watcher that looks for the worker."""


def clusters(
    service: VideoService,
    api_key_header: str,
    buffer_limit: int,
    identity: Identity | None = None,
    directory: Path = Path(),
) -> list[Cluster]:
    """The clusters of the workers, for HTTP/1.1 and for gRPC.

    `buffer_limit`: bytes for each stream. With certificates in `identity`, whose file names are
    relative to `directory`, they have TLS.
    """
    filters = _filters(api_key_header)
    common = CommonHttpOptions(idle_timeout=seconds(IDLE_TIMEOUT))
    http = _cluster(names.VIDEO_CLUSTER, service.addresses(service.http), buffer_limit)
    grpc = _cluster(names.VIDEO_GRPC_CLUSTER, service.addresses(service.grpc), buffer_limit)
    for packed, cluster in (
        (upstream.http1(common, filters), http),
        (upstream.http2(upstream.large_windows(), common, filters=filters), grpc),
    ):
        for name, options in packed.items():
            cluster.typed_extension_protocol_options[name].CopyFrom(options)
    if identity is not None and identity.mutual and identity.video is not None:
        for cluster, protocol in ((http, "http/1.1"), (grpc, "h2")):
            socket = transport_socket(identity, directory, identity.video.name, protocol)
            cluster.transport_socket.CopyFrom(socket)
    return [http, grpc]


def routes(name: str, model: Model, requests: Requests) -> list[Route]:
    """The routes of a model's requests that the callout has sent to the video service."""
    video = model.video
    if video is None:
        return []
    # Seconds without a byte in both directions: while a frame waits for its result, and the client
    # for room to send.
    idle = video.idle_timeout + video.deadline + GRACE
    watch = RouteMatch(path=f"{paths.VIDEO_GRPC_PREFIX}{paths.VIDEO_WATCH}")
    made = [
        _route(video, names.VIDEO_CLUSTER, RouteMatch(prefix="/", headers=[_IS_GET]), None),
        _route(video, names.VIDEO_CLUSTER, RouteMatch(prefix="/"), idle),
        _route(video, names.VIDEO_GRPC_CLUSTER, watch, None),
        _route(video, names.VIDEO_GRPC_CLUSTER, RouteMatch(prefix="/"), idle),
    ]
    for route in made:
        route.name = names.video_route_name(name)
        cors.allow_origins(route, requests.cors_of(model), model.methods)
    return made


_IS_GET: Final = HeaderMatcher(name=":method", string_match=StringMatcher(exact="GET"))


def _route(video: ModelVideo, cluster: str, match: RouteMatch, idle: float | None) -> Route:
    """A route to the video service. `idle`: None for a watcher, whose stream may be silent."""
    decided = StringMatcher(exact=cluster)
    match.headers.add(name=headers.MODEL_SERVICE, string_match=decided)
    action = RouteAction(
        cluster=cluster,
        timeout=seconds(0),
        idle_timeout=seconds(idle or 0),
        retry_policy=_retries(watches=idle is None),
    )
    action.max_stream_duration.max_stream_duration.FromTimedelta(
        seconds(video.max_duration + GRACE)
    )
    return Route(match=match, route=action)


def _retries(*, watches: bool) -> RetryPolicy:
    """Repeats what no worker has begun: a request whose connection failed.

    `watches`: a watcher also looks for the worker that has its stream. Over gRPC, the others
    answer UNAVAILABLE.
    """
    policy = RetryPolicy(retry_on="connect-failure", num_retries=uint32(CONNECT_RETRIES))
    if watches:
        policy.retry_on += ",retriable-status-codes,unavailable"
        policy.retriable_status_codes.append(OTHER_WORKER)
        policy.num_retries.value = WATCH_RETRIES
    avoiding_previous_hosts(policy)
    return policy


def _cluster(name: str, addresses: tuple[str, ...], buffer_limit: int) -> Cluster:
    cluster = Cluster(
        name=name,
        connect_timeout=seconds(CONNECT_TIMEOUT),
        per_connection_buffer_limit_bytes=uint32(buffer_limit),
        lb_policy=Cluster.LEAST_REQUEST,
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakers.Thresholds(
                    max_connections=uint32(MAX_REQUESTS),
                    max_pending_requests=uint32(MAX_REQUESTS),
                    max_requests=uint32(MAX_REQUESTS),
                    max_retries=uint32(MAX_REQUESTS),
                )
            ]
        ),
        # The name in an address may have several IP addresses, so there may be more workers.
        outlier_detection=upstream.ejection(
            max(2, len(addresses)), EJECTION_INTERVAL, EJECTION_TIME
        ),
        common_lb_config=upstream.without_panic(),
        ignore_health_on_host_removal=True,
    )
    contain_endpoints(cluster, map(Member, addresses))
    return cluster


@cache
def _filters(api_key_header: str) -> list[HttpFilter]:
    """The upstream filters: those of versions, but the credentials get their own names back.

    When a request is retried, the headers of the gateway are gone, and the credentials stay.
    """
    restored = (headers.AUTHORIZATION, api_key_header)
    mutations = []
    for name, sent in zip(restored, headers.VIDEO_CREDENTIALS, strict=True):
        header = proto_messages.header(name, f"%REQ({sent})%")
        mutations += [
            HeaderMutation(append=of_protos(EnvoyHeader, header)),
            HeaderMutation(remove=sent),
        ]
    filters = header_mutations.at_video_service(mutations), credentials.upstream_codec()
    return [HttpFilter.FromString(bytes(each)) for each in filters]
