"""Some mutated videos for each demuxer. `make fuzz` has more."""

import pytest

from tests.video.sources.fuzzing import SAMPLES, Fuzzer


@pytest.mark.parametrize("demuxer", SAMPLES)
def test_mutated_videos_give_frames_or_a_clear_error(demuxer: str) -> None:
    fuzzer = Fuzzer(demuxer)
    counts = [fuzzer.check(number) for number in range(60)]
    assert sum(each.received for each in counts) > 100
