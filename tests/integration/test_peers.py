"""Interoperability with NVIDIA's tritonclient and Seldon's mlserver."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import plain_http
from tests.integration.gateway import Config, Gateway, base_config, eventually, free_ports, running
from tests.integration.test_conversion import SIDE, pixels

PEERS = Path(__file__).parent / "peers"
BIN = Path(sys.prefix) / "peers" / "bin"

IMAGE = {
    "name": "image",
    "datatype": "UINT8",
    "shape": [-1, SIDE, SIDE, 1],
    "image": {"width": SIDE, "height": SIDE, "color": "GRAY"},
}
ROWS = {"name": "rows", "datatype": "FP32", "shape": [-1, 4]}
TWO_ROWS = {"name": "rows", "datatype": "FP32", "shape": [2, 4], "data": [0.0] * 4 + [1.0] * 4}


@dataclass(frozen=True)
class Triton:
    """A process with `tritonclient`. A call is one line of JSON in each direction."""

    process: subprocess.Popen[str]

    def call(self, protocol: str, gateway: Gateway, model: str, **options: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = {
            "protocol": protocol,
            "address": gateway.config["listener"]["address"],
            "call": "infer",
            "model": model,
            "binary": True,
            # The gateway selects the model of a gRPC call by this header, not by the message.
            "headers": {"x-model-name": model} if protocol == "grpc" else {},
            **options,
        }
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        result: dict[str, Any] = json.loads(self.process.stdout.readline())
        return result


@pytest.fixture(scope="module", autouse=True)
def peers() -> None:
    assert BIN.exists(), "the peers are not installed: run `make peers`"


@pytest.fixture(scope="module")
def triton() -> Iterator[Triton]:
    with subprocess.Popen(
        [BIN / "python", PEERS / "triton.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Triton(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def mlserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Runs `mlserver` with the model `centroids`; gives its REST and gRPC addresses."""
    directory = tmp_path_factory.mktemp("mlserver") / "centroids"
    directory.mkdir()
    shutil.copy(PEERS / "centroids.py", directory)
    rest, grpc, metrics = free_ports(3)
    model = {"name": "centroids", "implementation": "centroids.Centroids"}
    settings = {
        "host": "127.0.0.1",
        "http_port": rest,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "metrics_dir": str(directory),
        "parallel_workers": 0,
    }
    (directory / "model-settings.json").write_text(json.dumps(model))
    (directory / "settings.json").write_text(json.dumps(settings))
    log = directory / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [BIN / "mlserver", "start", directory],
            cwd=directory,
            env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            eventually(lambda: ready(process, log, rest) and "gRPC server" in log.read_text())
            yield f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}"
        finally:
            process.terminate()


def ready(process: subprocess.Popen[bytes], log: Path, port: int) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return plain_http.get(f"http://127.0.0.1:{port}/v2/models/centroids/ready").is_success
    except httpx.TransportError:
        return False


def config(rest: str, grpc: str) -> Config:
    """`digits` and `echo` by gRPC, `sentiment` by REST, and `centroids` of mlserver by both.

    `unreachable` has no server.
    """
    settings = base_config()
    digits, echo, sentiment = (f"127.0.0.1:{port}" for port in free_ports(3))
    # No process listens on this privileged port.
    closed = "127.0.0.1:1"
    public = {"access": {"public": True}}
    settings["models"] = {
        "digits": {**public, "versions": {"v1": version(digits, "grpc")}, "inputs": [IMAGE]},
        "echo": {**public, "versions": {"v1": version(echo, "grpc")}},
        "sentiment": {
            **public,
            "versions": {"v1": version(sentiment, "http")},
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        },
        "unreachable": {**public, "versions": {"v1": version(closed, "grpc")}},
        "centroids": {
            **public,
            "stable": "rest",
            "versions": {"rest": version(rest, "http"), "grpc": version(grpc, "grpc")},
            "inputs": [ROWS],
        },
    }
    return settings


def version(address: str, protocol: str) -> dict[str, Any]:
    return {"protocol": protocol, "endpoints": [{"address": address}]}


@pytest.fixture(scope="module")
def gateway(mlserver: tuple[str, str]) -> Iterator[Gateway]:
    with running(config(*mlserver)) as gateway:
        yield gateway


