"""`sluice video-service` checks its options before it starts anything."""

import pytest

from sluice.cli import main, video_service
from sluice.config.load import CONFIG_VARIABLE


@pytest.fixture(autouse=True)
def without_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--shard", "2/2"], "--shard 2/2: write I/N, with I from 0 to N - 1"),
        (["--shard", "video"], "--shard video: write I/N"),
        (["--http", "18200"], "--http 18200"),
        (["--http", "127.0.0.1:65535", "--workers", "2"], "port above 65535: lower workers"),
        (["--http", "0.0.0.0:18200"], "other machines can reach 0.0.0.0:18200"),
        (["--metrics", "0.0.0.0:9903"], "video.metrics: other machines can reach"),
        (["--metrics-allowed-host", "a b"], "--metrics-allowed-host"),
    ],
)
def test_an_option_that_is_not_valid_says_what_to_write(
    options: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["video-service", *options]) == 2
    assert text in capsys.readouterr().err


def test_a_name_that_ends_with_a_number_is_a_shard() -> None:
    assert video_service._shard("video-2/3") == (2, 3)
    assert video_service._shard("1/4") == (1, 4)
    assert video_service._shard(None) == (0, 1)


def test_a_missing_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(video_service, "missing_for_video", lambda: ["av"])
    assert main(["video-service"]) == 1
    error = capsys.readouterr().err
    assert "av is not installed" in error
    assert "pip install 'sluice-gateway[video]'" in error
