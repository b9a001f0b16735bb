"""The example model server, as a process, over REST and gRPC."""

import asyncio
import json
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import websockets
from PIL import Image

from protos import inference_pb2 as pb
from tests import plain_http

ROOT = Path(__file__).parents[2]
VERSIONS = ["v1", "v2"]
SERVED = [*(f"{m}:{v}" for m in ("sentiment", "digits") for v in VERSIONS), "echo:v1"]


@dataclass(frozen=True)
class Addresses:
    rest: str
    grpc: str


def start(*served: str, faults: bool = True) -> tuple[subprocess.Popen[str], dict[str, Addresses]]:
    """Starts a server and waits until it has printed the addresses of every model version."""
    arguments = [sys.executable, "-m", "examples.model_server", *(["--faults"] if faults else [])]
    for version in served:
        arguments += ["--serve", version, "127.0.0.1:0", "127.0.0.1:0"]
    process = subprocess.Popen(
        arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    addresses = {}
    for _ in served:
        model, version, rest, rpc = process.stdout.readline().split()
        addresses[f"{model}:{version}"] = Addresses(
            "http://" + rest.removeprefix("rest="), rpc.removeprefix("grpc=")
        )
    return process, addresses


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Addresses]]:
    process, addresses = start(*SERVED)
    yield addresses
    process.terminate()
    assert process.wait(60) == 0


def rest_infer(address: Addresses, model: str, document: object) -> httpx.Response:
    return plain_http.post(f"{address.rest}/v2/models/{model}/infer", json=document)


def grpc_call(address: Addresses, method: str, request: object, response: type) -> object:
    with grpc.insecure_channel(address.grpc) as channel:
        call = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,  # type: ignore[attr-defined]
        )
        return call(request, timeout=5)


def grpc_infer(address: Addresses, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    response = grpc_call(address, "ModelInfer", request, pb.ModelInferResponse)
    assert isinstance(response, pb.ModelInferResponse)
    return response


def sentence(text: str) -> dict[str, object]:
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]}


def seven() -> np.ndarray:
    gray = Image.open(ROOT / "examples/digit-7.jpg").convert("L").resize((32, 32))
    return np.asarray(gray)[None, :, :, None]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_response_to_the_example_request_has_the_version_and_a_positive_label(
    servers, version
) -> None:
    body = json.loads((ROOT / "examples/sentiment.json").read_text())
    document = rest_infer(servers[f"sentiment:{version}"], "sentiment", body).json()
    assert (document["model_version"], document["id"]) == (version, "example-1")
    outputs = {output["name"]: output for output in document["outputs"]}
    assert outputs["label"]["data"] == ["positive"]
    assert outputs["probabilities"]["shape"] == [1, 2]
    assert sum(outputs["probabilities"]["data"]) == pytest.approx(1)


@pytest.mark.parametrize("version", VERSIONS)
def test_rest_and_grpc_give_the_same_score(servers, version) -> None:
    address = servers[f"sentiment:{version}"]
    text = "A charming place with rude staff"
    by_rest = rest_infer(address, "sentiment", sentence(text) | {"outputs": [{"name": "score"}]})
    request = pb.ModelInferRequest(model_name="sentiment", outputs=[{"name": "score"}])
    entry = request.inputs.add(name="text", datatype="BYTES", shape=[1])
    entry.contents.bytes_contents.append(text.encode())
    typed = grpc_infer(address, request)
    entry.ClearField("contents")
    request.raw_input_contents.append(struct.pack("<I", len(text)) + text.encode())
    raw = grpc_infer(address, request)
    scores = [
        by_rest.json()["outputs"][0]["data"][0],
        typed.outputs[0].contents.fp32_contents[0],
        struct.unpack("<f", raw.raw_output_contents[0])[0],
    ]
    assert scores == pytest.approx([scores[0]] * 3)
    assert typed.model_version == raw.model_version == version


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_an_image_is_classified_in_every_layout_and_datatype(
    servers, version, layout, channels, datatype
) -> None:
    pixels = np.repeat(seven(), channels, axis=3)
    if layout == "NCHW":
        pixels = pixels.transpose(0, 3, 1, 2)
    if datatype == "FP32":
        pixels = (pixels / 255).astype("<f4")
    request = pb.ModelInferRequest(model_name="digits", model_version=version)
    request.inputs.add(name="image", datatype=datatype, shape=pixels.shape)
    request.raw_input_contents.append(pixels.tobytes())
    response = grpc_infer(servers[f"digits:{version}"], request)
    assert struct.unpack("<q", response.raw_output_contents[0]) == (7,)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_outputs_of_a_batch_in_nested_json_are_in_order(servers, version) -> None:
    upright, blank = seven()[0].tolist(), np.zeros((32, 32, 1), int).tolist()
    data = [upright, blank, upright]
    body = {
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [3, 32, 32, 1], "data": data}]
    }
    outputs = rest_infer(servers[f"digits:{version}"], "digits", body).json()["outputs"]
    labels = outputs[0]["data"]
    assert (len(labels), labels[0], labels[2]) == (3, 7, 7)
    assert outputs[1]["shape"] == [3, 10]


