"""The clusters and routes of the video service."""

from pathlib import Path

import pytest

from protos.cluster_pb2 import Cluster
from sluice.config.gateway import Requests
from sluice.config.load import loads
from sluice.config.video import VideoService
from sluice.contract import names
from tests.sluice.config.test_identity import CERTIFICATES
from tests.sluice.config.test_video import read
from xds.resources import video

VIDEO = {"certificate": "video.crt", "private_key": "video.key"}


def clusters(service: VideoService, *, tls: bool = False) -> list[Cluster]:
    identity = None
    if tls:
        config = {"video": {}, "identity": {**CERTIFICATES, "video": VIDEO}}
        identity = loads(str(config).replace("'", '"')).identity
    return video.clusters(service, "x-api-key", 1 << 20, identity, Path("/etc/sluice"))


def test_each_worker_is_an_endpoint() -> None:
    for cluster, first in zip(clusters(VideoService(workers=2)), (18200, 18240), strict=True):
        endpoints = cluster.load_assignment.endpoints[0].lb_endpoints
        ports = [each.endpoint.address.socket_address.port_value for each in endpoints]
        assert ports == [first, first + 1]


@pytest.mark.parametrize(("number", "protocol"), [(0, b"http/1.1"), (1, b"h2")])
def test_with_an_identity_envoy_knows_the_service_by_its_name(number: int, protocol: bytes) -> None:
    socket = clusters(VideoService(), tls=True)[number].transport_socket.typed_config.value
    assert protocol in socket
    assert b"sluice-video" in socket
    assert not clusters(VideoService())[number].HasField("transport_socket")


def test_routes_do_not_end_what_the_video_service_bounds_itself() -> None:
    model = read().models["m"]
    assert model.video is not None
    for route in video.routes("m", model, Requests()):
        action = route.route
        assert route.name == names.video_route_name("m")
        assert action.timeout.ToTimedelta().total_seconds() == 0
        longest = action.max_stream_duration.max_stream_duration.ToTimedelta().total_seconds()
        assert longest > model.video.max_duration
        idle = action.idle_timeout.ToTimedelta().total_seconds()
        assert idle == 0 or idle > model.video.idle_timeout
