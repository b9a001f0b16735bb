"""With certificates, only Envoy may call the servers of a worker, over HTTP and over gRPC."""

import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import grpc.aio
import httpx
import pytest

from protos.video_pb2 import AnalysisResult, WatchRequest
from sluice.contract.paths import VIDEO_SERVICE, VIDEO_WATCH
from sluice.tls import TlsFiles
from tests.authority import Authority
from tests.integration.gateway import free_ports
from tests.video.service.kit import open_lines
from video.process.servers import serving
from video.service.assignment import Assignment
from video.service.latency import Latencies
from video.service.uploads import Uploads
from video.service.watchers import Watchers

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_event_loop")]

MODEL = (("x-sluice-model", "digits"),)


def channel_credentials(ca: Path, own: tuple[Path, Path]) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(ca.read_bytes(), own[1].read_bytes(), own[0].read_bytes())


async def statuses(
    http: str, grpc_address: str, ca: Path, own: tuple[Path, Path]
) -> tuple[int, grpc.StatusCode]:
    """What a client with a certificate gets for a stream that does not exist."""
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(*own)
    async with httpx.AsyncClient(verify=context) as client:
        url = f"https://{http}/v2/models/digits/video/door"
        response = await client.get(url, headers=dict(MODEL))
    async with grpc.aio.secure_channel(grpc_address, channel_credentials(ca, own)) as channel:
        method = channel.unary_stream(
            f"/{VIDEO_SERVICE}/{VIDEO_WATCH}",
            request_serializer=WatchRequest.SerializeToString,
            response_deserializer=AnalysisResult.FromString,
        )
        call = method(WatchRequest(stream="door"), metadata=MODEL, timeout=20)
        return response.status_code, await call.code()


async def test_only_a_client_with_the_name_of_envoy_may_call(tmp_path: Path) -> None:
    authority = Authority("ca")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate)
    service = authority.issue("sluice-video", "127.0.0.1").write(tmp_path, "video")
    envoy = authority.issue("sluice-envoy").write(tmp_path, "envoy")
    other = authority.issue("sluice-callout").write(tmp_path, "callout")
    http, grpc_address = (f"127.0.0.1:{port}" for port in free_ports(2))
    drawing = ThreadPoolExecutor(1)
    uploads = Uploads(open_lines, Latencies(), drawing)
    watchers = Watchers(Assignment(), lambda _: "unix:unused", drawing)
    clients = frozenset(("sluice-envoy",))
    tls = TlsFiles(*service, ca)
    async with serving(uploads, watchers, http, grpc_address, tls=tls, clients=clients):
        assert await statuses(http, grpc_address, ca, envoy) == (404, grpc.StatusCode.NOT_FOUND)
        refused = (403, grpc.StatusCode.PERMISSION_DENIED)
        assert await statuses(http, grpc_address, ca, other) == refused
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=ca)) as client:
            with pytest.raises(httpx.TransportError):
                await client.get(f"https://{http}/v2/models/digits/video/door")


async def test_an_address_in_use_is_named() -> None:
    http, grpc_address = (f"127.0.0.1:{port}" for port in free_ports(2))
    drawing = ThreadPoolExecutor(1)
    uploads = Uploads(open_lines, Latencies(), drawing)
    watchers = Watchers(Assignment(), lambda _: "unix:unused", drawing)
    async with serving(uploads, watchers, http, grpc_address, tls=None, clients=None):
        second = serving(uploads, watchers, free(), grpc_address, tls=None, clients=None)
        with pytest.raises(OSError, match=grpc_address):
            await second.__aenter__()
        second = serving(uploads, watchers, http, free(), tls=None, clients=None)
        with pytest.raises(OSError, match=http):
            await second.__aenter__()


def free() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"