def test_rest_and_grpc_metadata_have_the_inputs_of_the_model(servers) -> None:
    address = servers["digits:v2"]
    by_rest = plain_http.get(f"{address.rest}/v2/models/digits/versions/v2").json()
    by_grpc = grpc_call(
        address, "ModelMetadata", pb.ModelMetadataRequest(name="digits"), pb.ModelMetadataResponse
    )
    assert isinstance(by_grpc, pb.ModelMetadataResponse)
    assert by_rest["versions"] == list(by_grpc.versions) == ["v2"]
    assert by_rest["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 1]}]
    assert list(by_grpc.inputs[0].shape) == [-1, 32, 32, 1]


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/health/ready"])
def test_server_paths_respond(servers, path) -> None:
    assert plain_http.get(servers["echo:v1"].rest + path).status_code == 200


@pytest.mark.parametrize("path", ["other/infer", "sentiment/versions/v2/infer"])
def test_another_model_or_version_is_not_found(servers, path) -> None:
    response = plain_http.post(
        f"{servers['sentiment:v1'].rest}/v2/models/{path}", json=sentence("x")
    )
    assert response.status_code == 404
    assert "v1" in response.json()["error"] or "sentiment" in response.json()["error"]


def test_another_method_is_not_allowed(servers) -> None:
    response = plain_http.get(f"{servers['sentiment:v1'].rest}/v2/models/sentiment/infer")
    assert response.status_code == 405
    assert "error" in response.json()


def image(datatype: str, shape: list[int], data: list[object]) -> dict[str, object]:
    return {"inputs": [{"name": "image", "datatype": datatype, "shape": shape, "data": data}]}


@pytest.mark.parametrize(
    ("model", "body", "reason"),
    [
        ("sentiment", b"{", "invalid JSON"),
        ("sentiment", b"[" * 100_000, "invalid JSON"),
        ("sentiment", b"[]", "must be a JSON object"),
        ("sentiment", b"{}", "at least one tensor"),
        ("sentiment", b'{"inputs": [1]}', '"inputs" must be an object'),
        ("sentiment", sentence("x") | {"outputs": [{"name": "nose"}]}, "unknown output 'nose'"),
        ("sentiment", sentence("x") | {"id": 3}, '"id" must be a string'),
        ("sentiment", image("BYTES", [1], ["x"]), "expected one input 'text'"),
        ("digits", sentence("x"), "expected one input 'image'"),
        ("digits", image("UINT9", [1], [1]), "unknown datatype 'UINT9'"),
        ("digits", image("UINT8", [1, 8, 8, 1], [1]), "needs 64 elements, got 1"),
        ("digits", image("UINT8", [-1, 8, 8, 1], [1]), "negative dimension"),
        ("digits", image("UINT8", [1], [256]), "out of range for UINT8"),
        ("digits", image("UINT8", [1], [1.5]), "element 0 is not a UINT8"),
        ("digits", image("UINT8", [1], [True]), "element 0 is not a UINT8"),
        ("digits", image("UINT8", [2], [1, [2]]), "mixes arrays and elements"),
        ("digits", image("UINT8", [4], [1, 2, 3, 4]), "[n, H, W, 1 or 3]"),
        ("digits", image("UINT8", [1, 7, 7, 1], [0] * 49), "must be 8 to 1024"),
        ("digits", image("UINT8", [0, 8, 8, 1], []), "1 to 64 images"),
        ("digits", image("FP32", [1, 8, 8, 1], [1e39] * 64), "must be finite"),
        ("digits", image("INT64", [1, 8, 8, 1], [0] * 64), "expected UINT8 or FP32"),
        (
            "digits",
            b'{"inputs": [{"name": "image", "data": [NaN]}]}',
            "NaN is not a valid JSON number",
        ),
    ],
)
def test_invalid_input_is_refused_with_the_reason(servers, model, body, reason) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"{servers[f'{model}:v1'].rest}/v2/models/{model}/infer"
    response = plain_http.post(url, content=content)
    assert (response.status_code, reason in response.json()["error"]) == (400, True), response.text


def test_a_body_larger_than_the_limit_is_refused(servers) -> None:
    url = f"{servers['sentiment:v1'].rest}/v2/models/sentiment/infer"
    assert plain_http.post(url, content=b" " * (16 * 1024 * 1024 + 1)).status_code == 413


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([b"\x05\x00"], "within a length"),
        ([b"\x05\x00\x00\x00ab"], "within an element"),
        ([b"", b""], "1 inputs, but 2"),
        ([struct.pack("<I", 1) + b"\xff"], "invalid UTF-8"),
    ],
)
def test_invalid_raw_contents_are_an_invalid_argument(servers, raw, reason) -> None:
    request = pb.ModelInferRequest(model_name="sentiment", raw_input_contents=raw)
    request.inputs.add(name="text", datatype="BYTES", shape=[1])
    with pytest.raises(grpc.RpcError) as refusal:
        grpc_infer(servers["sentiment:v1"], request)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason in refusal.value.details()


