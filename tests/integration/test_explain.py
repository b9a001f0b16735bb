"""`sluice explain` says what the gateway does: every request goes through both."""

import http.client
import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sluice.cli import main
from sluice.cli.explain.curl import add_arguments, read_request
from sluice.explain.request import HttpRequest
from tests import plain_http
from tests.integration.gateway import (
    REQUESTS_TO_OPEN,
    Config,
    Gateway,
    base_config,
    bearer,
    eventually,
    free_ports,
    running,
    token,
)

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"
ECHO, GUARDED, DIGITS = "/v2/models/echo/x", "/v2/models/echo/guarded", "/v2/models/digits/infer"
JSON = ("-H", "content-type: application/json")
APP = "https://app.example.com"
PREFLIGHT = ("-X", "OPTIONS", "-H", "access-control-request-method: POST")
HANDSHAKE = (
    "-H", "connection: upgrade", "-H", "upgrade: websocket", "-H", "sec-websocket-version: 13",
    "-H", "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
)  # fmt: skip
VISION = ("-H", f"authorization: Bearer {token(group='vision')}")


def config() -> Config:
    settings = base_config()
    (digits,) = (f"127.0.0.1:{port}" for port in free_ports(1))
    echo = settings["models"]["echo"]
    settings["models"] = {
        "echo": {
            **echo,
            "access": {"public": True},
            "cors": {"origins": [APP, "https://*.sub.example.com"]},
            "websocket": True,
            "bucket": {"header": "x-user-id"},
            "max_body": "1KiB",
            "canaries": [{"version": "v2", "percent": 10, "model_types": ["next"]}],
            "breaker": {"window": "2s", "buckets": 20, "min_volume": 20, "probe_interval": "60s"},
        },
        "guarded": {
            "stable": "v1",
            "versions": echo["versions"],
            "paths": [GUARDED],
            "access": {"allow": [{"groups": ["staff"]}]},
            "claim_rules": [{"claim": "tier", "value": "gold", "version": "v2"}],
        },
        "digits": {
            "versions": {"v1": {"endpoints": [{"address": digits}], "protocol": "grpc"}},
            "inputs": [
                {
                    "name": "image",
                    "datatype": "UINT8",
                    "shape": [-1, 32, 32, 1],
                    "image": {"width": 32, "height": 32, "color": "GRAY"},
                }
            ],
            "access": {"allow": [{"groups": ["vision"]}]},
        },
    }
    settings["requests"]["cors"] = {"origins": ["https://any.example.com"]}
    settings["limits"] = {
        "listener": None,
        "backend": {"timeout": "5s"},
        "rules": [
            {
                "name": "per-subject",
                "key": ["subject"],
                "match": [{"part": "header:x-limited", "values": ["yes"]}],
                "rate": 5,
                "per": "hour",
            },
            {
                "name": "per-address",
                "key": ["client_address"],
                "match": [{"part": "header:x-limited", "values": ["address"]}],
                "cost": {"header": "x-cost"},
                "rate": 5,
                "per": "hour",
            },
            {
                "name": "shadow",
                "match": [{"part": "header:x-limited", "values": ["shadow"]}],
                "rate": 1,
                "per": "hour",
                "shadow": True,
            },
        ],
    }
    return settings


@pytest.fixture(scope="module")
def own() -> Iterator[Gateway]:
    with running(config()) as gateway:
        yield gateway


Capture = pytest.CaptureFixture[str]


