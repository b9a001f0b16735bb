"""`sluice video` with a camera, a file and the demo film, against a running gateway."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice.cli.exit_status import ExitStatus
from tests.integration.frame_model import REGION, frame_model
from tests.integration.gateway import Gateway, bearer, free_ports, running
from tests.integration.rtsp_camera import camera, require_server
from tests.integration.video_gateway import video_config
from tests.terminal import Terminal

FILM = Path(__file__).parents[2] / "examples" / "digits.mp4"
FRAMES = 300
BAND = ",".join(str(REGION[key]) for key in ("left", "top", "width", "height"))


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway with the public model `numbers`, and with `jpegs`, which needs a token."""
    with frame_model("numbers", delay_ms=10) as model, frame_model("jpegs") as other:
        config = video_config(model, other)
        del config["models"]["jpegs"]["access"]
        with running(config, demo=False) as started:
            yield started


def arguments(gateway: Gateway, *more: str) -> list[str]:
    control_plane = f"http://{gateway.config['control_plane']['http']}"
    return ["video", *more, "--region", BAND, "--control-plane", control_plane]


def run(
    gateway: Gateway, *more: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "sluice.cli", *arguments(gateway, *more)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment)


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def numbers(found: list[dict[str, Any]]) -> list[int]:
    return [event["inference"]["outputs"][0]["data"][0] for event in found]


def test_a_file_has_an_event_for_each_frame_and_one_for_its_end(gateway: Gateway) -> None:
    ran = run(gateway, str(FILM), "--model", "numbers")
    assert (ran.returncode, ran.stderr) == (ExitStatus.OK, "")
    *results, end = events(ran.stdout)
    assert numbers(results) == list(range(FRAMES))
    assert end["end"]["counts"]["results"] == FRAMES


def test_a_rate_samples_a_file(gateway: Gateway) -> None:
    ran = run(gateway, str(FILM), "--model", "numbers", "--rate", "2")
    assert numbers(events(ran.stdout)[:-1]) == list(range(0, FRAMES, 15))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_has_an_event_for_each_frame(transport: str, gateway: Gateway) -> None:
    require_server()
    with camera(FILM, free_ports(1)[0], loops=1) as source:
        more = ("--model", "numbers", "--transport", transport, "--for", "2s")
        ran = run(gateway, source.url, *more)
    assert (ran.returncode, ran.stderr) == (ExitStatus.OK, "")
    found = [event for event in events(ran.stdout) if "inference" in event]
    assert len(found) > 30
    assert numbers(found) == list(range(len(found)))


def test_a_camera_that_cannot_be_reached_is_an_error(gateway: Gateway) -> None:
    (port,) = free_ports(1)
    ran = run(gateway, f"rtsp://127.0.0.1:{port}/film", "--model", "numbers")
    assert ran.returncode == ExitStatus.FAILED
    assert "Connection refused" in ran.stderr


def test_wrong_credentials_of_a_camera_are_an_error(gateway: Gateway, tmp_path: Path) -> None:
    require_server()
    password = tmp_path / "password"
    password.write_text("wrong")
    more = ["--camera-user", "viewer", "--camera-password-file", str(password)]
    with camera(FILM, free_ports(1)[0], password="right") as source:
        ran = run(gateway, source.url, "--model", "numbers", *more)
    assert ran.returncode == ExitStatus.NOT_ALLOWED
    assert "the camera refuses the credentials" in ran.stderr


def test_a_model_that_needs_a_token_gets_that_of_the_file(gateway: Gateway, tmp_path: Path) -> None:
    refused = run(gateway, str(FILM), "--model", "jpegs")
    assert refused.returncode == ExitStatus.NOT_ALLOWED
    assert "credentials are required" in refused.stderr
    token = tmp_path / "token"
    token.write_text(bearer("alice")["authorization"].removeprefix("Bearer "))
    ran = run(gateway, str(FILM), "--model", "jpegs", "--rate", "1", "--bearer-file", str(token))
    assert ran.returncode == ExitStatus.OK
    assert len(events(ran.stdout)) == 11


def test_an_unknown_model_is_an_error(gateway: Gateway) -> None:
    ran = run(gateway, str(FILM), "--model", "nothing")
    assert ran.returncode == ExitStatus.USAGE
    assert "no model nothing" in ran.stderr


def test_a_terminal_has_a_live_view_that_ends_with_the_counts(gateway: Gateway) -> None:
    terminal = Terminal(
        *arguments(gateway, str(FILM), "--model", "numbers", "--loop"),
        environment={"LINES": "40"},
    )
    terminal.read(lambda output: "at 1." in output)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == ExitStatus.INTERRUPTED
    last = terminal.output[terminal.output.rindex("stream") :]
    for text in ("-> numbers", "stopped", "sampled, ", "p99", "drops", "number"):
        assert text in last


def test_events_end_when_nobody_reads_them(gateway: Gateway) -> None:
    argv = [sys.executable, "-m", "sluice.cli", *arguments(gateway, str(FILM), "--loop")]
    argv += ["--model", "numbers"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == ExitStatus.OK
