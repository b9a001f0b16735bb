"""The source for cameras gets every frame of an RTSP server that is not ours, bit for bit."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from sluice.contract.video import VideoReason
from tests.integration.gateway import free_ports
from tests.integration.rtsp_camera import camera, require_server
from tests.video.sources.samples import LIMITS, encoded, failure, pixels
from video.source import SourceError
from video.sources import Credentials, Sampling, open_file, open_rtsp

require_server()

TRANSPORTS: tuple[Literal["tcp", "udp"], ...] = ("tcp", "udp")
COUNT = 45


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short film with several groups of pictures."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    path.write_bytes(encoded("h264", "ordered", "mp4", COUNT))
    return path


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("rate", [None, 5.0])
def test_the_frames_are_those_of_the_film(
    film: Path, transport: Literal["tcp", "udp"], rate: float | None
) -> None:
    expected = list(open_file(film, Sampling(rate), LIMITS).frames())
    with camera(film, free_ports(1)[0], loops=1) as served:
        source = open_rtsp(served.url, transport, None, Sampling(rate), LIMITS)
        frames = list(source.frames())
    assert [each.number for each in frames] == [each.number for each in expected]
    assert [each.time for each in frames] == pytest.approx(
        [each.time for each in expected], abs=0.001
    )
    assert [pixels(each) for each in frames] == [pixels(each) for each in expected]
    assert source.counts.received == COUNT


def test_credentials_open_the_camera(film: Path) -> None:
    with camera(film, free_ports(1)[0], password="right", loops=1) as served:
        for password, reason in (("right", None), ("wrong", VideoReason.WRONG_CREDENTIALS)):
            credentials = Credentials("viewer", password)
            frames, ended = failure(open_rtsp(served.url, "tcp", credentials, Sampling(), LIMITS))
            assert ended is reason
            assert len(frames) == (0 if reason else COUNT)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_camera_that_loses_its_power_ends_the_frames(
    film: Path, transport: Literal["tcp", "udp"]
) -> None:
    limits = replace(LIMITS, idle_timeout=2.0)
    with camera(film, free_ports(1)[0]) as served:
        source = open_rtsp(served.url, transport, None, Sampling(), limits)
        frames = source.frames()
        next(frames)
        served.kill()
        with pytest.raises(SourceError) as error:
            list(frames)
    assert error.value.reason is VideoReason.UNREACHABLE
