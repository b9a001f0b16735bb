"""Requests for the video service: which exist, what they may have, and where they go."""

from typing import Any

import pytest

from extproc.decision import Reason, Refusal, Request, decide, explain
from sluice.contract.names import VIDEO_CLUSTER, VIDEO_GRPC_CLUSTER
from sluice.contract.video import VIDEO_TYPES
from tests.extproc.decision.requests import (
    VERSIONS,
    admitted,
    bearer,
    make_policy,
    make_request,
    refused,
)

GRPC_VERSIONS = {name: {**version, "protocol": "grpc"} for name, version in VERSIONS.items()}
MODEL: dict[str, Any] = {
    "versions": GRPC_VERSIONS,
    "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}],
    "max_body": 100,
    "video": {"max_bytes": 10_000},
    "canaries": [{"version": "v2"}],
}
POLICY = make_policy(
    {"m": MODEL, "own": {**MODEL, "access": {"allow": [{"groups": ["vip"]}]}}, "plain": {}}
)
ANALYZE = "/sluice.video.v1.VideoAnalysis/Analyze"
WATCH = "/sluice.video.v1.VideoAnalysis/Watch"


def upload(path: str = "/v2/models/m/video", method: str = "POST", **headers: str) -> Request:
    return make_request(path, method, **{"content_type": "video/mp4", **headers})


def watch(path: str, **headers: str) -> Request:
    return make_request(path, "GET", body=False, **headers)


def call(path: str, *, body: bool = True, **headers: str) -> Request:
    named = {"content_type": "application/grpc", "x_model_name": "m", **headers}
    return make_request(path, body=body, **named)


@pytest.mark.parametrize(
    ("request_", "cluster"),
    [
        (upload(), VIDEO_CLUSTER),
        (upload("/v2/models/m/video?rate=5"), VIDEO_CLUSTER),
        (upload("/v2/models/m/versions/v3/video"), VIDEO_CLUSTER),
        (watch("/v2/models/m/video/door.1"), VIDEO_CLUSTER),
        (call(ANALYZE), VIDEO_GRPC_CLUSTER),
        (call(WATCH), VIDEO_GRPC_CLUSTER),
    ],
)
def test_a_request_for_video_goes_to_the_video_service(request_: Request, cluster: str) -> None:
    admission = admitted(POLICY, request_)
    assert admission.video_cluster == cluster
    assert admission.converter is None
    assert admission.max_body == 10_000


@pytest.mark.parametrize("media_type", VIDEO_TYPES)
def test_every_format_of_video_is_accepted_with_parameters(media_type: str) -> None:
    assert admitted(POLICY, upload(content_type=f"{media_type.upper()}; boundary=a")).video_cluster


UNKNOWN = (404, Reason.UNKNOWN_MODEL)
WRONG_METHOD = (405, Reason.METHOD_NOT_ALLOWED)
MALFORMED = (400, Reason.MALFORMED_REQUEST)
WRONG_TYPE = (415, Reason.UNSUPPORTED_MEDIA_TYPE)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (upload("/v2/models/plain/video"), UNKNOWN),
        (upload("/v2/models/none/video"), UNKNOWN),
        (upload("/v2/models/m/video/"), UNKNOWN),
        (upload("/v2/models/m/video/a/b"), UNKNOWN),
        (watch("/v2/models/m/video/-a"), UNKNOWN),
        (watch(f"/v2/models/m/video/{64 * 'a'}"), UNKNOWN),
        (watch("/v2/models/m/versions/v1/video/a"), UNKNOWN),
        (watch("/v2/models/plain/video/a"), UNKNOWN),
        (upload("/v2/models/m/versions/v9/video"), (404, Reason.UNKNOWN_VERSION)),
        (call(ANALYZE, x_model_name="plain"), UNKNOWN),
        (call(ANALYZE, x_model_name="none"), UNKNOWN),
        (call("/sluice.video.v1.VideoAnalysis/Other"), WRONG_METHOD),
        (call("/sluice.video.v1.VideoReports/StreamReports"), UNKNOWN),
        (upload(method="PUT"), WRONG_METHOD),
        (watch("/v2/models/m/video"), WRONG_METHOD),
        (upload("/v2/models/m/video/a"), WRONG_METHOD),
        (make_request("/v2/models/m/video/a", "GET"), MALFORMED),
        (make_request("/v2/models/m/video", body=False), MALFORMED),
        (upload(upgrade="websocket"), MALFORMED),
        (call(WATCH, body=False), MALFORMED),
        (upload(content_length="-1"), MALFORMED),
        (upload(content_type="application/json"), WRONG_TYPE),
        (upload(content_type="video/x-msvideo"), WRONG_TYPE),
        (upload(content_type="application/vnd.apple.mpegurl"), WRONG_TYPE),
        (call(ANALYZE, content_type="video/mp4"), WRONG_TYPE),
        (upload(content_length="10001"), (413, Reason.BODY_TOO_LARGE)),
        (upload(authorization="Bearer a.b.c"), (401, Reason.INVALID_CREDENTIALS)),
        (upload("/v2/models/own/video"), (401, Reason.UNAUTHENTICATED)),
        (upload("/v2/models/own/video", authorization=bearer()), (403, Reason.FORBIDDEN)),
    ],
)
def test_other_requests_are_refused(request_: Request, expected: tuple[int, Reason]) -> None:
    assert refused(POLICY, request_) == expected


def test_only_max_bytes_of_video_limits_an_upload() -> None:
    assert admitted(POLICY, upload(content_length="10000"))
    refusal = decide(POLICY, upload(content_length="10001"))
    assert isinstance(refusal, Refusal)
    assert refusal.rule == "video.max_bytes"


def test_a_body_without_a_type_is_told_the_formats() -> None:
    request = upload()
    headers = {name: value for name, value in request.headers.items() if name != "content-type"}
    refusal = decide(POLICY, Request(headers, has_body=True, now=request.now))
    assert isinstance(refusal, Refusal)
    assert dict(refusal.headers) == {"accept": ", ".join(VIDEO_TYPES)}


def test_a_video_is_routed_like_other_requests_of_the_model() -> None:
    assert admitted(POLICY, upload()).target.version == "v1"
    assert admitted(POLICY, upload(x_canary="true")).canary
    admission = admitted(POLICY, upload("/v2/models/m/versions/v3/video"))
    assert (admission.target.version, admission.reason) == ("v3", Reason.VERSION_PATH)


def test_explanations_name_the_video() -> None:
    _, reports = explain(POLICY, upload())
    found = {each.stage: each.explanation for each in reports}
    assert found["validate"] == "video of model m, up to 10000 bytes"
    assert found["convert"] == "the video service converts each frame"
