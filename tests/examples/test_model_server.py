"""The example model server as a client meets it: a real process, over REST and gRPC."""

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

ROOT = Path(__file__).parents[2]
VERSIONS = ["v1", "v2"]
ENDPOINTS = [*(f"{m}:{v}" for m in ("sentiment", "digits") for v in VERSIONS), "echo:v1"]


@dataclass(frozen=True)
class Address:
    rest: str
    grpc: str


def start(*endpoints: str) -> tuple[subprocess.Popen[str], dict[str, Address]]:
    """The server, once it has said of every endpoint where it listens."""
    words = [sys.executable, "-m", "examples.model_server"]
    for endpoint in endpoints:
        words += ["--serve", endpoint, "127.0.0.1:0", "127.0.0.1:0"]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    found = {}
    for _ in endpoints:
        model, version, rest, rpc = process.stdout.readline().split()
        found[f"{model}:{version}"] = Address(
            "http://" + rest.removeprefix("rest="), rpc.removeprefix("grpc=")
        )
    return process, found


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Address]]:
    process, found = start(*ENDPOINTS)
    yield found
    process.terminate()
    assert process.wait(10) == 0


def rest_infer(address: Address, model: str, document: object) -> httpx.Response:
    return httpx.post(f"{address.rest}/v2/models/{model}/infer", json=document)


def grpc_call(address: Address, method: str, request: object, response: type) -> object:
    with grpc.insecure_channel(address.grpc) as channel:
        call = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,  # type: ignore[attr-defined]
        )
        return call(request, timeout=5)


def grpc_infer(address: Address, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    answer = grpc_call(address, "ModelInfer", request, pb.ModelInferResponse)
    assert isinstance(answer, pb.ModelInferResponse)
    return answer


def sentence(text: str) -> dict[str, object]:
    return {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]}


def seven() -> np.ndarray:
    picture = Image.open(ROOT / "examples/digit-7.jpg").convert("L").resize((32, 32))
    return np.asarray(picture)[None, :, :, None]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_example_request_is_positive_and_names_its_version(servers, version) -> None:
    body = json.loads((ROOT / "examples/sentiment.json").read_text())
    answer = rest_infer(servers[f"sentiment:{version}"], "sentiment", body).json()
    assert (answer["model_version"], answer["id"]) == (version, "example-1")
    outputs = {output["name"]: output for output in answer["outputs"]}
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
def test_a_seven_is_a_seven_in_every_form(servers, version, layout, channels, datatype) -> None:
    pixels = np.repeat(seven(), channels, axis=3)
    if layout == "NCHW":
        pixels = pixels.transpose(0, 3, 1, 2)
    if datatype == "FP32":
        pixels = (pixels / 255).astype("<f4")
    request = pb.ModelInferRequest(model_name="digits", model_version=version)
    request.inputs.add(name="image", datatype=datatype, shape=pixels.shape)
    request.raw_input_contents.append(pixels.tobytes())
    answer = grpc_infer(servers[f"digits:{version}"], request)
    assert struct.unpack("<q", answer.raw_output_contents[0]) == (7,)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_batch_in_nested_json_is_answered_in_order(servers, version) -> None:
    upright, blank = seven()[0].tolist(), np.zeros((32, 32, 1), int).tolist()
    data = [upright, blank, upright]
    body = {
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [3, 32, 32, 1], "data": data}]
    }
    outputs = rest_infer(servers[f"digits:{version}"], "digits", body).json()["outputs"]
    labels = outputs[0]["data"]
    assert (len(labels), labels[0], labels[2]) == (3, 7, 7)
    assert outputs[1]["shape"] == [3, 10]


