"""The path says which version, or which stream."""

import pytest

from video.service.target import UploadTarget, WatchTarget, read_target


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("POST", "/v2/models/digits/video", UploadTarget(None)),
        ("POST", "/v2/models/digits/versions/v1/video", UploadTarget("v1")),
        ("POST", "/own/path/video", UploadTarget(None)),
        ("POST", "/v2/models/video/video", UploadTarget(None)),
        ("GET", "/v2/models/digits/video/door", WatchTarget("door")),
        ("GET", "/v2/models/video/video/video", WatchTarget("video")),
        ("GET", "/v2/models/digits/video/front%20door", WatchTarget("front door")),
        ("GET", "/v2/models/digits/video", None),
        ("POST", "/v2/models/digits/video/door", None),
        ("POST", "/v2/models/digits/infer", None),
        ("GET", "/video/", None),
    ],
)
def test_a_target_is_read_from_method_and_path(
    method: str, path: str, target: UploadTarget | WatchTarget | None
) -> None:
    assert read_target(method, path) == target