def explained(gateway: Gateway, capsys: Capture, *arguments: str) -> dict[str, Any]:
    """The explanation as JSON, after a check that the exit status agrees with it."""
    *options, path = arguments
    status = main(["explain", str(gateway.file), "--json", *options, f"{gateway.url}{path}"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert status == (0 if found["decision"]["admitted"] else 3)
    return found


@dataclass(frozen=True)
class Answer:
    """What the client of the gateway gets."""

    status: int
    reason: str | None
    body: bytes


def sent(gateway: Gateway, *arguments: str) -> Answer:
    """Send a request as it is, without the changes that HTTP libraries make."""
    parser = ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    parser.add_argument("url")
    request = read_request(parser.parse_intermixed_args(arguments))
    connection = http.client.HTTPConnection(gateway.config["listener"]["address"], timeout=30)
    try:
        _write(connection, request)
        response = connection.getresponse()
        return Answer(response.status, response.getheader("x-sluice-reason"), response.read())
    finally:
        connection.close()


def _write(connection: http.client.HTTPConnection, request: HttpRequest) -> None:
    connection.putrequest(request.method, request.path, skip_accept_encoding=True)
    for name, value in request.headers:
        connection.putheader(name, value)
    chunked = ("transfer-encoding", b"chunked") in request.headers
    connection.endheaders(
        [request.body] if chunked and request.body else request.body, encode_chunked=chunked
    )


def assert_equal(gateway: Gateway, capsys: Capture, *arguments: str) -> dict[str, Any]:
    """The explanation of a request, after a check that the gateway does the same."""
    explanation = explained(gateway, capsys, *arguments)
    answer, decision = sent(gateway, *arguments), explanation["decision"]
    own = decision["status"] == 200
    assert answer.reason == (None if own else decision["reason"])
    assert (answer.status < 400) == decision["admitted"]
    if decision["status"] is not None:
        assert answer.status == decision["status"]
    elif decision["model"] != "digits" and not arguments[-1].endswith("/ready"):
        assert json.loads(answer.body)["version"] == decision["version"]
    return explanation


def digits(*shape: int, datatype: str = "UINT8") -> str:
    size = 1
    for length in shape:
        size *= length
    tensor = {"name": "image", "datatype": datatype, "shape": shape, "data": [0] * size}
    return json.dumps({"inputs": [tensor]})


REQUESTS: dict[str, tuple[str, ...]] = {
    "admitted": (ECHO,),
    "unknown path": ("/nowhere",),
    "unknown model": ("/v2/models/none/infer",),
    "named version": ("-H", "x-model-version: v2", ECHO),
    "unknown version": ("-H", "x-model-version: v9", ECHO),
    "canary by model type": ("-H", "x-model-type: next", ECHO),
    "no credentials": ("-d", "{}", *JSON, GUARDED),
    "forbidden": ("-d", "{}", *JSON, "-H", f"authorization: Bearer {token()}", GUARDED),
    "group": ("-d", "{}", *JSON, "-H", f"authorization: Bearer {token(group='staff')}", GUARDED),
    "claim rule": (
        "-d", "{}", *JSON, "-H", f"authorization: Bearer {token(group='staff', tier='gold')}",
        GUARDED,
    ),
    "not a token": ("-d", "{}", *JSON, "-H", "authorization: Bearer nonsense", GUARDED),
    "expired": ("-d", "{}", *JSON, "-H", f"authorization: Bearer {token(exp=1)}", GUARDED),
    "wrong audience": ("-d", "{}", *JSON, "-H", f"authorization: Bearer {token(aud='x')}", GUARDED),
    "wrong issuer": ("-d", "{}", *JSON, "-H", f"authorization: Bearer {token(iss='x')}", GUARDED),
    "unknown key": (
        "-d", "{}", *JSON, "-H", f"authorization: Bearer {token(key_id='x')}", GUARDED,
    ),
    "repeated credentials": (
        "-d", "{}", *JSON, *VISION, "-H", "authorization: Bearer x", DIGITS,
    ),
    "Basic credentials": ("-d", "{}", *JSON, "-u", "a:b", GUARDED),
    "method": ("-X", "DELETE", ECHO),
    "HEAD": ("-I", "/v2/models/digits/infer"),
    "form by default": ("-d", digits(1, 32, 32, 1), *VISION, DIGITS),
    "no body": ("-X", "POST", *VISION, DIGITS),
    "empty body": ("-d", "", *JSON, *VISION, DIGITS),
    "largest body": ("-d", "x" * 1024, ECHO),
    "large body": ("-d", "x" * 1025, ECHO),
    "large body of unknown size": (
        "-d", "x" * 1025, "-H", "transfer-encoding: chunked", ECHO,
    ),
    "tensor": ("-d", digits(1, 32, 32, 1), *JSON, *VISION, DIGITS),
    "wrong shape": ("-d", digits(1, 16, 16, 1), *JSON, *VISION, DIGITS),
    "wrong datatype": ("-d", digits(1, 32, 32, 1, datatype="FP32"), *JSON, *VISION, DIGITS),
    "broken JSON": ("-d", "{", *JSON, *VISION, DIGITS),
    "no object": ("-d", "[]", *JSON, *VISION, DIGITS),
    "image": (
        "--data-binary", f"@{EXAMPLES.parent}/digit-7.png", "-H", "content-type: image/png",
        *VISION, DIGITS,
    ),
    "broken image": ("-d", "no image", "-H", "content-type: image/png", *VISION, DIGITS),
    "unknown coding": (
        "-d", "{}", *JSON, "-H", "content-encoding: lzma", *VISION, DIGITS,
    ),
    "broken coding": ("-d", "{}", *JSON, "-H", "content-encoding: gzip", *VISION, DIGITS),
    "path with dots": ("/v2/models/none/../echo/./x",),
    "path with slashes": ("/v2//models///echo/x",),
    "path with escapes": ("/v2/models/%65cho/x?q=%41",),
    "escaped dots": ("/v2/models/none/%2e%2E/echo/x",),
    "escaped slash": ("/v2/models/echo%2fx",),
    "header with underscore": ("-H", "x_user: 1", ECHO),
    "preflight": (*PREFLIGHT, "-H", f"origin: {APP}", ECHO),
    "preflight of a subdomain": (*PREFLIGHT, "-H", "origin: https://a.b.sub.example.com", ECHO),
    "preflight of another origin": (*PREFLIGHT, "-H", "origin: https://sub.example.com", ECHO),
    "preflight of a similar origin": (*PREFLIGHT, "-H", "origin: https://asub.example.com", ECHO),
    "preflight of the default": (*PREFLIGHT, "-H", "origin: https://any.example.com", ECHO),
    "preflight of a model with the default": (
        *PREFLIGHT, "-H", "origin: https://any.example.com", GUARDED[:-1],
    ),
    "preflight of a model with a path below another": (
        *PREFLIGHT, "-H", "origin: https://any.example.com", GUARDED,
    ),
    "preflight of no model": (*PREFLIGHT, "-H", "origin: https://any.example.com", "/nothing"),
    "preflight of the health": (
        *PREFLIGHT, "-H", "origin: https://any.example.com", "/v2/health/ready",
    ),
    "preflight without a method": ("-X", "OPTIONS", "-H", f"origin: {APP}", ECHO),
    "preflight without an origin": (*PREFLIGHT, ECHO),
    "OPTIONS": ("-X", "OPTIONS", ECHO),
    "request of a page": ("-H", f"origin: {APP}", ECHO),
    "request of a foreign page": ("-H", "origin: https://evil.test", ECHO),
    "WebSocket of a foreign page": (*HANDSHAKE, "-H", "origin: https://evil.test", ECHO),
    "liveness": ("/v2/health/live",),
    "liveness with a query": ("/v2/health/live?a=b",),
    "liveness by POST": ("-d", "{}", *JSON, "/v2/health/live"),
    "below the liveness": ("/v2/health/live/x",),
    "readiness": ("/v2/health/ready",),
    "HEAD of the readiness": ("-I", "/v2/health/./ready"),
    "other health": ("/v2/health",),
    "metadata": ("/v2",),
    "metadata with a slash": ("/v2/",),
    "header of the gateway": ("-H", "x-sluice-subject: admin", "-H", "x-model-service: x", ECHO),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_explain_says_what_the_gateway_does(own: Gateway, capsys: Capture, name: str) -> None:
    assert_equal(own, capsys, *REQUESTS[name])


def test_explain_chooses_the_same_canaries(own: Gateway, capsys: Capture) -> None:
    chosen = {
        assert_equal(own, capsys, "-H", f"x-user-id: user-{user}", ECHO)["decision"]["canary"]
        for user in range(40)
    }
    assert chosen == {True, False}


def test_explain_says_what_is_sent(own: Gateway, capsys: Capture) -> None:
    explanation = explained(own, capsys, *REQUESTS["image"])
    assert explanation["sent"] == {
        "method": "POST",
        "path": "/inference.GRPCInferenceService/ModelInfer",
        "content_type": "application/grpc",
        "bytes": explanation["sent"]["bytes"],
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 1]}],
    }
    assert explanation["sent"]["bytes"] > 32 * 32