def digit() -> dict[str, Any]:
    return {
        "name": "image",
        "datatype": "UINT8",
        "shape": [1, SIDE, SIDE, 1],
        "data": pixels().reshape(-1).tolist(),
    }


@pytest.mark.parametrize(
    ("protocol", "form"),
    [
        ("grpc", {}),
        ("grpc", {"compression": "gzip"}),
        ("http", {"binary": True}),
        ("http", {"binary": False}),
        ("http", {"binary": True, "compression": "gzip"}),
    ],
    ids=["grpc", "grpc gzip", "http binary", "http JSON", "http binary gzip"],
)
def test_tritonclient_gets_the_outputs_of_a_grpc_server(
    triton: Triton, gateway: Gateway, protocol: str, form: dict[str, Any]
) -> None:
    result = triton.call(protocol, gateway, "digits", inputs=[digit()], outputs=["label"], **form)
    assert result.get("outputs") == {"label": [7]}, result
    assert result.get("binary", True) == form.get("binary", True)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("FP32", [1.5, -2.25, 0.0, 2.0**100]),
        ("FP16", [1.5, -2.25, 0.0, 65504.0]),
        ("INT64", [-(2**63), -1, 0, 2**63 - 1]),
        ("BOOL", [True, False, False, True]),
        ("BYTES", ["", "a", "é", "a\nb"]),
    ],
)
def test_tensors_of_tritonclient_return_unchanged_from_the_echo_server(
    triton: Triton, gateway: Gateway, protocol: str, datatype: str, data: list[object]
) -> None:
    tensor = {"name": "x", "datatype": datatype, "shape": [2, 2], "data": data}
    result = triton.call(protocol, gateway, "echo", inputs=[tensor])
    assert result.get("outputs") == {"x": [data[:2], data[2:]]}, result


def test_tritonclient_gets_the_outputs_of_a_rest_server(triton: Triton, gateway: Gateway) -> None:
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a wonderful film"]}
    result = triton.call("http", gateway, "sentiment", inputs=[text], binary=False)
    assert result.get("outputs", {}).get("label") == ["positive"], result


@pytest.mark.parametrize(
    ("protocol", "model", "options"),
    [
        ("grpc", "digits", {}),
        ("http", "sentiment", {}),
        ("http", "digits", {}),
        ("http", "digits", {"version": "v1"}),
        ("http", "centroids", {"headers": {"x-model-version": "rest"}}),
        ("http", "centroids", {"headers": {"x-model-version": "grpc"}}),
    ],
)
def test_tritonclient_reads_the_readiness_and_metadata_of_a_model(
    triton: Triton, gateway: Gateway, protocol: str, model: str, options: dict[str, Any]
) -> None:
    assert triton.call(protocol, gateway, model, call="ready", **options) == {"ready": True}
    assert triton.call(protocol, gateway, model, call="metadata", **options) == {"name": model}


def test_tritonclient_reads_the_status_and_metadata_of_the_gateway(
    triton: Triton, gateway: Gateway
) -> None:
    result = triton.call("http", gateway, "", call="server")
    members = ["extensions", "name", "version"]
    assert result == {"live": True, "ready": True, "members": members}


def test_tritonclient_reads_that_a_model_is_not_ready(triton: Triton, gateway: Gateway) -> None:
    assert triton.call("http", gateway, "unreachable", call="ready") == {"ready": False}
    result = triton.call("http", gateway, "unreachable", call="metadata")
    assert result == {"status": "503", "error": "The connection to the model failed."}


def test_tritonclient_gets_the_status_and_the_detail_of_a_refused_grpc_call(
    triton: Triton, gateway: Gateway
) -> None:
    result = triton.call("grpc", gateway, "absent", inputs=[digit()])
    assert result["status"] == "StatusCode.NOT_FOUND"
    assert result["error"] == "no model has the name in the header x-model-name"


