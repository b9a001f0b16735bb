"""The camera of the tests sends each frame of its film, in order, over TCP and UDP."""

from pathlib import Path

import av
import pytest

from examples.train import frame_number
from tests.integration.gateway import free_ports
from tests.integration.rtsp_camera import camera, require_server

require_server()

FILM = Path(__file__).parents[2] / "examples" / "digits.mp4"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_the_numbers_of_frames_arrive_in_order(transport: str) -> None:
    numbers = []
    with (
        camera(FILM, free_ports(1)[0]) as source,
        av.open(source.url, options={"rtsp_transport": transport}) as video,
    ):
        for frame in video.decode(video=0):
            band = frame.to_ndarray(format="gray")[frame.height * 9 // 10 :]
            width = band.shape[1]
            numbers.append(frame_number.read(band[:, width // 10 : width * 9 // 10]))
            if len(numbers) == 45:
                break
    assert numbers == list(range(45))
