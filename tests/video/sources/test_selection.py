"""Decoding only what is needed gives exactly the frames that decoding everything gives."""

import pytest

from tests.video.sources.samples import ENCODERS, encoded, pixels, upload
from video.frame import Frame
from video.sources.sampling import Sampler, Sampling

COUNT = 60
STREAMS = [
    (codec, gop, form)
    for codec, (_, gops) in ENCODERS.items()
    for gop in gops
    for form in ("ts", "mp4", "fragments", codec)
]


def _chosen(codec: str, gop: str, form: str, rate: float) -> list[Frame]:
    """The frames that are sampled from all decoded frames."""
    sampler = Sampler(Sampling(rate))
    return [each for each in _all(codec, gop, form) if sampler.sample(each.time)]


def _all(codec: str, gop: str, form: str) -> list[Frame]:
    return list(upload(encoded(codec, gop, form, COUNT), form).frames())


@pytest.mark.parametrize(("codec", "gop", "form"), STREAMS)
def test_all_frames_come_in_order(codec: str, gop: str, form: str) -> None:
    source = upload(encoded(codec, gop, form, COUNT), form)
    frames = list(source.frames())
    assert [each.number for each in frames] == list(range(COUNT))
    assert [each.time for each in frames] == pytest.approx([n / 30 for n in range(COUNT)], abs=1e-3)
    assert len({pixels(each) for each in frames}) == COUNT
    assert (source.counts.received, source.counts.skipped) == (COUNT, 0)


@pytest.mark.parametrize("rate", [0.4, 5, 13])
@pytest.mark.parametrize(("codec", "gop", "form"), STREAMS)
def test_the_sampled_frames_are_those_of_full_decoding(
    codec: str, gop: str, form: str, rate: float
) -> None:
    source = upload(encoded(codec, gop, form, COUNT), form, rate)
    frames, expected = list(source.frames()), _chosen(codec, gop, form, rate)
    assert [each.number for each in frames] == [each.number for each in expected]
    assert [each.time for each in frames] == [each.time for each in expected]
    assert [pixels(each) for each in frames] == [pixels(each) for each in expected]
    counts = source.counts
    assert counts.received == COUNT == counts.skipped + len(frames)
    assert counts.undecodable == 0
