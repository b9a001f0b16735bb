"""Conversion through Envoy: REST requests in every format reach a gRPC model server as tensors."""

import io
import json
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import h2.connection
import h2.events
import httpx
import numpy as np
import pytest
from PIL import Image

from protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from protos.tensor_pb2 import TensorRequest
from tests.integration.gateway import (
    Config,
    Gateway,
    base_config,
    eventually,
    free_ports,
    running,
)

IMAGE = Path(__file__).parents[2] / "examples" / "digit-7.png"
INFER = "/v2/models/digits/infer"
SIDE = 32
HTTP2_POST = [(":method", "POST"), (":path", INFER), (":scheme", "http")]


def config() -> Config:
    """`digits` declares its tensors and has a gRPC and a REST version.

    `sentiment` has one gRPC version and declares nothing.
    """
    settings = base_config()
    digits_grpc, digits_rest, sentiment = (f"127.0.0.1:{port}" for port in free_ports(3))
    image = {
        "name": "image",
        "datatype": "UINT8",
        "shape": [-1, SIDE, SIDE, 1],
        "image": {"width": SIDE, "height": SIDE, "color": "GRAY"},
    }
    settings["models"]["digits"] = {
        "access": {"public": True},
        "stable": "v1",
        "versions": {
            "v1": {"protocol": "grpc", "endpoints": [{"address": digits_grpc}]},
            "v2": {"protocol": "http", "endpoints": [{"address": digits_rest}]},
        },
        "inputs": [image],
        "outputs": [{"name": "probabilities", "labels": [f"digit {n}" for n in range(10)]}],
    }
    settings["models"]["sentiment"] = {
        "access": {"public": True},
        "versions": {"v1": {"protocol": "grpc", "endpoints": [{"address": sentiment}]}},
    }
    return settings


@pytest.fixture(scope="module")
def converting() -> Iterator[Gateway]:
    """A gateway in front of gRPC model servers."""
    with running(config()) as gateway:
        yield gateway


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(request: pytest.FixtureRequest, converting: Gateway) -> Iterator[httpx.Client]:
    """A client of each HTTP version. Envoy passes a gRPC response to the callout differently."""
    http2 = request.param == "HTTP/2"
    with converting.client(http1=not http2, http2=http2) as opened:
        yield opened


def encoded_image(form: str, size: int = 224) -> bytes:
    with Image.open(IMAGE) as image:
        resized = image.convert("RGB").resize((size, size))
    written = io.BytesIO()
    resized.save(written, form, **({"compress_level": 0} if form == "PNG" else {}))
    return written.getvalue()


def pixels() -> np.ndarray:
    with Image.open(IMAGE) as image:
        small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small, np.uint8)


def label(response: httpx.Response) -> int:
    assert response.status_code == 200, response.text
    outputs = {output["name"]: output["data"] for output in response.json()["outputs"]}
    first: int = outputs["label"][0]
    return first


def post(client: httpx.Client, body: bytes, kind: str, **headers: str) -> httpx.Response:
    return client.post(INFER, content=body, headers={"content-type": kind, **headers})


def v2_json() -> dict[str, object]:
    data = pixels().reshape(-1).tolist()
    return {
        "inputs": [
            {"name": "image", "datatype": "UINT8", "shape": [1, SIDE, SIDE, 1], "data": data}
        ]
    }


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_classified(client: httpx.Client, form: str) -> None:
    assert label(post(client, encoded_image(form), f"image/{form.lower()}")) == 7


