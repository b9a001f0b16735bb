"""Cameras of a benchmark: how many the video service analyses, with everything on this machine."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.processes import cpu_seconds, free_port
from bench.video_gateway import VideoGateway, balance, eventually, total
from tests.integration.rtsp_camera import camera, missing

RATE = 30
SETTLE = 3.0
"""Seconds after the first frame of the last camera, before the measurement."""


def measure_cameras(
    gateway: VideoGateway, film: Path, numbers: Sequence[int], seconds: float
) -> None:
    """Print the figures of each number of cameras. Every frame is analysed."""
    reason = missing()
    if reason is not None:
        print(f"no cameras: {reason}")
        return
    print(
        f"{'cameras':<9}{'frames/s':>10}{'results/s':>11}{'dropped':>9}{'errors':>8}{'p50 ms':>8}"
        f"{'p99 ms':>8}{'video CPU':>11}{'envoy':>7}{'callout':>9}{'RTSP':>7}{'machine':>9}"
    )
    with camera(film, free_port()) as source:
        for number in numbers:
            _measure(gateway, source.url, number, seconds, _pid(source.process))


def _measure(gateway: VideoGateway, url: str, number: int, seconds: float, rtsp: int) -> None:
    names = [f"camera-{index}" for index in range(number)]
    gateway.edit(lambda config: config.update(videos={name: _stream(url) for name in names}))
    eventually(
        lambda: (
            {n for n, each in gateway.streams().items() if each["state"] == "running"} == set(names)
        ),
        f"{number} cameras run",
    )
    time.sleep(SETTLE)
    cpu, server, began = gateway.cpu(), cpu_seconds(rtsp), time.monotonic()
    idle, before = _idle(), gateway.streams()
    time.sleep(seconds)
    after, busy = gateway.streams(), _idle() - idle
    elapsed = time.monotonic() - began
    spent = {kind: (now - cpu[kind]) / elapsed for kind, now in gateway.cpu().items()}
    rtsp_share = (cpu_seconds(rtsp) - server) / elapsed
    cores = os.cpu_count() or 1

    def rate(name: str) -> float:
        counted = (
            total(after[n]["counts"], name) - total(before[n]["counts"], name) for n in names
        )
        return sum(counted) / elapsed

    frames, results, drops, errors = map(rate, ("frames", "results", "drops", "errors"))
    p50 = max(after[name]["p50"] for name in names)
    p99 = max(after[name]["p99"] for name in names)
    assert all(balance(after[name]["counts"]) >= 0 for name in names)
    print(
        f"{number:<9}{frames:>10.0f}{results:>11.0f}{drops / max(frames, 1):>9.1%}{errors:>8.1f}"
        f"{p50:>8.1f}{p99:>8.1f}{spent['video']:>11.2f}{spent['envoy']:>7.2f}"
        f"{spent['callout']:>9.2f}{rtsp_share:>7.2f}{1 - busy / elapsed / cores:>9.0%}",
        flush=True,
    )


def _stream(url: str) -> dict[str, Any]:
    return {"url": url, "model": "tensor"}


def _pid(process: Any) -> int:
    pid: int = process.pid
    return pid


def _idle() -> float:
    """Seconds in which the processors of this machine had nothing to do."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[4]) / os.sysconf("SC_CLK_TCK")
