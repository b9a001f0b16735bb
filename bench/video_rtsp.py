"""Checks that every frame of a camera gets the right result, in order and in time.

GStreamer serves a film whose frames carry their numbers, over RTSP. A model that takes 20 ms reads
the numbers. The check fails unless all numbers are right and in order, and the latency from the
arrival of a frame to its event is at most 145 ms at the 99th percentile.
"""

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench.processes import free_port
from bench.video_films import short_film
from bench.video_gateway import VideoGateway, VideoModel, balance, total, video_gateway
from tests.integration.frame_model import MODEL_INPUTS, REGION, frame_model
from tests.integration.rtsp_camera import camera, missing

RATE = 30
MAX_P99 = 145.0
"""Milliseconds."""

DELAY = 20.0
"""Milliseconds that the model takes."""


def main() -> int:
    """Run the check for each transport. Returns 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--transports", nargs="*", default=["tcp", "udp"])
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        sys.exit(reason)
    failed = False
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        film = short_film(directory, 640, 480, options.seconds + 30)
        model = stack.enter_context(frame_model("numbers", delay_ms=DELAY))
        models = {"numbers": VideoModel(MODEL_INPUTS["numbers"], model.grpc)}
        gateway = stack.enter_context(video_gateway(directory / "gateway", models))
        for transport in options.transports:
            with camera(film, free_port()) as source:
                stream = {
                    "url": source.url, "transport": transport, "model": "numbers",
                    "region": REGION,
                }  # fmt: skip
                failed |= check(gateway, transport, stream, options.seconds)
    return int(failed)


def check(gateway: VideoGateway, transport: str, stream: dict[str, Any], seconds: int) -> bool:
    """Whether the check of a stream has failed. Prints its figures."""
    gateway.edit(lambda config: config.update(videos={transport: stream}))
    events = list(watch(gateway, transport, seconds * RATE))
    results = [event for event in events if "inference" in event]
    numbers = [event["inference"]["outputs"][0]["data"][0] for event in results]
    right = sum(n == event["frame"] for n, event in zip(numbers, results, strict=True))
    in_order = all(a["frame"] < b["frame"] for a, b in pairwise(events))
    latencies = [event["timings"]["total"] for event in results]
    p50, p99, highest = np.percentile(latencies, [50, 99, 100])
    span = (events[-1]["captured_us"] - events[0]["captured_us"]) / 1e6
    counts = gateway.streams()[transport]["counts"]
    missing_frames = events[-1]["frame"] - events[0]["frame"] + 1 - len(results)
    print(
        f"{transport}: {len(results)} results in {span:.1f} s ({len(results) / span:.1f}/s), "
        f"{right} right, {'in order' if in_order else 'NOT in order'}, {missing_frames} missing; "
        f"latency p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {highest:.1f} ms; "
        f"frames {counts['frames']} = results {counts['results']} + drops "
        f"{total(counts, 'drops')} + errors {total(counts, 'errors')} + in flight "
        f"{balance(counts)}",
        flush=True,
    )
    return bool(right != len(results) or not in_order or missing_frames or p99 > MAX_P99)


def watch(gateway: VideoGateway, name: str, number: int) -> Iterator[dict[str, Any]]:
    """The next events of a stream. Waits until there is such a stream."""
    url = f"http://127.0.0.1:{gateway.listener}/v2/models/numbers/video/{name}"
    request = urllib.request.Request(url, headers={"accept": "application/x-ndjson"})
    deadline = time.monotonic() + 30
    while True:
        try:
            response = urllib.request.urlopen(request, timeout=60)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    with response:
        for line in response:
            if not line.startswith(b"{"):
                continue
            yield json.loads(line)
            number -= 1
            if not number:
                return


if __name__ == "__main__":
    sys.exit(main())
