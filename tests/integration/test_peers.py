"""Clients and model servers that nobody here wrote: NVIDIA's tritonclient, Seldon's mlserver."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.gateway import Config, Gateway, base_config, eventually, free_ports, running
from tests.integration.test_conversion import SIDE, pixels

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
BIN = ROOT / ".venv" / "peers" / "bin"

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
    """A running `tritonclient`; each call is one line each way."""

    process: subprocess.Popen[str]

    def ask(self, protocol: str, gateway: Gateway, model: str, **asked: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        line = {
            "protocol": protocol,
            "address": gateway.config["listener"]["address"],
            "call": "infer",
            "model": model,
            "binary": True,
            # A gRPC call names its model in its message, which nothing is decided by.
            "headers": {"x-model-name": model} if protocol == "grpc" else {},
            **asked,
        }
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


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
    """A running `mlserver` with the model `centroids`: its REST and gRPC addresses."""
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
            eventually(lambda: ready(process, log, rest) and "gRPC server" in log.read_text(), 60)
            yield f"127.0.0.1:{rest}", f"127.0.0.1:{grpc}"
        finally:
            process.terminate()


def ready(process: subprocess.Popen[bytes], log: Path, port: int) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/models/centroids/ready").is_success
    except httpx.TransportError:
        return False


def config(rest: str, grpc: str) -> Config:
    """The example models by gRPC and by REST, and mlserver's model by both."""
    settings = base_config()
    by_grpc, echo, by_rest = (f"127.0.0.1:{port}" for port in free_ports(3))
    public = {"access": {"public": True}}
    settings["models"] = {
        "digits": {**public, "versions": {"v1": served(by_grpc, "grpc")}, "inputs": [IMAGE]},
        "echo": {**public, "versions": {"v1": served(echo, "grpc")}},
        "sentiment": {
            **public,
            "versions": {"v1": served(by_rest, "http")},
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        },
        "centroids": {
            **public,
            "stable": "rest",
            "versions": {"rest": served(rest, "http"), "grpc": served(grpc, "grpc")},
            "inputs": [ROWS],
        },
    }
    return settings


def served(address: str, protocol: str) -> dict[str, Any]:
    return {"protocol": protocol, "endpoints": [{"address": address}]}


@pytest.fixture(scope="module")
def between(mlserver: tuple[str, str]) -> Iterator[Gateway]:
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
def test_tritonclient_gets_a_picture_classified_by_a_grpc_server(
    triton: Triton, between: Gateway, protocol: str, form: dict[str, Any]
) -> None:
    answer = triton.ask(protocol, between, "digits", inputs=[digit()], outputs=["label"], **form)
    assert answer.get("outputs") == {"label": [7]}, answer
    assert answer.get("binary", True) == form.get("binary", True)


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
def test_what_tritonclient_sends_comes_back_as_it_was(
    triton: Triton, between: Gateway, protocol: str, datatype: str, data: list[object]
) -> None:
    tensor = {"name": "x", "datatype": datatype, "shape": [2, 2], "data": data}
    answer = triton.ask(protocol, between, "echo", inputs=[tensor])
    assert answer.get("outputs") == {"x": [data[:2], data[2:]]}, answer


def test_tritonclient_reaches_a_rest_server(triton: Triton, between: Gateway) -> None:
    text = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a wonderful film"]}
    answer = triton.ask("http", between, "sentiment", inputs=[text], binary=False)
    assert answer.get("outputs", {}).get("label") == ["positive"], answer


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_tritonclient_reads_what_a_model_is(
    triton: Triton, between: Gateway, protocol: str
) -> None:
    model = "digits" if protocol == "grpc" else "sentiment"
    assert triton.ask(protocol, between, model, call="ready") == {"ready": True}
    assert triton.ask(protocol, between, model, call="metadata") == {"name": model}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_tritonclient_is_told_what_was_wrong(
    triton: Triton, between: Gateway, protocol: str
) -> None:
    answer = triton.ask(protocol, between, "absent", inputs=[digit()])
    assert answer["status"] == {"grpc": "StatusCode.NOT_FOUND", "http": "404"}[protocol]
    assert "no model" in answer["error"]


@pytest.mark.parametrize("compression", [{}, {"compression": "gzip"}])
def test_tritonclient_cannot_say_one_model_and_mean_another(
    triton: Triton, between: Gateway, compression: dict[str, str]
) -> None:
    headers = {"x-model-name": "echo"}
    for asked in (
        {"call": "infer", "inputs": [digit()], **compression},
        {"call": "ready"},
        {"call": "metadata"},
    ):
        answer = triton.ask("grpc", between, "digits", headers=headers, **asked)
        assert answer["status"] == "StatusCode.PERMISSION_DENIED", answer
        assert "model_mismatch" in answer["error"]


def test_tritonclient_cannot_unload_a_model(triton: Triton, between: Gateway) -> None:
    answer = triton.ask("grpc", between, "digits", call="unload")
    assert answer["status"] == "StatusCode.UNIMPLEMENTED"


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
def test_mlserver_answers_whatever_the_client_sends(
    between: Gateway, version: str, kind: str, body: str | bytes
) -> None:
    with between.client() as client:
        answer = client.post(
            "/v2/models/centroids/infer",
            content=body,
            headers={"content-type": kind, "x-model-version": version},
        )
    assert answer.status_code == 200, answer.text
    assert "high" in answer.text
    document = answer.json()
    if "predictions" in document:
        assert [row["nearest"] for row in document["predictions"]] == [["low"], ["high"]]
    else:
        outputs = {output["name"]: output["data"] for output in document["outputs"]}
        assert outputs == {"distances": [0, 2, 2, 0], "nearest": ["low", "high"]}


@pytest.mark.parametrize("version", ["grpc", "rest"])
def test_what_mlserver_refuses_is_refused(between: Gateway, version: str) -> None:
    """The gateway declares four columns, so three never reach it; its own refusal is a problem."""
    short = {**TWO_ROWS, "shape": [2, 3], "data": [0.0] * 6}
    with between.client() as client:
        answer = client.post(
            "/v2/models/centroids/infer",
            json={"inputs": [short]},
            headers={"x-model-version": version},
        )
    assert answer.status_code == 422
    assert answer.json()["field"] == "inputs[0].shape"


@pytest.mark.parametrize(
    ("protocol", "version", "binary"),
    [("grpc", "grpc", True), ("http", "grpc", True), ("http", "rest", False)],
)
def test_tritonclient_and_mlserver_meet_in_the_gateway(
    triton: Triton, between: Gateway, protocol: str, version: str, binary: bool
) -> None:
    headers = {"x-model-version": version, "x-model-name": "centroids"}
    answer = triton.ask(
        protocol, between, "centroids", inputs=[TWO_ROWS], headers=headers, binary=binary
    )
    assert answer.get("outputs", {}).get("distances") == [[0, 2], [2, 0]], answer