def test_metadata_says_what_the_model_takes_and_gives(servers) -> None:
    address = servers["digits:v2"]
    by_rest = httpx.get(f"{address.rest}/v2/models/digits/versions/v2").json()
    by_grpc = grpc_call(
        address, "ModelMetadata", pb.ModelMetadataRequest(name="digits"), pb.ModelMetadataResponse
    )
    assert isinstance(by_grpc, pb.ModelMetadataResponse)
    assert by_rest["versions"] == list(by_grpc.versions) == ["v2"]
    assert by_rest["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 32, 32, 1]}]
    assert list(by_grpc.inputs[0].shape) == [-1, 32, 32, 1]


@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/health/ready"])
def test_server_paths_answer(servers, path) -> None:
    assert httpx.get(servers["echo:v1"].rest + path).status_code == 200


@pytest.mark.parametrize("path", ["other/infer", "sentiment/versions/v2/infer"])
def test_another_model_or_version_is_not_found(servers, path) -> None:
    answer = httpx.post(f"{servers['sentiment:v1'].rest}/v2/models/{path}", json=sentence("x"))
    assert answer.status_code == 404
    assert "v1" in answer.json()["error"] or "sentiment" in answer.json()["error"]


def test_another_method_is_not_allowed(servers) -> None:
    answer = httpx.get(f"{servers['sentiment:v1'].rest}/v2/models/sentiment/infer")
    assert answer.status_code == 405
    assert "error" in answer.json()


def image(datatype: str, shape: list[int], data: list[object]) -> dict[str, object]:
    return {"inputs": [{"name": "image", "datatype": datatype, "shape": shape, "data": data}]}


@pytest.mark.parametrize(
    ("model", "body", "reason"),
    [
        ("sentiment", b"{", "not JSON"),
        ("sentiment", b"[" * 100_000, "not JSON"),
        ("sentiment", b"[]", "must be a JSON object"),
        ("sentiment", b"{}", "at least one tensor"),
        ("sentiment", b'{"inputs": [1]}', '"inputs" must be an object'),
        ("sentiment", sentence("x") | {"outputs": [{"name": "nose"}]}, "no output 'nose'"),
        ("sentiment", sentence("x") | {"id": 3}, '"id" must be a string'),
        ("sentiment", image("BYTES", [1], ["x"]), "expected the one input 'text'"),
        ("digits", sentence("x"), "expected the one input 'image'"),
        ("digits", image("UINT9", [1], [1]), "unknown datatype 'UINT9'"),
        ("digits", image("UINT8", [1, 8, 8, 1], [1]), "takes 64 elements, 1 were sent"),
        ("digits", image("UINT8", [-1, 8, 8, 1], [1]), "negative dimension"),
        ("digits", image("UINT8", [1], [256]), "out of range for UINT8"),
        ("digits", image("UINT8", [1], [1.5]), "element 0 is not a UINT8"),
        ("digits", image("UINT8", [1], [True]), "element 0 is not a UINT8"),
        ("digits", image("UINT8", [2], [1, [2]]), "mixes arrays and elements"),
        ("digits", image("UINT8", [4], [1, 2, 3, 4]), "[n, H, W, 1 or 3]"),
        ("digits", image("UINT8", [1, 7, 7, 1], [0] * 49), "must be 8 to 1024"),
        ("digits", image("UINT8", [0, 8, 8, 1], []), "1 to 64 pictures"),
        ("digits", image("FP32", [1, 8, 8, 1], [1e39] * 64), "not finite"),
        ("digits", image("INT64", [1, 8, 8, 1], [0] * 64), "expected UINT8 or FP32"),
        ("digits", b'{"inputs": [{"name": "image", "data": [NaN]}]}', "NaN is not a JSON number"),
    ],
)
def test_bad_input_is_refused_with_its_reason(servers, model, body, reason) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    url = f"{servers[f'{model}:v1'].rest}/v2/models/{model}/infer"
    answer = httpx.post(url, content=content)
    assert (answer.status_code, reason in answer.json()["error"]) == (400, True), answer.text


def test_a_body_above_the_bound_is_refused(servers) -> None:
    url = f"{servers['sentiment:v1'].rest}/v2/models/sentiment/infer"
    assert httpx.post(url, content=b" " * (16 * 1024 * 1024 + 1)).status_code == 413


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([b"\x05\x00"], "inside a length"),
        ([b"\x05\x00\x00\x00ab"], "inside an element"),
        ([b"", b""], "1 inputs but 2"),
        ([struct.pack("<I", 1) + b"\xff"], "not UTF-8"),
    ],
)
def test_bad_raw_contents_are_an_invalid_argument(servers, raw, reason) -> None:
    request = pb.ModelInferRequest(model_name="sentiment", raw_input_contents=raw)
    request.inputs.add(name="text", datatype="BYTES", shape=[1])
    with pytest.raises(grpc.RpcError) as refusal:
        grpc_infer(servers["sentiment:v1"], request)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason in refusal.value.details()


def test_grpc_knows_no_other_model(servers) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        grpc_infer(servers["sentiment:v1"], pb.ModelInferRequest(model_name="digits"))
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