def limited(subject: str, kind: str = "yes") -> tuple[str, ...]:
    authorization = bearer(subject)["authorization"]
    return ("-H", f"authorization: {authorization}", "-H", f"x-limited: {kind}", ECHO)


def test_explain_shows_the_tokens_left_and_takes_none(own: Gateway, capsys: Capture) -> None:
    request = limited("careful")
    for left in (5, 4, 3, 2, 1):
        for _ in range(3):
            (limit,) = explained(own, capsys, *request)["limits"]
            assert (limit["rule"], limit["remaining"], limit["limit"]) == ("per-subject", left, 5)
        assert sent(own, *request).status == 200
    explanation = assert_equal(own, capsys, *request)
    assert explanation["decision"]["reason"] == "rate_limited"
    assert explanation["limits"][0]["retry_after"] > 0
    assert "REFUSE" in text(own, capsys, *request)


def text(gateway: Gateway, capsys: Capture, *arguments: str) -> str:
    main(["explain", str(gateway.file), *arguments])
    return capsys.readouterr().out


def test_explain_knows_the_limit_of_an_address_and_the_cost(own: Gateway, capsys: Capture) -> None:
    request = (*limited("a", "address")[:-1], "-H", "x-cost: 3", ECHO)
    assert_equal(own, capsys, *request)
    assert_equal(own, capsys, *request)
    elsewhere = explained(own, capsys, "--client-address", "192.0.2.1", *request)
    assert elsewhere["decision"]["admitted"]
    assert elsewhere["limits"][0]["remaining"] == 5


