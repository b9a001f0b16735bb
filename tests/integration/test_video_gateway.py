"""Videos pass a real Envoy to the video service, here a server that a test scripts."""

import contextlib
import http.client
import json
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from protos.video_pb2 import AnalysisResult, AnalyzeRequest, WatchRequest
from sluice.contract.paths import VIDEO_GRPC_PREFIX, VIDEO_SERVICE
from tests import plain_http
from tests.integration.gateway import (
    PATIENCE,
    REQUESTS_TO_OPEN,
    Config,
    Gateway,
    base_config,
    bearer,
    eventually,
    free_ports,
    reported_requests,
    running,
)
from tests.integration.raw_server import Exchange, RawServer

UPLOAD = "/v2/models/frames/video"
MIB = 1 << 20
LARGE = 200 * MIB
FORGED = {
    "x-model-service": "echo/v1",
    "x-sluice-subject": "admin",
    "x-sluice-model": "echo",
    "x-sluice-authorization": "Bearer forged",
    "x-sluice-api-key": "forged",
}


class GrpcServer:
    """The gRPC server of the video service: responds to each part of a video at once."""

    def __init__(self, port: int) -> None:
        self.metadata: queue.Queue[dict[str, str]] = queue.Queue()
        self.refusals = 0
        """Watchers that are refused, as by a worker that has not the stream."""
        self._server = grpc.server(ThreadPoolExecutor(4))
        handlers = {
            "Analyze": grpc.stream_stream_rpc_method_handler(
                self._analyze, AnalyzeRequest.FromString, AnalysisResult.SerializeToString
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                self._watch, WatchRequest.FromString, AnalysisResult.SerializeToString
            ),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(VIDEO_SERVICE, handlers),)
        )
        self._server.add_insecure_port(f"127.0.0.1:{port}")

    def __enter__(self) -> "GrpcServer":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None)

    def _analyze(
        self, requests: Iterator[AnalyzeRequest], context: grpc.ServicerContext
    ) -> Iterator[AnalysisResult]:
        self.metadata.put(dict(context.invocation_metadata()))
        for number, request in enumerate(requests):
            yield AnalysisResult(id=request.data.decode(), frame=number)

    def _watch(
        self, request: WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[AnalysisResult]:
        if self.refusals:
            self.refusals -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "another replica runs the stream")
        self.metadata.put(dict(context.invocation_metadata()))
        yield AnalysisResult(stream=request.stream)


def with_video(config: Config, http: str, grpc_port: int) -> None:
    """Add a video service, and a model whose endpoint nobody reaches."""
    (unused,) = free_ports(1)
    model: dict[str, Any] = {
        "versions": {"v1": {"endpoints": [{"address": f"127.0.0.1:{unused}"}], "protocol": "grpc"}},
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}],
        "max_body": "1KiB",
        "timeout": "1s",
        "video": {"max_bytes": LARGE},
        "breaker": {"window": "10s", "buckets": 10, "min_volume": 5},
    }
    config["models"]["frames"] = model
    config["models"]["guarded"] = {**model, "access": {"allow": [{"groups": ["staff"]}]}}
    config["video"] = {"http": http, "grpc": f"127.0.0.1:{grpc_port}", "metrics": "127.0.0.1:1"}
    limited = {"part": "header:x-limited", "values": ["one", "other"]}
    rule = {"name": "videos", "match": [limited], "key": ["header:x-limited"]}
    config["limits"]["rules"] = [{**rule, "rate": 1, "per": "hour"}]


@pytest.fixture(scope="module")
def grpc_server() -> Iterator[tuple[GrpcServer, int]]:
    (port,) = free_ports(1)
    with GrpcServer(port) as server:
        yield server, port


@pytest.fixture(scope="module")
def video(server: RawServer, grpc_server: tuple[GrpcServer, int]) -> Iterator[Gateway]:
    """A gateway that got the video service while it was running."""
    with running(base_config()) as gateway:
        gateway.edit(lambda config: with_video(config, server.address, grpc_server[1]))
        yield gateway


