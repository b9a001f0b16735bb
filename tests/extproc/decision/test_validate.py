"""Tests of validate: which requests are for a model and have a form that it accepts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.decision import Admission, Decision, Reason, Refusal, Request, decide
from tests.extproc.decision.requests import (
    VERSIONS,
    admitted,
    make_policy,
    make_request,
    policy_with,
    refused,
)

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
        ("/v2/models/m/own.er", "m"),
    ],
)
def test_a_path_belongs_to_the_model_with_the_longest_prefix(path: str, model: str) -> None:
    policy = make_policy(
        {
            "m": {"paths": ["/classify"], "extra_paths": ["own.er"]},
            "mm": {"paths": ["/classify/fast", "/v2/models/m/own"]},
            "m.2": {},
        }
    )
    assert admitted(policy, make_request(path)).target.model == model


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", "/v2", "/v2/models", "/v2/models/", "/v2/models//", "/v2/models/n/infer",
     "/v2/models/M/infer", "/v2/models/m2", "/x/v2/models/m/infer", "v2/models/m/infer",
     "/v2/models/m%2Finfer", "/classify", "*", "/?/v2/models/m/infer", "/v2/models/ m/infer"],
)  # fmt: skip
def test_other_paths_belong_to_no_model(path: str) -> None:
    assert refused(policy_with(), make_request(path)) == NOT_FOUND


@given(
    prefixes=st.lists(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(lambda s: "/" + "/".join(s)),
        unique=True,
        max_size=8,
    ),
    segments=st.lists(st.sampled_from(["a", "b", "c", "ab", ""]), max_size=7),
)
def test_the_prefix_search_finds_the_longest_matching_prefix(
    prefixes: list[str], segments: list[str]
) -> None:
    policy = make_policy({f"m{n}": {"paths": [prefix]} for n, prefix in enumerate(prefixes)})
    path = "/" + "/".join(segments)
    matching = [p for p in prefixes if path == p or path.startswith(p + "/")]
    decision = decide(policy, make_request(path))
    if matching:
        assert isinstance(decision, Admission)
        assert decision.target.model == f"m{prefixes.index(max(matching, key=len))}"
    else:
        assert isinstance(decision, Refusal)


def test_a_grpc_call_names_its_model_by_header() -> None:
    policy = make_policy({"m": {}, "n": {}})
    path = "/inference.GRPCInferenceService/ModelInfer"
    grpc = {"content_type": "application/grpc"}
    assert admitted(policy, make_request(path, x_model_name="n", **grpc)).target.model == "n"
    assert refused(policy, make_request(path, **grpc)) == NOT_FOUND
    assert refused(policy, make_request(path, x_model_name="absent", **grpc)) == NOT_FOUND
    assert refused(policy, make_request(path, x_model_name="n, n", **grpc)) == NOT_FOUND


@pytest.mark.parametrize(
    ("method", "served"),
    [("ModelInfer", True), ("ModelStreamInfer", True), ("ServerLive", True),
     ("ModelInfer?x=1", True), ("RepositoryModelUnload", False), ("TraceSetting", False),
     ("modelinfer", False), ("ModelInfer/", False), ("", False)],
)  # fmt: skip
def test_only_grpc_methods_for_one_model_are_accepted(method: str, served: bool) -> None:
    path = f"/inference.GRPCInferenceService/{method}"
    request = make_request(path, x_model_name="m", content_type="application/grpc")
    if served:
        assert admitted(policy_with(), request)
    else:
        assert refused(policy_with(), request) == METHOD


def test_a_grpc_method_that_clients_may_not_call_is_not_found_for_other_clients() -> None:
    path = "/inference.GRPCInferenceService/RepositoryModelUnload"
    request = make_request(path, x_model_name="m")
    assert refused(policy_with(), request) == (404, Reason.UNKNOWN_OPERATION)


def test_a_model_can_list_more_grpc_methods() -> None:
    policy = make_policy({"m": {"extra_grpc_methods": ["ModelStatistics"]}, "n": {}})

    def call(method: str, model: str) -> Request:
        path = f"/inference.GRPCInferenceService/{method}"
        return make_request(path, x_model_name=model, content_type="application/grpc")

    assert admitted(policy, call("ModelStatistics", "m"))
    assert refused(policy, call("ModelStatistics", "n")) == METHOD
    assert refused(policy, call("ModelStatistics", "absent")) == METHOD
    assert refused(policy, call("ModelConfig", "m")) == METHOD


@pytest.mark.parametrize("root", ["/v2/models/m", "/v2/models/m/versions/v2"])
def test_only_paths_of_the_protocol_and_listed_paths_reach_the_server(root: str) -> None:
    policy = policy_with(extra_paths=["stats", "trace/setting"], methods=["GET"])
    for path in ("/infer", "/generate", "/generate_stream", "/stats", "/trace/setting"):
        assert admitted(policy, make_request(root + path, "GET", body=False))
    for path in ("", "/", "/ready"):
        assert admitted(policy, make_request(root + path, "GET", body=False))
    for path in (
        "/load", "/unload", "/config", "/stats/", "/stats/x", "/stat", "/Stats", "/trace",
        "/trace//setting", "/trace%2fsetting", "/st%61ts", "/infer/", "/infer/x", "/infer;x",
        "/ready/x", "//infer", "//stats", "/./infer", "/../m/infer", "/infer/..", "/%69nfer",
        "/*", "/versions", "/versions/v2/versions/v2/infer",
    ):  # fmt: skip
        assert refused(policy, make_request(root + path, "GET", body=False)) == NOT_FOUND, path


def test_a_star_lists_every_path_of_a_model() -> None:
    policy = policy_with(extra_paths=["*"])
    for path in ("/load", "/versions/v2/a/b", "/trace/setting"):
        assert admitted(policy, make_request("/v2/models/m" + path))
    assert refused(policy, make_request("/v2/models/m/ready")) == METHOD


def test_a_path_that_does_not_exist_does_not_show_whether_the_model_exists() -> None:
    details = {
        decision.detail
        for path in ("/v2/models/m/load", "/v2/models/absent/load")
        if isinstance(decision := decide(policy_with(), make_request(path)), Refusal)
    }
    assert len(details) == 1


def test_a_grpc_call_without_a_body_is_refused() -> None:
    path = "/inference.GRPCInferenceService/ModelInfer"
    grpc = {"x_model_name": "m", "content_type": "application/grpc"}
    assert refused(policy_with(), make_request(path, body=False, **grpc)) == MALFORMED


def test_x_model_name_is_ignored_for_rest_requests() -> None:
    policy = make_policy({"m": {}, "n": {}})
    assert admitted(policy, make_request(x_model_name="n")).target.model == "m"


def test_the_refusal_of_a_method_lists_the_allowed_methods() -> None:
    policy = policy_with(methods=["POST", "PUT"])
    for method in ("GET", "DELETE", "post", "CONNECT", ""):
        decision = decide(policy, make_request(method=method))
        assert isinstance(decision, Refusal)
        assert (decision.status, decision.headers) == (405, (("allow", "POST, PUT"),))
    assert admitted(policy, make_request(method="PUT"))


@pytest.mark.parametrize(
    "path",
    ["/v2/models/m", "/v2/models/m/", "/v2/models/m/ready", "/v2/models/m/versions/v2",
     "/v2/models/m/versions/v2/", "/v2/models/m/versions/v2/ready"],
)  # fmt: skip
def test_metadata_and_readiness_accept_only_get_and_head(path: str) -> None:
    for method in ("GET", "HEAD"):
        assert admitted(policy_with(), make_request(path, method, body=False))
    assert refused(policy_with(), make_request(path, "POST")) == METHOD


@pytest.mark.parametrize(
    "path", ["/v2/models/m/infer", "/v2/models/m/generate", "/own", "/own/ready"]
)
def test_other_paths_accept_only_the_methods_of_the_model(path: str) -> None:
    assert refused(policy_with(paths=["/own"]), make_request(path, "GET", body=False)) == METHOD


def test_only_models_with_websocket_enabled_accept_an_upgrade() -> None:
    request = make_request(method="GET", upgrade="WebSocket", connection="Upgrade")
    assert admitted(policy_with(websocket=True, content_types=["image/png"]), request)
    assert refused(policy_with(), request) == METHOD
    assert refused(policy_with(methods=["GET"]), request) == MALFORMED
    assert refused(policy_with(websocket=True), make_request(upgrade="websocket")) == METHOD
    assert refused(policy_with(websocket=True), make_request(method="GET", upgrade="h2c")) == METHOD


@pytest.mark.parametrize("connection", ["upgrade", "Upgrade", "keep-alive, Upgrade", "upgrade,"])
def test_an_upgrade_may_keep_the_connection_alive(connection: str) -> None:
    request = make_request(method="GET", upgrade="websocket", connection=connection)
    assert admitted(policy_with(websocket=True), request)


@pytest.mark.parametrize("name", ["x-sluice-subject", "X-Model-Version", "authorization", "close"])
def test_an_upgrade_cannot_name_headers_that_the_next_proxy_would_remove(name: str) -> None:
    request = make_request(method="GET", upgrade="websocket", connection=f"upgrade, {name}")
    assert refused(policy_with(websocket=True), request) == (400, Reason.MALFORMED_REQUEST)


def test_a_version_that_speaks_grpc_has_no_websocket() -> None:
    versions = {"v1": {**VERSIONS["v1"], "protocol": "grpc"}}
    policy = policy_with(websocket=True, versions=versions)
    for path, refusal in (
        ("/v2/models/m/infer", METHOD),
        ("/inference.GRPCInferenceService/ModelInfer", METHOD),
        ("/v2/models/m/generate_stream", NOT_FOUND),
        ("/v2/models/m/ready", MALFORMED),
    ):
        request = make_request(path, "GET", upgrade="websocket", x_model_name="m")
        assert refused(policy, request) == refusal


@pytest.mark.parametrize("path", ["/v2/models/m/infer?\u00e9", "/v2/models/m/\u00e9", "/\u00e9"])
def test_a_path_must_be_ascii(path: str) -> None:
    assert refused(policy_with(), make_request(path)) == MALFORMED


@pytest.mark.parametrize(
    ("length", "expected"),
    [("0", None), ("100", None), ("0100", None), ("101", TOO_LARGE), ("9" * 19, TOO_LARGE),
     ("0" * 30, None), ("0" * 5000 + "100", None), ("0" * 30 + "101", TOO_LARGE),
     ("0" * 30 + "x", MALFORMED),
     ("", MALFORMED), ("-1", MALFORMED), ("+1", MALFORMED), ("1_0", MALFORMED), ("1e1", MALFORMED),
     ("0x10", MALFORMED), ("10, 10", MALFORMED), (" 10", MALFORMED), ("9" * 5000, MALFORMED),
     ("\u0661", MALFORMED)],
)  # fmt: skip
def test_content_length_must_be_a_number_up_to_max_body(
    length: str, expected: tuple[int, Reason] | None
) -> None:
    policy = policy_with(max_body=100)
    request = make_request(content_length=length)
    if expected is None:
        assert admitted(policy, request)
    else:
        assert refused(policy, request) == expected


def test_a_model_without_max_body_uses_the_default() -> None:
    policy = make_policy({"m": {}, "n": {"max_body": 20}}, requests={"max_body": 10})
    assert refused(policy, make_request(content_length="11")) == TOO_LARGE
    assert admitted(policy, make_request("/v2/models/n/infer", content_length="11")).max_body == 20


@pytest.mark.parametrize(
    ("accepted", "sent", "matches"),
    [
        ("application/json", "application/json", True),
        ("application/json", "Application/JSON; charset=utf-8", True),
        ("application/json", "application/json ;a=b", True),
        ("application/json", "application/jsonp", False),
        ("application/json", "text/json", True),
        ("application/json", "application/x-json", True),
        ("application/json", "application/vnd.example+json", False),
        ("application/json", 'Application/JSON ; charset="utf-8"', True),
        ("application/vnd.example+json", "application/vnd.example+json", True),
        ("image/jpeg", "image/jpg", True),
        ("image/jpg", "image/jpeg", True),
        ("image/jpg", "image/jpg", True),
        ("image/jpeg", "IMAGE/PJPEG; q=1", True),
        ("image/png", "image/x-png", True),
        ("image/png", "image/jpg", False),
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
def test_the_model_must_accept_the_media_type(accepted: str, sent: str, matches: bool) -> None:
    policy = policy_with(content_types=[accepted])
    request = make_request(content_type=sent)
    if matches:
        assert admitted(policy, request)
    else:
        assert refused(policy, request) == MEDIA_TYPE


def test_a_body_without_content_type_is_application_octet_stream() -> None:
    request = make_request()
    headers = {name: value for name, value in request.headers.items() if name != "content-type"}
    untyped = type(request)(headers, True, request.now)
    assert admitted(policy_with(content_types=["application/octet-stream"]), untyped)
    assert refused(policy_with(content_types=["application/json"]), untyped) == MEDIA_TYPE


def test_the_media_type_of_a_request_without_a_body_is_ignored() -> None:
    assert admitted(policy_with(), make_request(body=False, content_type="text/html"))


def test_the_refusal_of_a_media_type_lists_the_accepted_types() -> None:
    decision = decide(policy_with(content_types=["image/*", "text/plain"]), make_request())
    assert isinstance(decision, Refusal)
    assert decision.headers == (("accept", "text/plain, image/*"),)
    assert decision.detail == (
        "the model does not accept 'application/json'; it accepts text/plain, image/*"
    )


def test_the_refusal_of_a_media_type_says_what_came() -> None:
    policy = policy_with(content_types=["image/png"])

    def detail(content_type: str) -> str:
        decision = decide(policy, make_request(content_type=content_type))
        assert isinstance(decision, Refusal)
        return decision.detail

    assert detail("text/csv; a=b") == (
        "the model does not accept 'text/csv; a=b'; it accepts image/png"
    )
    assert detail("") == "the model does not accept ''; it accepts image/png"
    assert len(detail("x" * 5000)) < 200
    request = make_request()
    headers = {name: value for name, value in request.headers.items() if name != "content-type"}
    untyped = decide(policy, type(request)(headers, True, request.now))
    assert isinstance(untyped, Refusal)
    assert untyped.detail.startswith("the model does not accept a body without content-type; it")


def test_the_refusal_of_a_body_says_its_size_and_the_limit() -> None:
    decision = decide(policy_with(max_body=10), make_request(content_length="11"))
    assert isinstance(decision, Refusal)
    assert decision.detail == "the body is larger than 10 bytes: it has 11"


GRPC = {name: {**settings, "protocol": "grpc"} for name, settings in VERSIONS.items()}
MIXED = {**GRPC, "v2": VERSIONS["v2"]}
ROOTS = ("/v2/models/m", "/v2/models/m/versions/v1", "/v2/models/m/versions/v2")
OPERATIONS = ("", "/", "/ready", "/infer", "/generate", "/generate_stream", "/stats")


@pytest.mark.parametrize("versions", [VERSIONS, GRPC, MIXED], ids=["http", "grpc", "mixed"])
@pytest.mark.parametrize("upgrade", [{}, {"upgrade": "websocket"}], ids=["plain", "websocket"])
@pytest.mark.parametrize("websocket", [False, True])
@pytest.mark.parametrize("methods", [["POST"], ["GET", "POST", "PUT"], ["GET"]], ids=str)
def test_allow_never_lists_the_refused_method_and_lists_methods_that_are_allowed(
    versions: dict[str, Any], upgrade: dict[str, str], websocket: bool, methods: list[str]
) -> None:
    policy = policy_with(
        versions=versions, websocket=websocket, methods=methods, extra_paths=["stats"]
    )

    def send(path: str, method: str) -> Decision:
        body = method in ("POST", "PUT") and not upgrade
        return decide(policy, make_request(path, method, body=body, **upgrade))

    for path in (root + operation for root in ROOTS for operation in OPERATIONS):
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            decision = send(path, method)
            if not isinstance(decision, Refusal) or decision.status != 405:
                continue
            (allow,) = (value for name, value in decision.headers if name == "allow")
            allowed = [name for name in allow.split(", ") if name]
            assert method not in allowed
            if not upgrade and versions is not MIXED:
                assert all(isinstance(send(path, name), Admission) for name in allowed), path
