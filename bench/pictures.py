"""Measures a gateway that converts pictures to tensors of 224 x 224 pixels for a gRPC model.

wrk sends a JPEG over HTTP/1.1 to a `sluice up` with one Envoy thread and one callout worker. The
model server (bench.grpc_sink) reads the whole request and responds at once; its CPU time is not
counted. For comparison, clients send the same tensor in a gRPC call. The rounds of the payloads
alternate, so that other load on the machine affects all payloads equally. With `--compare`, the
rounds of this source tree alternate with those of another one.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from bench import wrk
from bench.convert import encoded, photo
from bench.convert_gateway import Payload, grpc_call, send_once, write_script
from bench.ports import GatewayPorts
from bench.processes import (
    CpuTime,
    callout_processes,
    cpu_time,
    envoy_processes,
    free_port,
    local_address,
    resident_bytes,
    serving,
    sluice_up,
)
from protos.inference_pb2 import ModelInferRequest, ModelInferResponse

SIDE = 224
DATATYPES = {"UINT8": np.uint8, "FP32": np.float32}
NORMALIZED = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """Result of one round: requests/s, latency in ms, CPU time in µs a request, memory in MiB."""

    rate: float
    p50: float
    p99: float
    envoy_user: float
    envoy_kernel: float
    python_user: float
    python_kernel: float
    envoy_rss: float
    python_rss: float

    @property
    def python(self) -> float:
        """CPU time of the callout in µs a request."""
        return self.python_user + self.python_kernel

    @property
    def total(self) -> float:
        """CPU time of Envoy and the callout in µs a request."""
        return self.python + self.envoy_user + self.envoy_kernel


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway: its port, and the process ids of Envoy and the callout."""

    port: int
    envoy: list[int]
    callout: list[int]


def image_input(datatype: str) -> dict[str, object]:
    """The declaration of a picture as an input of a model."""
    image: dict[str, object] = {"width": SIDE, "height": SIDE}
    if datatype == "FP32":
        image |= {"layout": "NCHW", **NORMALIZED}
    return {"name": "image", "datatype": datatype, "shape": _shape(datatype), "image": image}


def _shape(datatype: str, batch: int = -1) -> list[int]:
    return [batch, 3, SIDE, SIDE] if datatype == "FP32" else [batch, SIDE, SIDE, 3]


def payloads(jpeg: bytes) -> list[tuple[Payload, Payload]]:
    """For each datatype, the picture, and a gRPC call with a tensor of the same size."""
    return [(_picture(jpeg, datatype), _tensor(datatype)) for datatype in DATATYPES]


def _picture(jpeg: bytes, datatype: str) -> Payload:
    path = f"/v2/models/{datatype.lower()}/infer"
    return Payload(f"JPEG to {datatype}", path, jpeg, {"content-type": "image/jpeg"})


def _tensor(datatype: str) -> Payload:
    values = np.random.default_rng(7).integers(0, 256, SIDE * SIDE * 3)
    request = ModelInferRequest(model_name=datatype.lower())
    request.inputs.add(name="image", datatype=datatype, shape=_shape(datatype, 1))
    request.raw_input_contents.append(values.astype(DATATYPES[datatype]).tobytes())
    return grpc_call(f"{datatype} as a gRPC call", request)


def model_response() -> bytes:
    """The response of the model server: a class of 1,000."""
    response = ModelInferResponse(model_name="m", model_version="1")
    response.outputs.add(name="scores", datatype="FP32", shape=[1, 10])
    response.raw_output_contents.append(np.arange(10, dtype=np.float32).tobytes())
    return response.SerializeToString()


@contextmanager
def model_server(file: Path, port: int) -> Iterator[None]:
    """Run the model server. Its response is written to `file`."""
    file.write_bytes(model_response())
    address = local_address(port)
    with serving([sys.executable, "-m", "bench.grpc_sink", address, str(file)], address):
        yield


@contextmanager
def gateway(directory: Path, upstream: str, tree: Path | None = None) -> Iterator[Gateway]:
    """Run a gateway with a model for each datatype. Its files are in `directory`."""
    directory.mkdir()
    ports = GatewayPorts()
    version = {"protocol": "grpc", "endpoints": [{"address": upstream}]}
    config: dict[str, object] = {
        **ports.sections(directory, log=str(directory / "access.log")),
        "limits": {"listener": None},
        "models": {
            datatype.lower(): {
                "access": {"public": True},
                "inputs": [image_input(datatype)],
                "versions": {"v1": version},
            }
            for datatype in DATATYPES
        },
    }
    with sluice_up(config, directory, tree=tree) as pid:
        yield Gateway(ports.listener, envoy_processes(pid), callout_processes(pid))