def test_a_shadow_rule_refuses_nothing(own: Gateway, capsys: Capture) -> None:
    for _ in range(3):
        assert_equal(own, capsys, *limited("b", "shadow"))


def test_a_stage_that_is_not_evaluated_is_named(own: Gateway, capsys: Capture) -> None:
    request = ("-X", "POST", *JSON, *VISION, DIGITS)
    explanation = explained(own, capsys, *request)
    assert explanation["decision"]["admitted"]
    assert explanation["decision"]["unknown"] == ["body"]
    results = {stage["stage"]: stage["result"] for stage in explanation["stages"]}
    assert results["local_limit"] == results["upstream"] == "skip"
    assert "the conversion json-grpc needs the body" in text(own, capsys, *request)


def test_explain_shows_an_open_breaker(own: Gateway, capsys: Capture) -> None:
    (endpoint,) = own.config["models"]["echo"]["versions"]["v2"]["endpoints"]
    request = ("-H", "x-model-version: v2", ECHO)

    def control(rate: float) -> None:
        url = f"http://{endpoint['address']}/control"
        plain_http.post(url, json={"fail_rate": rate}).raise_for_status()

    assert explained(own, capsys, *request)["breaker"]["state"] == "closed"
    control(1.0)
    try:
        for _ in range(REQUESTS_TO_OPEN):
            sent(own, *request)
        eventually(lambda: explained(own, capsys, *request)["breaker"]["state"] == "open")
        # An explanation is no probe: the interval of probes is a minute, and one is admitted.
        statuses = [sent(own, *request).status for _ in range(3)]
        assert 503 in statuses
        explanation = assert_equal(own, capsys, *request)
        assert explanation["decision"]["reason"] == "breaker_open"
        assert "503 breaker_open" in text(own, capsys, *request)
        assert assert_equal(own, capsys, ECHO)["decision"]["version"] == "v1"
    finally:
        control(0.0)


def test_without_a_gateway_the_state_is_not_known(
    own: Gateway, capsys: Capture, edited: Callable[..., Path]
) -> None:
    file = edited(own, http="127.0.0.1:1")
    assert main(["explain", str(file), "--json", *limited("c")]) == 0
    explanation = json.loads(capsys.readouterr().out)
    assert explanation["decision"]["unknown"] == ["breaker", "limit"]
    for stage in explanation["stages"]:
        if stage["result"] == "unknown":
            assert "no answer from the control plane at http://127.0.0.1:1" in stage["explanation"]
            assert f"control_plane.http in {file} line " in stage["explanation"]


def test_a_url_of_another_gateway_is_noted(own: Gateway, capsys: Capture) -> None:
    listener = own.config["listener"]["address"]
    assert explained(own, capsys, ECHO)["notes"] == []
    assert main(["explain", str(own.file), "--json", f"127.0.0.1:1{ECHO}"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note == f"the URL names 127.0.0.1:1, but the listener of this gateway is {listener}"


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """Writes the config of a gateway with another address of the control plane."""

    def write(gateway: Gateway, http: str) -> Path:
        file = tmp_path / "gateway.yaml"
        settings = {**gateway.config, "control_plane": {"http": http}}
        file.write_text(json.dumps(settings, indent=1))
        (tmp_path / "jwks.json").write_bytes((gateway.directory / "jwks.json").read_bytes())
        return file

    return write