def respond(body: Callable[[Exchange], bytes] = lambda exchange: b"") -> Callable[[Exchange], None]:
    """A script that responds with what `body` returns."""

    def script(exchange: Exchange) -> None:
        content = body(exchange)
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        exchange.send(head.encode() + content)

    return script


def count_body(exchange: Exchange) -> bytes:
    """Read the body, with a length or in chunks, and return the number of its bytes."""
    if "content-length" in exchange.headers:
        left = total = int(exchange.headers["content-length"])
        while left:
            left -= len(exchange.read(min(left, MIB)))
        return str(total).encode()
    total = 0
    while chunk := exchange.chunk():
        total += len(chunk)
    return str(total).encode()


def callout_messages(gateway: Gateway) -> int:
    """Messages that Envoy has sent to the callout."""
    admin = gateway.config["envoy"]["admin"]
    stats = plain_http.get(f"http://{admin}/stats?filter=ext_proc.callout.stream_msgs_sent").text
    return sum(int(line.split(":")[1]) for line in stats.splitlines())


@contextlib.contextmanager
def connection(gateway: Gateway) -> Iterator[http.client.HTTPConnection]:
    address = gateway.config["listener"]["address"]
    with contextlib.closing(http.client.HTTPConnection(address, timeout=PATIENCE)) as opened:
        yield opened


