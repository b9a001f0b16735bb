"""Tests of validate: which requests are for a model and have a form that it accepts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.decision import Admission, Reason, Refusal, decide
from tests.extproc.decision.requests import admitted, one, policy, refused, request

NOT_FOUND = (404, Reason.UNKNOWN_MODEL)
METHOD = (405, Reason.METHOD_NOT_ALLOWED)
MEDIA_TYPE = (415, Reason.UNSUPPORTED_MEDIA_TYPE)
TOO_LARGE = (413, Reason.BODY_TOO_LARGE)
MALFORMED = (400, Reason.MALFORMED_REQUEST)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v2/models/m/infer", "m"),
        ("/v2/models/m/versions/v2/infer", "m"),
        ("/v2/models/m/infer?a=/v2/models/n", "m"),
        ("/v2/models/mm/infer", "mm"),
        ("/v2/models/m.2/infer", "m.2"),
        ("/classify", "m"),
        ("/classify/deep/er", "m"),
        ("/classify/fast", "mm"),
        ("/classify/fast/x", "mm"),
        ("/classify/faster", "m"),
        ("/v2/models/m/own", "mm"),
        ("/v2/models/m/own/x", "mm"),
        ("/v2/models/m/owner", "m"),
    ],
)
def test_a_path_belongs_to_the_model_with_the_longest_prefix(path: str, model: str) -> None:
    by = policy(
        {
            "m": {"paths": ["/classify"]},
            "mm": {"paths": ["/classify/fast", "/v2/models/m/own"]},
            "m.2": {},
        }
    )
    assert admitted(by, request(path)).target.model == model


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", "/v2", "/v2/models", "/v2/models/", "/v2/models//", "/v2/models/n/infer",
     "/v2/models/M/infer", "/v2/models/m2", "/x/v2/models/m/infer", "v2/models/m/infer",
     "/v2/models/m%2Finfer", "/classify", "*", "/?/v2/models/m/infer", "/v2/models/ m/infer"],
)  # fmt: skip
def test_other_paths_belong_to_no_model(path: str) -> None:
    assert refused(one(), request(path)) == NOT_FOUND


@given(
    prefixes=st.lists(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(lambda s: "/" + "/".join(s)),
        unique=True,
        max_size=8,
    ),
    segments=st.lists(st.sampled_from(["a", "b", "c", "ab", ""]), max_size=7),
)
def test_prefixes_match_as_comparing_with_every_one_of_them_would(
    prefixes: list[str], segments: list[str]
) -> None:
    by = policy({f"m{n}": {"paths": [prefix]} for n, prefix in enumerate(prefixes)})
    path = "/" + "/".join(segments)
    matching = [p for p in prefixes if path == p or path.startswith(p + "/")]
    decision = decide(by, request(path))
    if matching:
        assert isinstance(decision, Admission)
        assert decision.target.model == f"m{prefixes.index(max(matching, key=len))}"
    else:
        assert isinstance(decision, Refusal)


def test_a_grpc_call_names_its_model_by_header() -> None:
    by = policy({"m": {}, "n": {}})
    path = "/inference.GRPCInferenceService/ModelInfer"
    grpc = {"content_type": "application/grpc"}
    assert admitted(by, request(path, x_model_name="n", **grpc)).target.model == "n"
    assert refused(by, request(path, **grpc)) == NOT_FOUND
    assert refused(by, request(path, x_model_name="absent", **grpc)) == NOT_FOUND
    assert refused(by, request(path, x_model_name="n, n", **grpc)) == NOT_FOUND


@pytest.mark.parametrize(
    ("method", "served"),
    [("ModelInfer", True), ("ModelStreamInfer", True), ("ServerLive", True),
     ("ModelInfer?x=1", True), ("RepositoryModelUnload", False), ("TraceSetting", False),
     ("modelinfer", False), ("ModelInfer/", False), ("", False)],
)  # fmt: skip
def test_of_the_grpc_methods_those_are_served_that_concern_one_model(
    method: str, served: bool
) -> None:
    path = f"/inference.GRPCInferenceService/{method}"
    asked = request(path, x_model_name="m", content_type="application/grpc")
    if served:
        assert admitted(one(), asked)
    else:
        assert refused(one(), asked) == METHOD


def test_a_grpc_call_without_a_message_is_refused_before_a_server_waits_for_it() -> None:
    path = "/inference.GRPCInferenceService/ModelInfer"
    grpc = {"x_model_name": "m", "content_type": "application/grpc"}
    assert refused(one(), request(path, body=False, **grpc)) == MALFORMED


def test_the_name_in_the_header_does_not_count_elsewhere() -> None:
    by = policy({"m": {}, "n": {}})
    assert admitted(by, request(x_model_name="n")).target.model == "m"


def test_a_method_that_the_model_does_not_take_is_refused_with_those_it_takes() -> None:
    by = one(methods=["POST", "PUT"])
    for method in ("GET", "DELETE", "post", "CONNECT", ""):
        decision = decide(by, request(method=method))
        assert isinstance(decision, Refusal)
        assert (decision.status, decision.headers) == (405, (("allow", "POST, PUT"),))
    assert admitted(by, request(method="PUT"))


@pytest.mark.parametrize(
    "path",
    ["/v2/models/m", "/v2/models/m/", "/v2/models/m/ready", "/v2/models/m/versions/v2",
     "/v2/models/m/versions/v2/", "/v2/models/m/versions/v2/ready"],
)  # fmt: skip
def test_metadata_and_readiness_are_read_and_nothing_else(path: str) -> None:
    for method in ("GET", "HEAD"):
        assert admitted(one(), request(path, method, body=False))
    assert refused(one(), request(path, "POST")) == METHOD


@pytest.mark.parametrize(
    "path", ["/v2/models/m/infer", "/v2/models/m/readyz", "/own", "/own/ready"]
)
def test_reading_what_is_no_metadata_takes_the_models_methods(path: str) -> None:
    assert refused(one(paths=["/own"]), request(path, "GET", body=False)) == METHOD


def test_a_websocket_is_for_models_that_take_one() -> None:
    asked = request(method="GET", upgrade="WebSocket", connection="Upgrade")
    assert admitted(one(websocket=True, content_types=["image/png"]), asked)
    assert refused(one(), asked) == METHOD
    assert refused(one(methods=["GET"]), asked) == METHOD
    assert refused(one(websocket=True), request(upgrade="websocket")) == METHOD
    assert refused(one(websocket=True), request(method="GET", upgrade="h2c")) == METHOD


@pytest.mark.parametrize(
    ("length", "expected"),
    [("0", None), ("100", None), ("0100", None), ("101", TOO_LARGE), ("9" * 19, TOO_LARGE),
     ("", MALFORMED), ("-1", MALFORMED), ("+1", MALFORMED), ("1_0", MALFORMED), ("1e1", MALFORMED),
     ("0x10", MALFORMED), ("10, 10", MALFORMED), (" 10", MALFORMED), ("9" * 5000, MALFORMED),
     ("\u0661", MALFORMED)],
)  # fmt: skip
def test_the_declared_length_is_a_number_within_the_limit(
    length: str, expected: tuple[int, Reason] | None
) -> None:
    by = one(max_body=100)
    asked = request(content_length=length)
    if expected is None:
        assert admitted(by, asked)
    else:
        assert refused(by, asked) == expected


def test_without_a_limit_of_its_own_a_model_has_the_common_one() -> None:
    by = policy({"m": {}, "n": {"max_body": 20}}, requests={"max_body": 10})
    assert refused(by, request(content_length="11")) == TOO_LARGE
    assert admitted(by, request("/v2/models/n/infer", content_length="11")).max_body == 20


@pytest.mark.parametrize(
    ("accepted", "given", "good"),
    [
        ("application/json", "application/json", True),
        ("application/json", "Application/JSON; charset=utf-8", True),
        ("application/json", "application/json ;a=b", True),
        ("application/json", "application/jsonp", False),
        ("application/json", "text/json", False),
        ("application/json", "", False),
        ("application/json", "application/json, text/html", False),
        ("image/*", "image/webp", True),
        ("image/*", "IMAGE/PNG", True),
        ("image/*", "imagery/png", False),
        ("image/*", "x-image/png", False),
        ("application/grpc", "application/grpc+proto", True),
        ("application/grpc", "application/grpc", True),
        ("application/grpc", "application/grpc-web", False),
        ("*/*", "anything/at-all", True),
    ],
)
def test_the_media_type_is_one_that_the_model_takes(accepted: str, given: str, good: bool) -> None:
    by = one(content_types=[accepted])
    asked = request(content_type=given)
    if good:
        assert admitted(by, asked)
    else:
        assert refused(by, asked) == MEDIA_TYPE


def test_a_body_of_no_type_counts_as_plain_bytes() -> None:
    asked = request()
    headers = {name: value for name, value in asked.headers.items() if name != "content-type"}
    untyped = type(asked)(headers, True, asked.now)
    assert admitted(one(content_types=["application/octet-stream"]), untyped)
    assert refused(one(content_types=["application/json"]), untyped) == MEDIA_TYPE


def test_without_a_body_the_media_type_does_not_matter() -> None:
    assert admitted(one(), request(body=False, content_type="text/html"))


def test_a_refused_media_type_is_answered_with_those_that_are_taken() -> None:
    decision = decide(one(content_types=["image/*", "text/plain"]), request())
    assert isinstance(decision, Refusal)
    assert decision.headers == (("accept", "text/plain, image/*"),)