def test_echo_tells_what_reached_it(servers) -> None:
    url = f"{servers['echo:v1'].rest}/v2/models/echo/versions/v1/any/path?q=1"
    answer = httpx.put(url, content=b"x" * 1000, headers={"x-mark": "here"}).json()
    assert answer["method"] == "PUT"
    assert answer["path"] == "/v2/models/echo/versions/v1/any/path"
    assert answer["query"] == "q=1"
    assert answer["body_length"] == 1000
    assert ["x-mark", "here"] in answer["headers"]


def test_grpc_echo_returns_inputs_as_outputs(servers) -> None:
    request = pb.ModelInferRequest(model_name="echo", id="7", raw_input_contents=[b"\x80\x3f"])
    request.inputs.add(name="x", datatype="BF16", shape=[1])
    answer = grpc_infer(servers["echo:v1"], request)
    assert (answer.id, answer.outputs[0].datatype) == ("7", "BF16")
    assert list(answer.raw_output_contents) == [b"\x80\x3f"]


def test_echo_sends_a_body_back_before_it_has_ended(servers) -> None:
    asyncio.run(_send_in_two_halves(servers["echo:v1"]))


async def _send_in_two_halves(address: Address) -> None:
    host, port = address.rest.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v2/models/echo/x?echo=body HTTP/1.1\r\nhost: h\r\n"
        b"transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    )
    async with asyncio.timeout(5):
        await reader.readuntil(b"first")
        writer.write(b"6\r\nsecond\r\n0\r\n\r\n")
        await reader.readuntil(b"second")
    writer.close()


def test_echo_returns_websocket_frames(servers) -> None:
    asyncio.run(_exchange_frames(servers["echo:v1"]))


async def _exchange_frames(address: Address) -> None:
    url = address.rest.replace("http", "ws") + "/v2/models/echo/ws"
    async with websockets.connect(url) as socket:
        for frame in ("text", b"\x00bytes"):
            await socket.send(frame)
            assert await socket.recv() == frame


def test_echo_streams_events(servers) -> None:
    url = f"{servers['echo:v1'].rest}/v2/models/echo/generate_stream?events=3"
    answer = httpx.get(url)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]
    assert [event["index"] for event in events] == [0, 1, 2]
    assert httpx.get(f"{url}0000000").status_code == 400


def test_control_makes_exactly_the_share_of_calls_fail() -> None:
    process, found = start("echo:v1")
    rest = found["echo:v1"].rest
    try:
        assert httpx.post(f"{rest}/control", json={"fail_rate": 0.3}).json()["fail_rate"] == 0.3
        answers = [httpx.post(f"{rest}/v2/models/echo/infer").status_code for _ in range(20)]
        assert (answers.count(503), answers.count(200)) == (6, 14)
        assert httpx.post(f"{rest}/control", json={"fail_rate": 2}).status_code == 400
        assert httpx.post(f"{rest}/control", json={"nose": 2}).status_code == 400
    finally:
        process.terminate()
        process.wait(10)


def test_one_call_can_ask_for_its_own_failure(servers) -> None:
    url = f"{servers['echo:v1'].rest}/v2/models/echo/infer"
    assert httpx.post(url, headers={"x-echo-fail-rate": "1"}).status_code == 503
    assert httpx.post(f"{url}?fail_rate=1").status_code == 503
    assert httpx.post(url, headers={"x-echo-delay-ms": "soon"}).status_code == 400
    assert httpx.post(url).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_call_under_way(number: signal.Signals) -> None:
    process, found = start("echo:v1")
    rest = found["echo:v1"].rest
    url = f"{rest}/v2/models/echo/generate_stream?events=3&interval_ms=200"
    with httpx.stream("GET", url) as answer:
        lines = answer.iter_lines()
        next(lines)
        process.send_signal(number)
        rest_of_it = [line for line in lines if line]
    assert len(rest_of_it) == 2
    assert process.wait(10) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_an_address_that_is_taken_is_said_and_ends_it(servers) -> None:
    taken = servers["echo:v1"].rest.removeprefix("http://")
    words = ["--model", "echo", "--rest", taken, "--grpc", "127.0.0.1:0"]
    ended = subprocess.run(
        [sys.executable, "-m", "examples.model_server", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 2
    assert "in use" in ended.stderr.lower()