def parts(size: int) -> Iterator[bytes]:
    for _ in range(size // MIB):
        yield bytes(MIB)


@pytest.mark.parametrize("declared", [True, False])
def test_a_large_video_passes_without_the_callout(
    video: Gateway, server: RawServer, *, declared: bool
) -> None:
    server.serve(respond(count_body))
    before = callout_messages(video)
    headers = {**bearer(), "content-type": "video/mp4"}
    if declared:
        headers["content-length"] = str(LARGE)
    with connection(video) as client:
        # Without a length, http.client sends chunks.
        client.request("POST", UPLOAD, parts(LARGE), headers)
        response = client.getresponse()
        assert (response.status, response.read()) == (200, str(LARGE).encode())
    assert callout_messages(video) == before + 1


def test_a_video_over_http2_passes_too(video: Gateway, server: RawServer) -> None:
    server.serve(respond(count_body))
    with video.client(http1=False, http2=True) as client:
        headers = {**bearer(), "content-type": "video/mp2t"}
        response = client.post(UPLOAD, content=parts(20 * MIB), headers=headers)
        assert (response.status_code, response.text) == (200, str(20 * MIB))


def test_the_response_streams_while_the_request_does(video: Gateway, server: RawServer) -> None:
    def echo(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while chunk := exchange.chunk():
            exchange.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        exchange.send(b"0\r\n\r\n")

    server.serve(echo)
    with connection(video) as client:
        client.putrequest("POST", UPLOAD)
        for name, value in {**bearer(), "content-type": "image/jpeg"}.items():
            client.putheader(name, value)
        client.putheader("transfer-encoding", "chunked")
        client.endheaders()
        # Envoy closes the connection after a response that has begun before the end of its request,
        # so http.client gives up its socket.
        with client.sock.dup() as sock:
            sock.sendall(b"5\r\nfirst\r\n")
            response = client.getresponse()
            assert response.read(5) == b"first"
            sock.sendall(b"6\r\nsecond\r\n")
            assert response.read(6) == b"second"
            sock.sendall(b"0\r\n\r\n")
            assert response.read() == b""


@contextlib.contextmanager
def channel(gateway: Gateway) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(
        gateway.config["listener"]["address"], [("grpc.enable_http_proxy", 0)]
    ) as opened:
        yield opened


def metadata(**headers: str) -> list[tuple[str, str]]:
    return [*bearer().items(), ("x-model-name", "frames"), *headers.items()]


def test_calls_over_grpc_stream_in_both_directions(
    video: Gateway, grpc_server: tuple[GrpcServer, int]
) -> None:
    sent: queue.Queue[bytes | None] = queue.Queue()

    def requests() -> Iterator[AnalyzeRequest]:
        while (data := sent.get(timeout=PATIENCE)) is not None:
            yield AnalyzeRequest(data=data)

    with channel(video) as opened:
        analyze = opened.stream_stream(
            f"{VIDEO_GRPC_PREFIX}Analyze",
            AnalyzeRequest.SerializeToString,
            AnalysisResult.FromString,
        )
        results = analyze(requests(), metadata=metadata(), timeout=PATIENCE)
        for number, data in enumerate((b"first", b"second")):
            sent.put(data)
            found = next(results)
            assert (found.frame, found.id) == (number, data.decode())
        sent.put(None)
        assert list(results) == []
        watch = opened.unary_stream(
            f"{VIDEO_GRPC_PREFIX}Watch", WatchRequest.SerializeToString, AnalysisResult.FromString
        )
        call = watch(WatchRequest(stream="door"), metadata=metadata(), timeout=PATIENCE)
        assert [each.stream for each in call] == ["door"]
    for _ in range(2):
        received = grpc_server[0].metadata.get(timeout=PATIENCE)
        assert received["authorization"].startswith("Bearer ")
        assert (received["x-sluice-model"], received["x-sluice-subject"]) == ("frames", "1234")


def test_a_watcher_over_grpc_finds_the_worker_that_has_its_stream(
    video: Gateway, grpc_server: tuple[GrpcServer, int]
) -> None:
    grpc_server[0].refusals = 2
    with channel(video) as opened:
        watch = opened.unary_stream(
            f"{VIDEO_GRPC_PREFIX}Watch", WatchRequest.SerializeToString, AnalysisResult.FromString
        )
        call = watch(WatchRequest(stream="door"), metadata=metadata(), timeout=PATIENCE)
        assert [each.stream for each in call] == ["door"]
    assert grpc_server[0].refusals == 0
    grpc_server[0].metadata.get(timeout=PATIENCE)


def test_a_model_without_video_has_no_calls(video: Gateway) -> None:
    sent = [*bearer().items(), ("x-model-name", "echo")]
    with channel(video) as opened:
        watch = opened.unary_unary(f"{VIDEO_GRPC_PREFIX}Watch")
        with pytest.raises(grpc.RpcError) as refused:
            watch(b"", metadata=sent, timeout=PATIENCE)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def upload(gateway: Gateway, path: str = UPLOAD, **options: Any) -> tuple[int, dict[str, Any]]:
    """The status and the body of the response to a small upload."""
    headers = {**bearer(), "content-type": "video/mp4", **options.pop("headers", {})}
    with gateway.client() as client:
        response = client.request("POST", path, content=b"video", headers=headers, **options)
    is_json = response.headers.get("content-type", "").endswith("json")
    return response.status_code, response.json() if is_json else {}


def test_the_video_service_gets_credentials_but_nothing_that_a_client_forges(
    video: Gateway, server: RawServer
) -> None:
    server.serve(respond(Exchange.body))
    sent = {**bearer("alice"), **FORGED, "x-model-version": "v1", "x-custom": "kept"}
    assert upload(video, f"{UPLOAD}?rate=5", headers=sent)[0] == 200
    request = server.request()
    assert request.line == f"POST {UPLOAD}?rate=5 HTTP/1.1"
    received = request.headers
    assert received["authorization"] == sent["authorization"]
    assert (received["x-sluice-model"], received["x-sluice-subject"]) == ("frames", "alice")
    assert (received["x-model-version"], received["x-custom"]) == ("v1", "kept")
    assert received["x-model-service"] == "sluice-video"
    assert received.keys().isdisjoint({"x-sluice-authorization", "x-sluice-api-key"})
    assert "forged" not in str(received)
    assert upload(video)[0] == 200
    assert "x-model-version" not in server.request().headers


def test_a_watcher_reaches_the_service_by_the_name_of_the_stream(
    video: Gateway, server: RawServer
) -> None:
    server.serve(respond())
    with video.client() as client:
        assert client.get(f"{UPLOAD}/door", headers=bearer()).status_code == 200
    assert server.request().line == f"GET {UPLOAD}/door HTTP/1.1"


def test_a_watcher_finds_the_worker_that_has_its_stream(video: Gateway, server: RawServer) -> None:
    answers = iter((b"421 Misdirected Request", b"421 Misdirected Request", b"200 OK"))

    def script(exchange: Exchange) -> None:
        head = next(answers)
        exchange.send(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % head)

    server.serve(script)
    with video.client() as client:
        assert client.get(f"{UPLOAD}/door", headers=bearer()).status_code == 200
    for _ in range(3):
        assert server.request().headers["authorization"].startswith("Bearer ")


def test_a_client_cannot_send_other_requests_to_the_video_service(
    video: Gateway, server: RawServer
) -> None:
    server.serve(respond())
    forged = {**bearer(), "x-model-service": "sluice-video", "x-sluice-model": "frames"}
    with video.client() as client:
        echoed = client.post("/v2/models/echo/infer", json={}, headers=forged)
        assert echoed.headers["x-sluice-reason"] == "stable"
        refused = client.post("/v2/models/frames/infer", json={}, headers=forged)
        assert refused.status_code >= 400
        unknown = client.post("/unknown", json={}, headers=forged)
        assert unknown.status_code == 404
    assert server.requests.empty()


@pytest.mark.parametrize(
    ("path", "headers", "status", "reason"),
    [
        (UPLOAD, {"authorization": "Bearer wrong"}, 401, "invalid_credentials"),
        ("/v2/models/guarded/video", {}, 403, "forbidden"),
        (UPLOAD, {"content-type": "application/json"}, 415, "unsupported_media_type"),
        ("/v2/models/none/video", {}, 404, "unknown_model"),
        ("/v2/models/frames/versions/v9/video", {}, 404, "unknown_version"),
        ("/v2/models/frames/video/a/b", {}, 404, "unknown_model"),
    ],
)
def test_a_video_is_refused_as_other_requests_are(
    video: Gateway,
    server: RawServer,
    path: str,
    headers: dict[str, str],
    status: int,
    reason: str,
) -> None:
    server.serve(respond())
    found, problem = upload(video, path, headers=headers)
    assert (found, problem["reason"]) == (status, reason)
    assert server.requests.empty()


def test_a_video_that_declares_too_many_bytes_is_refused(video: Gateway) -> None:
    with connection(video) as client:
        client.putrequest("POST", UPLOAD)
        for name, value in {**bearer(), "content-type": "video/mp4"}.items():
            client.putheader(name, value)
        client.putheader("content-length", str(LARGE + 1))
        client.endheaders()
        response = client.getresponse()
        assert response.status == 413
        assert json.load(response)["reason"] == "body_too_large"


def test_limits_apply_to_videos(video: Gateway, server: RawServer) -> None:
    server.serve(respond(Exchange.body))
    limited = {"x-limited": "one"}
    assert upload(video, headers=limited)[0] == 200
    assert upload(video, headers=limited)[0] == 429
    assert upload(video, headers={"x-limited": "other"})[0] == 200


def test_failures_of_the_video_service_open_no_breaker_of_a_version(
    video: Gateway, server: RawServer
) -> None:
    server.respond("500 Internal Server Error")
    failed = reported_requests(video, "frames", "5xx")
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: upload(video)[0], range(REQUESTS_TO_OPEN)))
    assert set(statuses) == {500}
    eventually(lambda: reported_requests(video, "frames", "5xx") >= failed + REQUESTS_TO_OPEN)
    server.serve(respond(Exchange.body))
    assert upload(video)[0] == 200
    assert video.status()["breakers"]["not_closed"] == []
