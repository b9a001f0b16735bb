"""Checks that streams recover from faults by themselves, in flat memory, and that counts add up.

For several minutes, faults follow one another: a camera is killed, its password is wrong, the model
is slow, the model fails, and the sink is down. The faults of cameras concern only the stream
`disturbed`, and not `steady`. The check fails if a stream does not recover, if `frames = results +
drops + errors` does not hold, if the sink lacks a result, or if the memory of the video service
grows after the first minutes.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import free_port
from bench.video_films import short_film
from bench.video_gateway import (
    VideoGateway,
    VideoModel,
    balance,
    eventually,
    total,
    video_gateway,
)
from tests.integration.frame_model import MODEL_INPUTS, REGION, FrameModel, frame_model
from tests.integration.rtsp_camera import Camera, camera, missing
from tests.video.sinks.web_server import WebServer, web_server

DELAY = 20.0
"""Milliseconds that the model takes when it is not slow."""

SLOW = 600.0
FAULT = 10.0
"""Seconds of one fault."""

SAMPLE_SECONDS = 2.0
WARM_UP = 150.0
"""Seconds until the memory is compared: each fault has occurred at least once."""

MAX_GROWTH = 0.03
"""Maximum growth of the resident memory after the warm-up, as a fraction."""

MAX_IN_FLIGHT = 12
"""Frames of a stream without an outcome: those of its calls, and the next ones."""

PASSWORD = "correct"  # of the camera of the check


@dataclass(slots=True)
class Soak:
    """The parts of the check, and what the sink has received over all its restarts."""

    gateway: VideoGateway
    model: FrameModel
    camera: Camera
    sink_port: int
    password: Path
    received: set[str] = field(default_factory=set)
    sink: WebServer | None = None

    @contextmanager
    def running_sink(self) -> Iterator[None]:
        """The sink, while the block runs."""
        try:
            with web_server(self.sink_port) as self.sink:
                yield
        finally:
            self.collect()  # after the last request
            self.sink = None

    def collect(self) -> None:
        """Keep the ids of the events of results, and forget the requests."""
        if self.sink is None:
            return
        while self.sink.requests:
            for line in self.sink.requests.pop().body.splitlines():
                event = json.loads(line)
                if "inference" in event:
                    self.received.add(event["id"])


def main() -> int:
    """Run the check. Returns 1 if it has failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="sluice-soak-") as name, ExitStack() as stack:
        directory = Path(name)
        film = short_film(directory, 640, 480)
        password = directory / "password"
        password.write_text(PASSWORD)
        model = stack.enter_context(frame_model("numbers", delay_ms=DELAY))
        steady, disturbed = (
            stack.enter_context(camera(film, free_port(), password=PASSWORD)) for _ in range(2)
        )
        sink_port = free_port()
        models = {"numbers": VideoModel(MODEL_INPUTS["numbers"], model.grpc, {"deadline": "3s"})}
        videos = {
            each_name: stream(each, password, sink_port)
            for each_name, each in (("steady", steady), ("disturbed", disturbed))
        }
        gateway = stack.enter_context(video_gateway(directory / "gateway", models, videos))
        soak = Soak(gateway, model, disturbed, sink_port, password)
        return run(soak, options.minutes * 60)


def stream(source: Camera, password: Path, sink_port: int) -> dict[str, Any]:
    """A stream in the config."""
    return {
        "url": source.url,
        "credentials": {"username": "viewer", "password": {"file": str(password)}},
        "model": "numbers",
        "region": REGION,
        "stall_timeout": "2s",
        "sinks": [{"webhook": {"url": f"http://127.0.0.1:{sink_port}/"}, "buffer": 200}],
    }


def run(soak: Soak, seconds: float) -> int:
    """Let the faults occur in turn. Returns 1 if the check has failed."""
    samples: list[tuple[float, int]] = []
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(soak.gateway, samples, done))
    began, turn = time.monotonic(), 0
    faults = [killed_camera, slow_model, failing_model, sink_down, wrong_password]
    recovered: dict[str, list[float]] = {fault.__name__: [] for fault in faults}
    sampler.start()
    try:
        with ExitStack() as sink:
            sink.enter_context(soak.running_sink())
            wait_for_results(soak.gateway)
            while time.monotonic() - began < seconds:
                fault = faults[turn % len(faults)]
                recovered[fault.__name__].append(occur(soak, fault, sink))
                turn += 1
            # Before the next edit: a stream whose config changes counts anew.
            added_up, results = counts_add_up(soak), results_so_far(soak)
            wait_until_delivered(soak)
    finally:
        done.set()
        sampler.join()
    for name, times in recovered.items():
        longest = max(times, default=0.0)
        print(f"{name:<16}{len(times):>3} times, results again after at most {longest:.1f} s")
    print(f"sink: {len(soak.received)} results, without repeats, of at least {results}")
    delivered = len(soak.received) >= results
    return int(not (memory_is_flat(samples) and added_up and delivered))


