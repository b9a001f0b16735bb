"""Measures a gateway that converts, compared with gRPC calls with the same tensors.

wrk, Envoy, one callout worker and the example models (gRPC) run on this machine. The rounds of the
payloads alternate, so that other load on the machine affects all payloads equally.
"""

import http.client
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from bench.ports import GatewayPorts
from bench.processes import (
    callout_processes,
    free_port,
    local_address,
    sluice_up,
)
from bench.rounds import FAILURES, Load, Sample, Target, alternate, median
from protos.inference_pb2 import ModelInferRequest

ROUNDS = 3
CONNECTIONS = 16
SIDE = 32
INFER = "/inference.GRPCInferenceService/ModelInfer"

SCRIPT = f"""
wrk.method = "POST"
wrk.body = io.open("%s", "rb"):read("*a")
{FAILURES}"""
"""wrk script for one thread that sends the body in a file."""


@dataclass(frozen=True, slots=True)
class Payload:
    """One kind of request."""

    name: str
    path: str
    body: bytes
    headers: dict[str, str]


def measure(jpeg: bytes, seconds: int) -> None:
    """Print requests per second and their ratios, or a message if wrk is not installed."""
    if shutil.which("wrk") is None:
        print("\nthrough a gateway: needs wrk on PATH (make bench-convert installs it)")
        return
    pairs = [(jpeg_request(jpeg), tensor_call()), numbers()]
    payloads = [payload for pair in pairs for payload in pair]
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        directory = Path(name)
        with gateway(directory) as target:
            for payload in payloads:
                send_once(target.port, payload)
            loads = [
                Load(each.name, target, each.path, each.headers, write_script(directory, each))
                for each in payloads
            ]
            samples = alternate(loads, ROUNDS, lambda each: each.run(CONNECTIONS, seconds))
    report(pairs, {name: median(found) for name, found in samples.items()})


def report(pairs: Sequence[tuple[Payload, Payload]], medians: dict[str, Sample]) -> None:
    """Print each converted payload, then the gRPC call that it is compared with."""
    print(f"\n{'through a gateway':<44}{'req/s':>10}{'of gRPC':>11}{'p50 ms':>9}{'callout us':>12}")
    for pair in pairs:
        call = medians[pair[1].name]
        for payload in pair:
            sample = medians[payload.name]
            print(
                f"{payload.name:<44}{sample.rate:>10.0f}{sample.rate / call.rate:>11.2f}"
                f"{sample.p50:>9.2f}{sample.cpu['callout']:>12.0f}"
            )


def jpeg_request(jpeg: bytes) -> Payload:
    """A JPEG for the digits model."""
    return Payload(
        "JPEG 224x224 > gRPC digits",
        "/v2/models/digits/infer",
        jpeg,
        {"content-type": "image/jpeg"},
    )


def tensor_call() -> Payload:
    """A gRPC call whose tensor has the shape of the converted JPEG."""
    pixels = np.random.default_rng(7).integers(0, 256, SIDE * SIDE, np.uint8)
    request = ModelInferRequest(model_name="digits", raw_input_contents=[pixels.tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=[1, SIDE, SIDE, 1])
    return grpc_call("tensor of the same shape as a gRPC call", request)


def numbers() -> tuple[Payload, Payload]:
    """Numbers for the echo model, as JSON and as a gRPC call."""
    values = np.random.default_rng(7).normal(size=1000).astype(np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1000], "data": values}
    body = orjson.dumps({"inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)
    request = ModelInferRequest(model_name="echo", raw_input_contents=[values.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1000])
    as_json = Payload(
        "JSON 1000 FP32 > gRPC echo > JSON",
        "/v2/models/echo/infer",
        body,
        {"content-type": "application/json"},
    )
    return as_json, grpc_call("same numbers as a gRPC call", request)


def grpc_call(name: str, request: ModelInferRequest) -> Payload:
    """A gRPC call over HTTP/1.1, which Envoy converts (grpc_http1_bridge): wrk has no HTTP/2."""
    message = request.SerializeToString()
    headers = {
        "content-type": "application/grpc",
        "te": "trailers",
        "x-model-name": request.model_name,
    }
    return Payload(name, INFER, struct.pack(">BI", 0, len(message)) + message, headers)


@contextmanager
def gateway(directory: Path) -> Iterator[Target]:
    """Run `sluice up` with the example models."""
    digits, echo, ports = free_port(), free_port(), GatewayPorts()
    image = {
        "name": "image",
        "datatype": "UINT8",
        "shape": [-1, SIDE, SIDE, 1],
        "image": {"width": SIDE, "height": SIDE, "color": "GRAY"},
    }
    config = {
        **ports.sections(directory, log="stdout"),
        "limits": {"listener": None},
        "models": {
            "digits": {**grpc_model(digits), "inputs": [image]},
            "echo": grpc_model(echo),
        },
    }
    with sluice_up(config, directory, "--demo") as pid:
        yield Target(ports.listener, {"callout": callout_processes(pid)})


def grpc_model(port: int) -> dict[str, object]:
    """A public model that speaks gRPC."""
    version = {"protocol": "grpc", "endpoints": [{"address": local_address(port)}]}
    return {"access": {"public": True}, "versions": {"v1": version}}


def send_once(port: int, payload: Payload) -> None:
    """Send a payload once. Raises RuntimeError if the request fails."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", payload.path, payload.body, payload.headers)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    if response.status != 200 or response.headers.get("grpc-status", "0") != "0":
        raise RuntimeError(f"{payload.name}: {response.status} {response.headers} {text[:500]!r}")


def write_script(directory: Path, payload: Payload) -> Path:
    """A wrk script that sends the payload."""
    name = payload.name.replace(" ", "-")
    body, script = directory / name, directory / f"{name}.lua"
    body.write_bytes(payload.body)
    script.write_text(SCRIPT % body)
    return script