def test_large_images_that_come_together_are_converted_after_the_message_timeout() -> None:
    """All of one caller, which gets one thread of each worker, and of several callers.

    The timeout also applies to the first response of a worker, so it must be longer than the pauses
    of a worker on a busy machine.
    """
    settings, message_timeout = config(), 2.0
    settings["callout"] |= {"message_timeout": message_timeout, "conversion_timeout": "150s"}
    settings["listener"]["trusted_hops"] = 1
    written = io.BytesIO()
    Image.new("RGBA", (5000, 5000), (10, 20, 30, 128)).save(written, "PNG")
    with running(settings) as gateway, gateway.client(timeout=150) as client:

        def send(caller: int) -> tuple[int, str, float]:
            address = f"203.0.113.{caller % 2}"
            start = time.monotonic()
            response = post(client, written.getvalue(), "image/png", **{"x-forwarded-for": address})
            reason = response.headers.get("x-sluice-reason", "")
            return response.status_code, reason, time.monotonic() - start

        slowest, images = 0.0, 10
        while slowest <= message_timeout:
            with ThreadPoolExecutor(images) as threads:
                sent = list(threads.map(send, range(images)))
            assert {(status, reason) for status, reason, _ in sent} == {(200, "stable")}
            slowest = max(seconds for _, _, seconds in sent)
            images *= 2  # a fast machine has converted them too soon


def test_json_and_protobuf_with_the_same_image_get_the_same_outputs(
    client: httpx.Client,
) -> None:
    as_json = post(client, json.dumps(v2_json()).encode(), "application/json")
    tensor = TensorRequest(data=pixels().tobytes(), shape=[1, SIDE, SIDE, 1])
    as_tensor = post(client, tensor.SerializeToString(), "application/x-protobuf")
    assert label(as_json) == label(as_tensor) == 7
    assert as_json.json()["outputs"] == as_tensor.json()["outputs"]


def test_an_image_larger_than_envoys_default_buffer_is_converted(
    client: httpx.Client,
) -> None:
    large = encoded_image("PNG", 1600)
    assert len(large) > 7_000_000
    assert label(post(client, large, "image/png")) == 7


def test_several_images_are_a_batch(client: httpx.Client) -> None:
    parts = [("image", (f"{n}.jpg", encoded_image("JPEG"), "image/jpeg")) for n in range(3)]
    response = client.post(INFER, files=parts)
    assert response.status_code == 200, response.text
    assert response.json()["outputs"][0]["shape"] == [3]


def test_a_client_that_accepts_protobuf_gets_a_protobuf_response(client: httpx.Client) -> None:
    response = post(client, encoded_image("JPEG"), "image/jpeg", accept="application/x-protobuf")
    message = ModelInferResponse.FromString(response.content)
    assert struct.unpack("<q", message.raw_output_contents[0]) == (7,)


