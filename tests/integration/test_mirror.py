"""With a real Envoy: a version gets copies of requests, and no client notices."""

import re
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
from PIL import Image

from protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from sluice.config.mirror import Mirror
from tests import plain_http
from tests.integration.gateway import (
    Config,
    Gateway,
    base_config,
    bearer,
    decided_by_placement,
    eventually,
    free_ports,
    running,
)
from tests.integration.raw_server import Exchange, RawServer, raw_server

IMAGE = Path(__file__).parents[2] / "examples" / "digit-7.png"
SENTENCES = [f"this is {what} film" for what in ("a good", "a bad", "an awful", "not a bad")]
CONCURRENT = 2
MAX_BODY = 4096
PUBLIC = {"public": True}


def mirrored(protocol: str, first: str, second: str, **settings: Any) -> dict[str, Any]:
    """A model whose requests are all copied to its version v2."""
    return {
        "access": PUBLIC,
        "stable": "v1",
        "versions": {
            "v1": {"protocol": protocol, "endpoints": [{"address": first}]},
            "v2": {"protocol": protocol, "endpoints": [{"address": second}]},
        },
        "mirror": {"version": "v2", "percent": 100, **settings},
    }


def config(folder: str, stable: RawServer, mirror: RawServer) -> Config:
    settings = base_config()
    settings["callout"]["copies"] = f"unix:{folder}/copies"
    settings["callout"]["workers"] = 1
    ports = [f"127.0.0.1:{port}" for port in free_ports(4)]
    settings["models"] |= {
        "sentiment": mirrored("http", *ports[:2]),
        "digits": mirrored("grpc", *ports[2:])
        | {
            "inputs": [
                {
                    "name": "image",
                    "datatype": "UINT8",
                    "shape": [-1, 32, 32, 1],
                    "image": {"width": 32, "height": 32, "color": "GRAY"},
                }
            ],
            "outputs": [{"name": "probabilities", "labels": [f"digit {n}" for n in range(10)]}],
        },
        "raw": mirrored(
            "http",
            stable.address,
            mirror.address,
            max_concurrent=CONCURRENT,
            max_body=MAX_BODY,
            timeout="30s",
        )
        | {"access": {}, "methods": ["GET", "POST"], "breaker": {"min_volume": 5, "sample": 5}},
    }
    return settings


@pytest.fixture(scope="module")
def stable() -> Iterator[RawServer]:
    with raw_server() as server:
        yield server


@pytest.fixture(scope="module")
def mirror() -> Iterator[RawServer]:
    with raw_server() as server:
        yield server


@pytest.fixture(scope="module")
def mirroring(stable: RawServer, mirror: RawServer) -> Iterator[Gateway]:
    with (
        TemporaryDirectory() as folder,
        running(config(folder, stable, mirror)) as gateway,
    ):
        yield gateway


def metrics(gateway: Gateway, name: str, label: str, model: str) -> Counter[str]:
    """A counter of the callout by a label, for the version v2 of the model."""
    address = gateway.config["telemetry"]["metrics"]["address"]
    series = re.compile(
        rf'{name}{{(?=.*model="{model}")(?=.*version="v2").*{label}="(\w+)".*}} ([\d.]+)'
    )
    lines = plain_http.get(f"http://{address}/metrics").text.splitlines()
    found = (series.fullmatch(line) for line in lines)
    return Counter({match[1]: int(float(match[2])) for match in found if match is not None})


def copies(gateway: Gateway, model: str) -> Counter[str]:
    """The copies so far, by result, and those that were dropped, by cause."""
    dropped = metrics(gateway, "sluice_copies_dropped_total", "cause", model)
    return metrics(gateway, "sluice_copies_total", "result", model) + dropped


@contextmanager
def copied(gateway: Gateway, model: str, **expected: int) -> Iterator[None]:
    """The requests of the block have copies with these results."""
    before = copies(gateway, model)
    yield
    eventually(lambda: copies(gateway, model) - before == Counter(expected))


def seen(gateway: Gateway, model: str) -> dict[str, Any]:
    """What the status shows of the copies to a model's version v2."""
    found = (
        each["comparison"]
        for each in gateway.status()["traffic"]
        if (each["model"], each["version"]) == (model, "v2")
    )
    return next(found, None) or {}


def text(sentence: str) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [sentence]}]}


def test_the_control_plane_learns_how_answers_compare(mirroring: Gateway) -> None:
    with (
        mirroring.client() as client,
        copied(mirroring, "sentiment", agreed=3, disagreed=1),
        decided_by_placement(mirroring),
    ):
        for sentence in SENTENCES:
            response = client.post("/v2/models/sentiment/infer", json=text(sentence))
            assert response.json()["model_version"] == "v1"
    eventually(lambda: seen(mirroring, "sentiment").get("compared") == 4)
    comparison = seen(mirroring, "sentiment")
    assert (comparison["agreed"], comparison["agreement"]) == (3, 0.75)
    assert 0.5 < comparison["max_difference"] < 1
    (traffic,) = (e for e in mirroring.status()["traffic"] if e["version"] == "v2")
    assert traffic["requests"] == 0


def test_converted_requests_and_grpc_calls_are_compared(mirroring: Gateway) -> None:
    with mirroring.client() as client, copied(mirroring, "digits", agreed=1):
        sent = {"content": IMAGE.read_bytes(), "headers": {"content-type": "image/png"}}
        assert client.post("/v2/models/digits/infer", **sent).json()["model_version"] == "v1"
    request = ModelInferRequest(model_name="digits", model_version="v1")
    request.inputs.add(name="image", datatype="UINT8", shape=[1, 32, 32, 1])
    with Image.open(IMAGE) as image:
        request.raw_input_contents.append(image.convert("L").resize((32, 32)).tobytes())
    with (
        grpc.insecure_channel(mirroring.config["listener"]["address"]) as channel,
        copied(mirroring, "digits", agreed=1),
    ):
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            ModelInferRequest.SerializeToString,
            ModelInferResponse.FromString,
        )
        assert infer(request, metadata=[("x-model-name", "digits")]).model_version == "v1"