def test_another_model_is_not_found_over_grpc(servers) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        grpc_infer(servers["sentiment:v1"], pb.ModelInferRequest(model_name="digits"))
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


def test_echo_returns_the_request_that_arrived(servers) -> None:
    url = f"{servers['echo:v1'].rest}/v2/models/echo/versions/v1/any/path?q=1"
    echoed = plain_http.put(url, content=b"x" * 1000, headers={"x-mark": "here"}).json()
    assert echoed["method"] == "PUT"
    assert echoed["path"] == "/v2/models/echo/versions/v1/any/path"
    assert echoed["query"] == "q=1"
    assert echoed["body_length"] == 1000
    assert ["x-mark", "here"] in echoed["headers"]


def test_echo_returns_grpc_inputs_as_outputs(servers) -> None:
    request = pb.ModelInferRequest(model_name="echo", id="7", raw_input_contents=[b"\x80\x3f"])
    request.inputs.add(name="x", datatype="BF16", shape=[1])
    response = grpc_infer(servers["echo:v1"], request)
    assert (response.id, response.outputs[0].datatype) == ("7", "BF16")
    assert list(response.raw_output_contents) == [b"\x80\x3f"]


def test_echo_streams_the_request_body_back(servers) -> None:
    asyncio.run(_exchange_two_chunks(servers["echo:v1"]))


async def _exchange_two_chunks(address: Addresses) -> None:
    host, port = address.rest.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v2/models/echo/x?echo=body HTTP/1.1\r\nhost: h\r\n"
        b"transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    )
    async with asyncio.timeout(60):
        await reader.readuntil(b"first")
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        await reader.readuntil(b"second")
    writer.close()


def test_echo_returns_websocket_frames(servers) -> None:
    asyncio.run(_exchange_frames(servers["echo:v1"]))


async def _exchange_frames(address: Addresses) -> None:
    url = address.rest.replace("http", "ws") + "/v2/models/echo/ws"
    async with websockets.connect(url) as socket:
        for frame in ("text", b"\x00bytes"):
            await socket.send(frame)
            assert await socket.recv() == frame


def test_echo_streams_events(servers) -> None:
    url = f"{servers['echo:v1'].rest}/v2/models/echo/generate_stream?events=3"
    response = plain_http.get(url)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in response.text.split("\n\n") if line]
    assert [event["index"] for event in events] == [0, 1, 2]
    assert plain_http.get(f"{url}0000000").status_code == 400


def test_control_makes_exactly_the_fail_rate_of_calls_fail() -> None:
    process, addresses = start("echo:v1")
    rest = addresses["echo:v1"].rest
    try:
        assert (
            plain_http.post(f"{rest}/control", json={"fail_rate": 0.3}).json()["fail_rate"] == 0.3
        )
        statuses = [plain_http.post(f"{rest}/v2/models/echo/infer").status_code for _ in range(20)]
        assert (statuses.count(503), statuses.count(200)) == (6, 14)
        assert plain_http.post(f"{rest}/control", json={"fail_rate": 2}).status_code == 400
        assert plain_http.post(f"{rest}/control", json={"nose": 2}).status_code == 400
    finally:
        process.terminate()
        process.wait(60)


def test_a_header_or_a_query_parameter_makes_one_call_fail(servers) -> None:
    url = f"{servers['echo:v1'].rest}/v2/models/echo/infer"
    assert plain_http.post(url, headers={"x-echo-fail-rate": "1"}).status_code == 503
    assert plain_http.post(f"{url}?fail_rate=1").status_code == 503
    assert plain_http.post(url, headers={"x-echo-delay-ms": "soon"}).status_code == 400
    assert plain_http.post(url).status_code == 200


def test_without_the_option_no_caller_can_inject_a_fault() -> None:
    process, addresses = start("echo:v1", faults=False)
    rest = addresses["echo:v1"].rest
    url = f"{rest}/v2/models/echo/infer"
    try:
        assert plain_http.post(f"{rest}/control", json={"fail_rate": 1}).status_code == 404
        assert plain_http.post(url, headers={"x-echo-fail-rate": "1"}).status_code == 200
        assert plain_http.post(f"{url}?fail_rate=1").status_code == 200
        assert plain_http.post(url, headers={"x-echo-delay-ms": "soon"}).status_code == 200
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_after_the_call_in_progress(
    number: signal.Signals,
) -> None:
    process, addresses = start("echo:v1")
    rest = addresses["echo:v1"].rest
    url = f"{rest}/v2/models/echo/generate_stream?events=3&interval_ms=200"
    with plain_http.stream("GET", url) as response:
        lines = response.iter_lines()
        next(lines)
        process.send_signal(number)
        later_events = [line for line in lines if line]
    assert len(later_events) == 2
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_the_server_exits_with_a_message_if_an_address_is_in_use(servers) -> None:
    used = servers["echo:v1"].rest.removeprefix("http://")
    arguments = ["--model", "echo", "--rest", used, "--grpc", "127.0.0.1:0"]
    exited = subprocess.run(
        [sys.executable, "-m", "examples.model_server", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert exited.returncode == 2
    assert "in use" in exited.stderr.lower()