@pytest.mark.parametrize(
    ("body", "kind", "status", "reason"),
    [
        (b"", "image/jpeg", 400, None),
        (b"not an image", "image/png", 415, "not_an_image"),
        (encoded_image("JPEG")[:2000], "image/jpeg", 400, None),
        (b'{"inputs":', "application/json", 400, None),
        (b'{"inputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[1]}]}',
         "application/json", 422, "unknown_input"),
        (b'{"inputs":[{"name":"image","datatype":"FP32","shape":[1],"data":[1]}]}',
         "application/json", 422, None),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_converted_is_refused_with_the_reason(
    client: httpx.Client, body: bytes, kind: str, status: int, reason: str | None
) -> None:
    response = post(client, body, kind)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert reason is None or problem["reason"] == reason
    assert response.headers["x-sluice-reason"] == problem["reason"]


def too_large() -> Iterator[bytes]:
    """A body of 11 MiB, sent without a content-length."""
    for _ in range(11 * 16):
        yield bytes(1 << 16)


def test_a_body_over_the_limit_is_refused_with_and_without_a_length(
    converting: Gateway,
) -> None:
    headers = {"content-type": "image/png"}
    with converting.client() as client:
        for body in (bytes(11 << 20), too_large()):
            refused = client.post(INFER, content=body, headers=headers)
            assert (refused.status_code, refused.json()["reason"]) == (413, "body_too_large")


def test_a_body_that_exceeds_the_limit_before_the_decision_is_refused(converting: Gateway) -> None:
    workers = converting.workers()

    def body() -> Iterator[bytes]:
        try:
            yield from too_large()
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)

    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    with converting.client() as client:
        refused = client.post(INFER, content=body(), headers={"content-type": "image/png"})
    assert (refused.status_code, refused.json()["reason"]) == (413, "body_too_large")


def test_an_http2_body_over_the_limit_is_refused_while_it_is_sent(converting: Gateway) -> None:
    """httpx and curl do not read an early response while they wait for the flow-control window."""
    host, _, port = converting.config["listener"]["address"].partition(":")
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    connection.send_headers(1, [*HTTP2_POST, (":authority", host), ("content-type", "image/png")])
    with socket.create_connection((host, int(port)), timeout=10) as connected:
        while True:
            window = min(
                connection.local_flow_control_window(1), connection.max_outbound_frame_size
            )
            if window:
                connection.send_data(1, bytes(window))
            connected.sendall(connection.data_to_send())
            if not window:
                events = connection.receive_data(connected.recv(1 << 16))
                responses = [e for e in events if isinstance(e, h2.events.ResponseReceived)]
                if responses:
                    break
    assert dict(responses[0].headers)[b":status"] == b"413"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_body_without_a_declared_length_is_converted(client: httpx.Client, version: str) -> None:
    headers = {"content-type": "image/jpeg", "x-model-version": version}
    jpeg = encoded_image("JPEG")
    halves = iter((jpeg[:1000], jpeg[1000:]))
    assert label(client.post(INFER, content=halves, headers=headers)) == 7


@pytest.mark.parametrize("version", ["v1", "v2"], ids=["grpc", "rest"])
def test_readiness_and_metadata_are_the_same_for_both_protocols(
    client: httpx.Client, version: str
) -> None:
    path = f"/v2/models/digits/versions/{version}"
    ready, metadata = client.get(f"{path}/ready?a=b"), client.get(path)
    assert (ready.status_code, ready.json()) == (200, {"name": "digits", "ready": True})
    assert metadata.status_code == 200
    assert metadata.json()["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 1]}
    ]
    for answered, answer in ((client.head(f"{path}/ready"), ready), (client.head(path), metadata)):
        assert (answered.status_code, answered.content) == (200, b"")
        assert answered.headers["content-length"] == answer.headers["content-length"]


def test_the_log_has_the_method_and_the_path_of_the_client(converting: Gateway) -> None:
    path = "/v2/models/sentiment/ready"
    with converting.client() as client:
        client.head(path).raise_for_status()
    line = f'"method":"HEAD","path":"{path}"'
    eventually(lambda: line in converting.log.read_text())


def test_an_operation_that_grpc_does_not_have_is_refused(client: httpx.Client) -> None:
    response = client.post("/v2/models/digits/generate", json={})
    assert (response.status_code, response.json()["reason"]) == (404, "unknown_operation")


def test_an_error_of_the_model_server_becomes_a_problem(client: httpx.Client) -> None:
    """The sentiment model declares no tensors, so only its server can refuse a wrong datatype."""
    body = b'{"inputs":[{"name":"text","datatype":"FP32","shape":[1],"data":[1]}]}'
    response = client.post(
        "/v2/models/sentiment/infer", content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert "BYTES" in response.json()["detail"]


def test_a_grpc_call_is_not_converted(converting: Gateway) -> None:
    request = ModelInferRequest(model_name="digits", raw_input_contents=[pixels().tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=[1, SIDE, SIDE, 1])
    with grpc.insecure_channel(converting.config["listener"]["address"]) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        response = infer(request, metadata=[("x-model-name", "digits")], timeout=10)
        assert struct.unpack("<q", response.raw_output_contents[0]) == (7,)
        with pytest.raises(grpc.RpcError) as refused:
            infer(request, metadata=[("x-model-name", "absent")], timeout=10)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == "no model has the name in the header x-model-name"