def test_a_copy_names_the_other_version_and_has_no_credentials(
    mirroring: Gateway, stable: RawServer, mirror: RawServer
) -> None:
    stable.respond("200 OK", b"{}")
    mirror.respond("200 OK", b"{}")
    with mirroring.client() as client, copied(mirroring, "raw", agreed=1):
        client.post("/v2/models/raw/versions/v1/infer?a=b", json=[1], headers=bearer())
    request, copy = stable.request(), mirror.request()
    assert request.line == "POST /v2/models/raw/versions/v1/infer?a=b HTTP/1.1"
    assert copy.line == "POST /v2/models/raw/versions/v2/infer?a=b HTTP/1.1"
    differing = {
        name: copy.headers.get(name)
        for name in request.headers.keys() | copy.headers.keys()
        if copy.headers.get(name) != request.headers.get(name)
    }
    assert differing == {
        "x-model-service": "raw/v2",
        "x-model-version": "v2",
        "x-sluice-mirror": "true",
        "x-sluice-reason": None,
        "x-envoy-external-address": None,
    }
    assert "authorization" not in copy.headers
    assert copy.headers["x-sluice-subject"] == "1234"


def test_only_the_user_of_envoy_can_send_copies(mirroring: Gateway) -> None:
    socket = Path(mirroring.config["callout"]["copies"].removeprefix("unix:"))
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600


def test_clients_do_not_wait_for_a_version_that_hangs(
    mirroring: Gateway, stable: RawServer, mirror: RawServer
) -> None:
    answered = threading.Event()

    def hang(exchange: Exchange) -> None:
        exchange.body()
        assert answered.wait(20)

    stable.respond("200 OK", b"{}")
    mirror.serve(hang)
    count = 30
    with (
        mirroring.client() as client,
        copied(mirroring, "raw", failed=CONCURRENT, busy=count - CONCURRENT),
    ):
        for _ in range(count):
            assert client.post("/v2/models/raw/infer", json=[], headers=bearer()).content == b"{}"
        eventually(lambda: copies(mirroring, "raw")["busy"] >= count - CONCURRENT)
        answered.set()
    breakers = mirroring.status()["breakers"]
    assert (breakers["known"], breakers["not_closed"]) == (True, [])


def test_a_dead_version_harms_no_client_and_opens_no_breaker(
    mirroring: Gateway, stable: RawServer, mirror: RawServer
) -> None:
    stable.respond("200 OK", b"{}")
    mirror.serve(lambda exchange: None)
    with mirroring.client() as client:
        for _ in range(10):
            with copied(mirroring, "raw", failed=1):
                response = client.post("/v2/models/raw/infer", json=[], headers=bearer())
            assert response.content == b"{}"
    breakers = mirroring.status()["breakers"]
    assert (breakers["known"], breakers["not_closed"]) == (True, [])


def test_large_bodies_and_streams_pass_without_a_copy(
    mirroring: Gateway, stable: RawServer, mirror: RawServer
) -> None:
    large, first = b"x" * (1 << 20), threading.Event()
    mirror.respond("200 OK", b"{}")

    def stream(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        assert first.wait(20)
        exchange.send(b"data: 2\n\n")

    def read_chunks(exchange: Exchange) -> None:
        while exchange.chunk():
            pass
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nsmall")

    with mirroring.client() as client:
        octets = {"content-type": "application/octet-stream", **bearer()}
        with copied(mirroring, "raw", too_large=3):
            stable.respond("200 OK", b"small")
            assert (
                client.post("/v2/models/raw/infer", content=large, headers=octets).text == "small"
            )
            parts = iter([large, large])
            stable.serve(read_chunks)
            assert (
                client.post("/v2/models/raw/infer", content=parts, headers=octets).text == "small"
            )
            stable.respond("200 OK", large)
            assert (
                client.post("/v2/models/raw/infer", content=b"1", headers=octets).content == large
            )
        stable.serve(stream)
        with client.stream("POST", "/v2/models/raw/infer", json=[], headers=bearer()) as response:
            events = response.iter_bytes()
            assert next(events) == b"data: 1\n\n"
            first.set()
            assert b"".join(events) == b"data: 2\n\n"
        stable.respond("200 OK", b"{}")
        client.get("/v2/models/raw/ready", headers=bearer())
        # Later than the stream and the GET, which have no copies.
        with copied(mirroring, "raw", agreed=1):
            client.post("/v2/models/raw/infer", json=["last"], headers=bearer())
    assert mirror.request().headers["content-length"] == str(len(b'["last"]'))


def test_a_mirror_is_switched_off_without_a_restart(mirroring: Gateway, stable: RawServer) -> None:
    stable.respond("200 OK", b"{}")
    before = mirroring.config["models"]["raw"]["mirror"]
    mirroring.edit(lambda config: config["models"]["raw"].pop("mirror"))
    admin = mirroring.config["envoy"]["admin"]

    def shown() -> str:
        return plain_http.get(f"http://{admin}/stats?filter=mirror.streams_started").text

    started = shown()
    with mirroring.client() as client:
        client.post("/v2/models/raw/infer", json=[], headers=bearer())
    assert shown() == started
    assert Mirror.model_validate(before).version == "v2"
