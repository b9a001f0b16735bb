"""The arguments of `sluice video`: what is accepted, and what errors say."""

from pathlib import Path

import pytest

from sluice.cli import main
from sluice.cli.exit_status import ExitStatus
from sluice.cli.video import arguments

FILE = ["film.mp4", "--model", "m"]


def test_a_source_is_a_camera_or_a_file() -> None:
    assert arguments.source("rtsp://192.0.2.1/a?b=c") == "rtsp://192.0.2.1/a?b=c"
    assert arguments.source("film.mp4") == Path("film.mp4")


def test_a_region_and_a_size_have_their_numbers() -> None:
    assert arguments.region("0.25,0,0.5,1").model_dump() == {
        "left": 0.25, "top": 0, "width": 0.5, "height": 1,
    }  # fmt: skip
    assert arguments.size("640x480").model_dump() == {"width": 640, "height": 480}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "give a SOURCE and --model MODEL, or use --demo"),
        (["film.mp4"], "give the model: --model MODEL"),
        (["--demo", *FILE], "--demo has its own video and model"),
        ([*FILE, "--camera-user", "u"], "--camera-user needs a camera"),
        (["rtsp://h/", "--model", "m", "--loop"], "--real-time and --loop need a file"),
        (["rtsp://h/", "--model", "m", "--camera-password-file", "f"], "needs --camera-user NAME"),
        (["http://h/x.m3u8", "--model", "m"], "write rtsp://HOST/PATH"),
        ([*FILE, "--region", "0,0,1"], "write LEFT,TOP,WIDTH,HEIGHT in shares of the frame"),
        ([*FILE, "--region", "0.5,0,0.6,1"], "width: the region ends outside of the frame"),
        ([*FILE, "--region", "0,0,2,1"], "width: "),
        ([*FILE, "--size", "640"], "write WIDTHxHEIGHT in pixels"),
        ([*FILE, "--size", "8x8"], "width: "),
        ([*FILE, "--rate", "0"], "write frames per second, above 0"),
        ([*FILE, "--rate", "nan"], "write frames per second, above 0"),
        ([*FILE, "--gateway", "nowhere"], "write an address as host:port"),
    ],
)
def test_an_argument_that_is_not_valid_is_an_error_that_says_what_to_write(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(given) == ExitStatus.USAGE
    assert message in capsys.readouterr().err


def test_a_url_with_a_password_is_refused_and_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["rtsp://viewer:secret@h/x", "--model", "m"]) == ExitStatus.USAGE
    error = capsys.readouterr().err
    assert "remove the credentials from the URL; use --camera-user" in error
    assert "secret" not in error


def test_without_a_control_plane_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    given = [__file__, "--model", "m", "--control-plane", "http://127.0.0.1:1"]
    assert status_of(given) == ExitStatus.NO_CONTROL_PLANE
    assert "no answer from the control plane" in capsys.readouterr().err


def status_of(given: list[str]) -> int:
    try:
        return main(["video", *given])
    except SystemExit as error:
        return int(str(error.code))
