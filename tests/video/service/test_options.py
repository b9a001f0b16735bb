"""Options of uploads: what is valid is read, and everything else is refused by its name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.config.video import FrameSize, Region
from video.service.options import OPTIONS, OptionError, UploadOptions, read_options


def test_without_options_all_frames_are_analysed_and_the_upload_waits_for_the_model() -> None:
    assert read_options(()) == UploadOptions()
    assert UploadOptions().overload == "wait"
    assert UploadOptions().rate is None


def test_all_options_are_read() -> None:
    given_options = {
        "rate": "2.5",
        "region": "0.25,0,0.5,1",
        "size": "640x480",
        "ordered": "false",
        "overload": "drop",
    }
    assert read_options(given_options.items()) == UploadOptions(
        rate=2.5,
        region=Region(left=0.25, top=0, width=0.5, height=1),
        size=FrameSize(width=640, height=480),
        ordered=False,
        overload="drop",
    )
    assert set(given_options) == set(OPTIONS)


@given(st.floats(0.001, 1000))
def test_every_rate_in_the_range_is_read(rate: float) -> None:
    assert read_options([("rate", f"{rate:.6f}")]).rate == pytest.approx(rate, abs=1e-6)


@given(st.lists(st.tuples(st.sampled_from(OPTIONS) | st.text(max_size=12), st.text(max_size=40))))
def test_any_options_are_read_or_refused_with_a_printable_text(
    options: list[tuple[str, str]],
) -> None:
    found, name, text = None, "", ""
    try:
        found = read_options(options)
    except OptionError as error:
        name, text = error.name, str(error)
    assert found is not None or text
    assert name.isprintable()
    assert text.isprintable()


@pytest.mark.parametrize("text", ["nan", "inf", "1e3", "-1", "1001", "0", " 5", "\u0665", ""])
def test_a_rate_that_is_no_number_in_the_range_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="frames per second") as raised:
        read_options([("rate", text)])
    assert raised.value.name == "rate"