def load(target: Gateway, payload: Payload, seconds: int, script: Path) -> Sample:
    """Load a gateway with one payload for one round. Raises RuntimeError if a request fails."""
    before = _spent(target)
    report = wrk.run(target.port, payload.path, payload.headers, CONNECTIONS, seconds, script)
    after = _spent(target)
    if wrk.number(report.text, r"failed: (\d+)"):
        raise RuntimeError(f"{payload.name}: {report.text}")
    times = [
        (end - start) / report.requests * 1e6
        for old, new in zip(before, after, strict=True)
        for start, end in zip(old, new, strict=True)
    ]
    resident = (
        sum(map(resident_bytes, pids)) / 2**20 for pids in (target.envoy, target.callout[-1:])
    )
    return Sample(report.rate, report.p50, report.p99, *times, *resident)


def _spent(target: Gateway) -> list[CpuTime]:
    found = []
    for pids in (target.envoy, target.callout):
        times = [cpu_time(pid) for pid in pids]
        found.append(CpuTime(sum(t.user for t in times), sum(t.kernel for t in times)))
    return found


def median(samples: Sequence[Sample]) -> Sample:
    """The median of each figure."""
    return Sample(
        *(statistics.median(getattr(s, each.name) for s in samples) for each in fields(Sample))
    )


def report(name: str, samples: Sequence[Sample], compared: Sequence[Sample]) -> None:
    """Print the medians of one payload, and those of each round's ratios."""
    middle = median(samples)
    pairs = list(zip(samples, compared, strict=True))
    rate, python, total = (
        statistics.median(getattr(one, each) / getattr(other, each) for one, other in pairs)
        for each in ("rate", "python", "total")
    )
    print(
        f"{name:<34}{middle.rate:>7.0f}{middle.p50:>7.1f}{middle.p99:>7.1f}"
        f"{middle.envoy_user:>8.0f}{middle.envoy_kernel:>8.0f}"
        f"{middle.python_user:>8.0f}{middle.python_kernel:>8.0f}"
        f"{middle.python:>8.0f}{middle.total:>8.0f}"
        f"{middle.envoy_rss:>7.0f}{middle.python_rss:>7.0f}"
        f"{rate:>7.2f}{python:>7.2f}{total:>7.2f}"
    )


def main() -> None:
    """Run all rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="seconds of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--match", default="", help="only payloads whose name contains this")
    parser.add_argument("--compare", type=Path, help="another source tree, for ratios to it")
    options = parser.parse_args()
    wrk.require_wrk("bench-convert")
    pairs = payloads(encoded(photo(SIDE, SIDE), "JPEG"))
    chosen = [each for pair in pairs for each in pair if options.match in each.name]
    trees: dict[str, Path | None] = {"": None}
    if options.compare is not None:
        trees["other: "] = options.compare.resolve()
    samples: dict[tuple[str, str], list[Sample]] = {}
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, ExitStack() as stack:
        directory, port = Path(name), free_port()
        stack.enter_context(model_server(directory / "message", port))
        scripts = {each.name: write_script(directory, each) for each in chosen}
        running = {
            label: stack.enter_context(
                gateway(directory / f"gateway{len(label)}", local_address(port), tree)
            )
            for label, tree in trees.items()
        }
        for target in running.values():
            for payload in chosen:
                send_once(target.port, payload)
        for _ in range(options.rounds):
            for payload in chosen:
                for label, target in running.items():
                    sample = load(target, payload, options.seconds, scripts[payload.name])
                    samples.setdefault((payload.name, label), []).append(sample)
    print_report(pairs, samples)


def print_report(
    pairs: Sequence[tuple[Payload, Payload]], samples: dict[tuple[str, str], list[Sample]]
) -> None:
    """Print the payloads of this tree and of the other one.

    Ratios are relative to the other tree, or else to the gRPC call.
    """
    print(
        f"{'':<34}{'req/s':>7}{'p50':>7}{'p99':>7}{'Envoy':>8}{'kernel':>8}{'Python':>8}"
        f"{'kernel':>8}{'Python':>8}{'total':>8}{'RSS':>7}{'RSS':>7}"
        "  ratios: req/s Python total"
    )
    calls = {payload.name: call.name for payload, call in pairs}
    for (name, label), found in samples.items():
        call = samples.get((calls.get(name, name), label), found)
        report(label + name, found, samples.get((name, "other: "), call))


if __name__ == "__main__":
    main()