def occur(soak: Soak, fault: Callable[[Soak, ExitStack], None], sink: ExitStack) -> float:
    """Let a fault occur. Returns the seconds until both streams have results again."""
    fault(soak, sink)
    began = time.monotonic()
    wait_for_results(soak.gateway)
    found = time.monotonic() - began
    time.sleep(FAULT / 2)
    soak.collect()
    for name, each in soak.gateway.streams().items():
        assert balance(each["counts"]) >= 0, (name, each)
    return found


def killed_camera(soak: Soak, _: ExitStack) -> None:
    """The camera loses its power for a while."""
    soak.camera.kill()
    time.sleep(FAULT / 2)
    soak.camera.start()


def slow_model(soak: Soak, _: ExitStack) -> None:
    """The model is much slower than the cameras."""
    soak.model.inject(delay_ms=SLOW)
    time.sleep(FAULT)
    soak.model.inject(delay_ms=DELAY)


def failing_model(soak: Soak, _: ExitStack) -> None:
    """Most calls of the model fail."""
    soak.model.inject(fail_rate=0.9, delay_ms=DELAY)
    time.sleep(FAULT)
    soak.model.inject(delay_ms=DELAY)


def sink_down(soak: Soak, sink: ExitStack) -> None:
    """The sink is not there for so long that its buffer fills up."""
    sink.close()
    time.sleep(FAULT)
    sink.enter_context(soak.running_sink())


def wrong_password(soak: Soak, _: ExitStack) -> None:
    """The config has a wrong password for one camera."""
    wrong = soak.password.with_name("wrong")
    wrong.write_text("wrong")
    _set_password(soak.gateway, wrong)
    time.sleep(FAULT / 2)
    _set_password(soak.gateway, soak.password)


def _set_password(gateway: VideoGateway, file: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        credentials = config["videos"]["disturbed"]["credentials"]
        credentials["password"] = {"file": str(file)}

    gateway.edit(change)


def wait_for_results(gateway: VideoGateway) -> None:
    """Return when both streams have new results."""
    before = {name: each["counts"]["results"] for name, each in gateway.streams().items()}
    names = ("steady", "disturbed")

    def again() -> bool:
        now = gateway.streams()
        return all(
            name in now and now[name]["counts"]["results"] > before.get(name, 0) for name in names
        )

    eventually(again, f"both streams have results: {gateway.streams()}")


def _sample_rarely(config: dict[str, Any]) -> None:
    for each in config["videos"].values():
        each["rate"] = 0.01


def wait_until_delivered(soak: Soak) -> None:
    """Stop the cameras' events, and return when the sink has all of them."""
    soak.gateway.edit(_sample_rarely)
    time.sleep(3)

    def delivered() -> bool:
        soak.collect()
        return all(
            sink["waiting"] == 0
            for each in soak.gateway.streams().values()
            for sink in each["sinks"]
        )

    eventually(delivered, "the sink has all events")


def results_so_far(soak: Soak) -> int:
    """Results of both streams since their start."""
    return sum(total(each["counts"], "results") for each in soak.gateway.streams().values())


def counts_add_up(soak: Soak) -> bool:
    """Whether each stream's counts add up. Prints them."""
    good = True
    for name, each in sorted(soak.gateway.streams().items()):
        counts = each["counts"]
        print(
            f"{name}: received {counts['received']} = frames {counts['frames']} + skipped "
            f"{counts['skipped']} + undecodable {counts['undecodable']}; frames = results "
            f"{counts['results']} + drops {counts['drops']} + errors {counts['errors']} + in "
            f"flight {balance(counts)}; {counts['reconnects']} reconnects"
        )
        whole = counts["frames"] + counts["skipped"] + counts["undecodable"]
        good &= counts["received"] == whole and 0 <= balance(counts) <= MAX_IN_FLIGHT
        good &= total(counts, "results") > 0
    return good


def memory_is_flat(samples: list[tuple[float, int]]) -> bool:
    """Whether memory after the warm-up grows by no more than it may. Prints it for each minute."""
    minutes: dict[int, list[int]] = {}
    for at, resident in samples:
        minutes.setdefault(int(at // 60), []).append(resident)
    print("RSS of the video service by minute, MiB:", end="")
    for found in minutes.values():
        print(f" {statistics.median(found) / 2**20:.1f}", end="")
    print()
    later = [resident for at, resident in samples if at > WARM_UP]
    if len(later) < 10:
        return True
    third = len(later) // 3
    first, last = statistics.median(later[:third]), statistics.median(later[-third:])
    print(f"growth after {WARM_UP:.0f} s: {last / first - 1:+.1%}")
    return last / first - 1 <= MAX_GROWTH


def _sample(gateway: VideoGateway, samples: list[tuple[float, int]], done: threading.Event) -> None:
    began = time.monotonic()
    while not done.wait(SAMPLE_SECONDS):
        samples.append((time.monotonic() - began, gateway.resident("video")))


if __name__ == "__main__":
    sys.exit(main())