@pytest.mark.parametrize(
    ("model", "options", "status", "error"),
    [
        ("absent", {}, "404", "no model has this path"),
        ("digits", {"version": "v9"}, "404", "model digits has no version 'v9'; it has v1"),
        (
            "digits",
            {"inputs": [{"name": "other", "datatype": "UINT8", "shape": [1], "data": [1]}]},
            "422",
            "inputs[0].name: 'other' is not an input of the model: image",
        ),
        (
            "digits",
            {"outputs": ["absent"]},
            "400",
            "unknown output 'absent', expected label, probabilities",
        ),
        ("unreachable", {}, "503", "The connection to the model failed."),
    ],
    ids=["no model", "no version", "conversion", "model server", "Envoy"],
)
def test_tritonclient_reads_the_error_of_every_refusal_over_rest(
    triton: Triton,
    gateway: Gateway,
    model: str,
    options: dict[str, Any],
    status: str,
    error: str,
) -> None:
    result = triton.call("http", gateway, model, **{"inputs": [digit()], **options})
    assert result == {"status": status, "error": error}


@pytest.mark.parametrize("compression", [{}, {"compression": "gzip"}])
def test_a_grpc_call_whose_header_and_message_name_different_models_is_refused(
    triton: Triton, gateway: Gateway, compression: dict[str, str]
) -> None:
    headers = {"x-model-name": "echo"}
    for call in (
        {"call": "infer", "inputs": [digit()], **compression},
        {"call": "ready"},
        {"call": "metadata"},
    ):
        result = triton.call("grpc", gateway, "digits", headers=headers, **call)
        assert result["status"] == "StatusCode.PERMISSION_DENIED", result
        assert "names model 'digits'" in result["error"]


def test_a_call_to_unload_a_model_is_refused(triton: Triton, gateway: Gateway) -> None:
    result = triton.call("grpc", gateway, "digits", call="unload")
    assert result["status"] == "StatusCode.UNIMPLEMENTED"


@pytest.mark.parametrize("version", ["grpc", "rest"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", json.dumps({"inputs": [TWO_ROWS]})),
        ("application/json", '{"instances": [[0, 0, 0, 0], [1, 1, 1, 1]]}'),
        ("application/octet-stream", bytes(16) + 4 * b"\0\0\x80\x3f"),
    ],
    ids=["V2 JSON", "V1 JSON", "octets"],
)
def test_mlserver_serves_every_request_format(
    gateway: Gateway, version: str, kind: str, body: str | bytes
) -> None:
    with gateway.client() as client:
        response = client.post(
            "/v2/models/centroids/infer",
            content=body,
            headers={"content-type": kind, "x-model-version": version},
        )
    assert response.status_code == 200, response.text
    assert "high" in response.text
    document = response.json()
    if "predictions" in document:
        assert [row["nearest"] for row in document["predictions"]] == [["low"], ["high"]]
    else:
        outputs = {output["name"]: output["data"] for output in document["outputs"]}
        assert outputs == {"distances": [0, 2, 2, 0], "nearest": ["low", "high"]}


@pytest.mark.parametrize("version", ["grpc", "rest"])
def test_an_overflow_in_mlserver_is_null(gateway: Gateway, version: str) -> None:
    with gateway.client() as client:
        response = client.post(
            "/v2/models/centroids/infer",
            json={"instances": [[3e38, 3e38, 0, 0]]},
            headers={"x-model-version": version},
        )
    assert response.status_code == 200, response.text
    assert response.json()["predictions"][0]["distances"] == [None, None]


@pytest.mark.parametrize("version", ["grpc", "rest"])
def test_the_gateway_refuses_a_shape_that_mlserver_would_refuse(
    gateway: Gateway, version: str
) -> None:
    """The model declares four columns, so the gateway refuses a row of three."""
    short = {**TWO_ROWS, "shape": [2, 3], "data": [0.0] * 6}
    with gateway.client() as client:
        response = client.post(
            "/v2/models/centroids/infer",
            json={"inputs": [short]},
            headers={"x-model-version": version},
        )
    assert response.status_code == 422
    assert response.json()["field"] == "inputs[0].shape"


@pytest.mark.parametrize(
    ("protocol", "version", "binary"),
    [("grpc", "grpc", True), ("http", "grpc", True), ("http", "rest", False)],
)
def test_tritonclient_gets_the_outputs_of_mlserver(
    triton: Triton, gateway: Gateway, protocol: str, version: str, binary: bool
) -> None:
    headers = {"x-model-version": version, "x-model-name": "centroids"}
    result = triton.call(
        protocol, gateway, "centroids", inputs=[TWO_ROWS], headers=headers, binary=binary
    )
    assert result.get("outputs", {}).get("distances") == [[0, 2], [2, 0]], result
