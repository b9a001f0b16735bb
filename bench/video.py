"""Measures the video service: uploads of MJPEG and H.264, and cameras that it pulls.

Uploads arrive as fast as the service takes them. Their rate is frames per CPU second of the
processes of the video service, which includes what these spend on HTTP, gRPC and events. The bare
decoder is PyAV alone, with the same film, on one thread. Cameras are RTSP servers of GStreamer on
this machine. The model responds at once (bench.grpc_sink).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.processes import free_port, local_address, serving
from bench.video_cameras import measure_cameras
from bench.video_films import Film, bare_decoder, multipart, repeated, short_film
from bench.video_gateway import VideoGateway, VideoModel, video_gateway
from bench.video_upload import Upload, upload
from extproc.telemetry.profile import find_py_spy
from protos.inference_pb2 import ModelInferResponse

SIDE = 224
TENSOR = {
    "name": "image", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 3],
    "image": {"width": SIDE, "height": SIDE},
}  # fmt: skip
JPEG = {"name": "picture", "datatype": "BYTES", "shape": [-1]}

MJPEG_AIM = 800.0
SAMPLED_AIM, EVERY_AIM = 0.7, 0.4
"""Aims: frames per CPU second, and shares of the rate of the bare decoder."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """An upload. `decoded`: whether the aim is a share of the rate of the bare decoder."""

    name: str
    model: str
    film: Film
    query: str
    aim: float
    decoded: bool = True


@dataclass(frozen=True, slots=True)
class Measured:
    """One upload: frames per second, and frames per CPU second of the video service.

    `bare`: frames per CPU second of the bare decoder just before; 0 if there is none.
    """

    rate: float
    core_rate: float
    bare: float
    upload: Upload

    @property
    def score(self) -> float:
        """What is compared with the aim."""
        return self.core_rate / self.bare if self.bare else self.core_rate


def main() -> None:
    """Run all scenarios, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--match", default="", help="only uploads whose name contains this")
    parser.add_argument("--cameras", type=int, nargs="*", default=[1, 2, 4, 8, 10, 12, 16, 24, 32])
    parser.add_argument("--seconds", type=float, default=15, help="seconds of cameras")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="profile of the worker (py-spy, speedscope)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        film = short_film(directory, 640, 480)
        address = stack.enter_context(model_server(directory))
        models = {"tensor": VideoModel(TENSOR, address), "jpeg": VideoModel(JPEG, address)}
        gateway = stack.enter_context(video_gateway(directory / "gateway", models))
        if options.profile is not None:
            stack.enter_context(profiled(gateway, options.profile))
        uploads = list(scenarios(directory, film, options.match))
        measure_uploads(gateway, uploads, options.rounds)
        measure_cameras(gateway, film, options.cameras, options.seconds)


@contextmanager
def model_server(directory: Path) -> Iterator[str]:
    """A model server that responds at once. Yields its address."""
    response = ModelInferResponse(model_name="m", model_version="1")
    response.outputs.add(name="scores", datatype="FP32", shape=[1, 10])
    response.raw_output_contents.append(np.arange(10, dtype=np.float32).tobytes())
    file = directory / "response"
    file.write_bytes(response.SerializeToString())
    address = local_address(free_port())
    with serving([sys.executable, "-m", "bench.grpc_sink", address, str(file)], address):
        yield address


@contextmanager
def profiled(gateway: VideoGateway, file: Path) -> Iterator[None]:
    """Profile the worker of the video service, with native frames, while the block runs."""
    worker = max(gateway.processes["video"])  # it was forked last
    argv = [find_py_spy(), "record", "--pid", str(worker), "--native", "--threads", "--rate", "200"]
    argv += ["--format", "speedscope", "--output", str(file)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.send_signal(2)
            process.wait()


def scenarios(directory: Path, film: Path, match: str) -> Iterator[Scenario]:
    """The uploads whose names contain `match`. Their films are made now."""
    if match in (name := "MJPEG 640x480, passed through"):
        mjpeg = multipart(name, film, directory / "mjpeg", 20)
        yield Scenario(name, "jpeg", mjpeg, "", MJPEG_AIM, decoded=False)
    for width, height, times in ((640, 480, 20), (1280, 720, 8)):
        shown = f"H.264 {width}x{height}"
        sampled, every = f"{shown}, 5 frames/s", f"{shown}, every frame"
        if match not in sampled and match not in every:
            continue
        source = film if width == 640 else short_film(directory, width, height)
        video = repeated(shown, source, directory / f"{width}.ts", times)
        if match in sampled:
            yield Scenario(sampled, "tensor", video, "rate=5", SAMPLED_AIM)
        if match in every:
            yield Scenario(every, "tensor", video, "", EVERY_AIM)


def measure_uploads(gateway: VideoGateway, uploads: Sequence[Scenario], rounds: int) -> None:
    """Run the rounds of all uploads in turn, and print the medians."""
    found: dict[str, list[Measured]] = {each.name: [] for each in uploads}
    for _ in range(rounds):
        for each in uploads:
            found[each.name].append(measure(gateway, each))
    print(
        f"{'upload':<34}{'frames/s':>10}{'a core':>9}{'bare':>8}{'ratio':>7}{'aim':>7}{'met':>5}"
        f"{'p50 ms':>8}{'p99 ms':>8}  frames = results + drops + errors"
    )
    for each in uploads:
        samples = found[each.name]
        wall, core, bare, score = (
            statistics.median(values)
            for values in zip(
                *((one.rate, one.core_rate, one.bare, one.score) for one in samples), strict=True
            )
        )
        latencies = [latency for sample in samples for latency in sample.upload.latencies]
        p50, p99 = np.percentile(latencies, [50, 99])
        shown = (f"{bare:.0f}", f"{score:.2f}") if each.decoded else ("", "")
        met = "yes" if score >= each.aim else "NO"
        counts = samples[-1].upload.counts
        print(
            f"{each.name:<34}{wall:>10.0f}{core:>9.0f}{shown[0]:>8}{shown[1]:>7}{each.aim:>7g}"
            f"{met:>5}{p50:>8.1f}{p99:>8.1f}  {counts['frames']} = "
            f"{counts['results']} + {sum(counts['drops'].values())} + "
            f"{sum(counts['errors'].values())}",
            flush=True,
        )


def measure(gateway: VideoGateway, scenario: Scenario) -> Measured:
    """Send the film of a scenario once, after the bare decoder has read it."""
    bare = bare_decoder(scenario.film.content) if scenario.decoded else 0.0
    before, began = gateway.cpu()["video"], time.monotonic()
    ended = upload(gateway.listener, scenario.model, scenario.film, scenario.query)
    seconds, cpu = time.monotonic() - began, gateway.cpu()["video"] - before
    if ended.counts["received"] != scenario.film.frames:
        raise RuntimeError(f"{scenario.name}: {ended.counts}, not {scenario.film.frames} frames")
    return Measured(scenario.film.frames / seconds, scenario.film.frames / cpu, bare, ended)


if __name__ == "__main__":
    main()
