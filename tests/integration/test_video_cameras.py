"""Cameras of a real RTSP server, through the whole gateway, and their faults."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.integration.frame_model import FrameModel, frame_model
from tests.integration.gateway import Config, Gateway, eventually, free_ports, running
from tests.integration.rtsp_camera import Camera, camera, require_server
from tests.integration.video_gateway import (
    assert_counts_add_up,
    camera_config,
    counts,
    results,
    stream_status,
    video_config,
    wait_for_results,
)
from tests.video.sinks.web_server import web_server

require_server()

FILM = Path(__file__).parents[2] / "examples" / "digits.mp4"
FRAMES = 300
"""Frames of the film, which the camera repeats."""


@pytest.fixture(scope="module")
def model() -> Iterator[FrameModel]:
    with frame_model("numbers", delay_ms=20) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(model: FrameModel) -> Iterator[Gateway]:
    """A gateway. Each test has cameras of its own, with names of its own."""
    with running(video_config(model, deadline="2s"), demo=False) as started:
        yield started


@pytest.fixture
def film_camera() -> Iterator[Camera]:
    with camera(FILM, free_ports(1)[0]) as started:
        yield started


def add(gateway: Gateway, name: str, stream: dict[str, Any]) -> None:
    def change(config: Config) -> None:
        config["videos"] = {name: stream}

    gateway.edit(change)


def written(file: Path) -> list[dict[str, Any]]:
    """The complete events in the file of a sink."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def number(event: dict[str, Any]) -> int:
    found: int = event["inference"]["outputs"][0]["data"][0]
    return found


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_each_frame_has_the_right_result_in_order(
    transport: str, gateway: Gateway, film_camera: Camera, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    sinks = [{"file": {"path": str(file)}}]
    add(gateway, transport, camera_config(film_camera.url, transport=transport, sinks=sinks))
    eventually(lambda: len(written(file)) >= 90)
    events = written(file)
    assert [number(event) for event in events] == [event["frame"] % FRAMES for event in events]
    assert all(b["frame"] == a["frame"] + 1 for a, b in pairwise(events))
    assert all(event["stream"] == transport for event in events)
    assert len({event["id"] for event in events}) == len(events)


def test_a_sampled_camera_has_results_of_the_sampled_frames(
    gateway: Gateway, film_camera: Camera, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    stream = camera_config(film_camera.url, rate=5, sinks=[{"file": {"path": str(file)}}])
    add(gateway, "sampled", stream)
    eventually(lambda: len(written(file)) >= 10)
    events = written(file)
    assert [number(event) for event in events] == [event["frame"] % FRAMES for event in events]
    assert all(a["time"] + 0.19 < b["time"] < a["time"] + 0.24 for a, b in pairwise(events))
    assert_counts_add_up(counts(gateway, "sampled"))


def test_a_watcher_gets_the_events_from_now_on(gateway: Gateway, film_camera: Camera) -> None:
    add(gateway, "watched", camera_config(film_camera.url))
    wait_for_results(gateway, "watched")
    path = "/v2/models/numbers/video/watched"
    events = []
    with (
        gateway.client() as client,
        client.stream("GET", path, headers={"accept": "application/x-ndjson"}) as response,
    ):
        assert response.status_code == 200
        for line in response.iter_lines():
            if line:
                events.append(json.loads(line))
            if len(events) == 20:
                break
    assert [number(event) for event in events] == [event["frame"] % FRAMES for event in events]


def test_a_camera_that_was_killed_is_connected_again(gateway: Gateway, film_camera: Camera) -> None:
    add(gateway, "killed", camera_config(film_camera.url))
    wait_for_results(gateway, "killed")
    film_camera.kill()
    eventually(lambda: stream_status(gateway, "killed")["state"] == "waiting")
    film_camera.start()
    wait_for_results(gateway, "killed")
    found = counts(gateway, "killed")
    assert found["reconnects"] >= 1
    assert_counts_add_up(found)


def test_wrong_credentials_are_a_state_that_ends_with_the_right_ones(
    gateway: Gateway, tmp_path: Path
) -> None:
    with camera(FILM, free_ports(1)[0], password="right") as guarded:
        for password in ("wrong", "right"):
            (tmp_path / password).write_text(password)
        stream = camera_config(guarded.url)
        stream["credentials"] = {"username": "viewer", "password": secret(tmp_path / "wrong")}
        add(gateway, "guarded", stream)
        eventually(
            lambda: "wrong_credentials" in stream_status(gateway, "guarded").get("error", "")
        )
        assert "right" not in json.dumps(stream_status(gateway, "guarded"))
        stream["credentials"]["password"] = secret(tmp_path / "right")
        add(gateway, "guarded", stream)
        wait_for_results(gateway, "guarded")


def secret(path: Path) -> dict[str, str]:
    return {"file": str(path)}


def test_the_latest_frame_wins_while_the_model_is_slow(
    gateway: Gateway, film_camera: Camera, model: FrameModel, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    add(gateway, "slow", camera_config(film_camera.url, sinks=[{"file": {"path": str(file)}}]))
    wait_for_results(gateway, "slow")
    model.inject(delay_ms=700)
    eventually(lambda: counts(gateway, "slow")["drops"] > 30)
    model.inject(delay_ms=20)
    assert stream_status(gateway, "slow")["counts"]["drops"].keys() == {"overload"}
    wait_for_results(gateway, "slow", 30)
    events = [event for event in written(file) if "inference" in event]
    assert [number(event) for event in events] == [event["frame"] % FRAMES for event in events]
    assert all(a["frame"] < b["frame"] for a, b in pairwise(events))
    # A queue would make each frame later than the one before.
    assert max(event["timings"]["total"] for event in events) < 2000
    assert_counts_add_up(counts(gateway, "slow"))


def test_frames_have_errors_while_the_model_fails(
    gateway: Gateway, film_camera: Camera, model: FrameModel
) -> None:
    add(gateway, "failing", camera_config(film_camera.url))
    wait_for_results(gateway, "failing")
    model.inject(fail_rate=1.0)
    eventually(lambda: counts(gateway, "failing")["errors"] > 5)
    assert stream_status(gateway, "failing")["error"]
    model.inject(delay_ms=20)
    wait_for_results(gateway, "failing")
    assert_counts_add_up(counts(gateway, "failing"))


def test_a_sink_that_was_down_gets_each_event(gateway: Gateway, film_camera: Camera) -> None:
    (port,) = free_ports(1)
    webhook = {"url": f"http://127.0.0.1:{port}/"}
    sinks = [{"webhook": webhook, "buffer": 20}]
    add(gateway, "sink", camera_config(film_camera.url, sinks=sinks))
    eventually(lambda: stream_status(gateway, "sink").get("counts", {}).get("drops", {}) != {})
    assert stream_status(gateway, "sink")["counts"]["drops"].keys() == {"sink"}
    assert stream_status(gateway, "sink")["sinks"][0]["error"]
    with web_server(port) as server:
        eventually(lambda: len(server.frames) >= results(gateway, "sink") - 20 > 30)
        frames = server.frames
    assert frames == sorted(frames)
    assert_counts_add_up(counts(gateway, "sink"))
