"""With a real Envoy: what browsers get for requests of web pages of other origins (CORS).

They get the same whether Envoy admits requests alone or the callout decides all.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice.config.cors import MAX_PATTERN
from tests import plain_http
from tests.integration.gateway import (
    Gateway,
    base_config,
    bearer,
    decided_by_placement,
    eventually,
    free_ports,
    running,
)
from tests.integration.raw_server import RawServer
from tests.integration.test_telemetry import logged, metric

APP = "https://app.example.com"
FOREIGN = "https://evil-example.com"
LONGEST = f"https://*.{'a-' * (MAX_PATTERN // 2 - 10)}.com".ljust(MAX_PATTERN, "m")
"""The longest pattern of origins, which Envoy must accept."""
CORS_PREFIX = "access-control-"


@pytest.fixture(scope="module")
def gateway(placement: str, server: RawServer, directory: Path) -> Iterator[Gateway]:
    config = base_config(placement)
    config["telemetry"]["access_log"] = {"output": str(directory / "access.log")}
    echo = config["models"]["echo"]
    own = {"versions": {"v1": {"endpoints": [{"address": server.address}]}}, "websocket": True}
    gone = {"v1": {"endpoints": [{"address": f"127.0.0.1:{free_ports(1)[0]}"}]}}
    origins = [APP, "https://*.sub.example.com", "http://localhost:3000", LONGEST]
    public = {"access": {"public": True}}
    config["requests"]["cors"] = {"origins": [APP]}
    config["models"] |= {
        "own": own | public | {"cors": {"origins": origins, "credentials": True}},
        "closed": own | public | {"cors": {"origins": []}},
        "open": own | public | {"cors": {"origins": ["*"], "expose_headers": []}},
        "opaque": own | public | {"cors": {"origins": ["null"], "max_age": 0}},
        "gone": {**echo, "versions": gone},
        "limited": own | public | {"websocket": False},
    }
    config["limits"] = {"listener": None, "models": {"limited": {"rate": 1, "burst": 4}}}
    with running(config) as gateway:
        yield gateway


def preflight(
    gateway: Gateway, path: str, origin: str, method: str = "POST", **headers: str
) -> httpx.Response:
    """The answer to what a browser sends before the request of a page."""
    asked = {"origin": origin, "access-control-request-method": method}
    return plain_http.options(gateway.url + path, headers=asked | headers)


def cors_headers(response: httpx.Response) -> dict[str, str]:
    """The headers of CORS. Fails if one of them occurs twice."""
    found = [(name, value) for name, value in response.headers.multi_items()]
    names = [name for name, _ in found if name.startswith(CORS_PREFIX)]
    assert len(set(names)) == len(names)
    return {name: value for name, value in found if name.startswith(CORS_PREFIX)}


def allowed(response: httpx.Response, origin: str) -> bool:
    """Whether a browser shows the response to a page of this origin."""
    return response.headers.get("access-control-allow-origin") in (origin, "*")


def test_envoy_answers_the_preflight_of_an_allowed_origin(gateway: Gateway) -> None:
    answer = preflight(gateway, "/v2/models/own/infer", APP)
    assert (answer.status_code, answer.content) == (200, b"")
    found = cors_headers(answer)
    assert found["access-control-allow-origin"] == APP
    assert found["access-control-allow-credentials"] == "true"
    assert set(found["access-control-allow-methods"].split(", ")) == {"GET", "HEAD", "POST"}
    assert {"authorization", "content-type", "x-model-version"} <= set(
        found["access-control-allow-headers"].split(", ")
    )
    assert found["access-control-max-age"] == "600"


@pytest.mark.parametrize(
    ("model", "origin", "expected"),
    [
        ("own", "http://localhost:3000", True),
        ("own", "http://localhost:3001", False),
        ("own", "http://localhost", False),
        ("own", "https://a.sub.example.com", True),
        ("own", "https://a.b.sub.example.com", True),
        ("own", "https://sub.example.com", False),
        ("own", "https://evilsub.example.com", False),
        ("own", "https://a.sub.example.com.evil.test", False),
        ("own", "https://a.sub.example.com:444", False),
        ("own", "https://a.subxexample.com", False),
        ("own", "https://evil.test/.sub.example.com", False),
        ("own", "http://a.sub.example.com", False),
        ("own", "https://app.example.com.evil.test", False),
        ("own", FOREIGN, False),
        ("own", "null", False),
        ("own", "*", False),
        ("open", FOREIGN, True),
        ("opaque", "null", True),
        ("opaque", APP, False),
        ("closed", APP, False),
        ("echo", APP, True),
        ("echo", FOREIGN, False),
    ],
)
def test_only_the_origins_of_a_model_may_read_its_responses(
    gateway: Gateway, server: RawServer, model: str, origin: str, expected: bool
) -> None:
    server.respond("200 OK")
    path = f"/v2/models/{model}/infer"
    asked = preflight(gateway, path, origin)
    assert allowed(asked, origin) == expected
    with decided_by_placement(gateway):
        sent = plain_http.post(gateway.url + path, json={}, headers={"origin": origin, **bearer()})
    assert sent.status_code == 200
    assert allowed(sent, origin) == expected
    assert "origin" in sent.headers["vary"]


def test_the_headers_of_the_model_server_do_not_count(gateway: Gateway, server: RawServer) -> None:
    lines = (
        "200 OK\r\naccess-control-allow-origin: *\r\naccess-control-allow-credentials: true\r\n"
        "access-control-expose-headers: x-internal\r\nvary: accept"
    )
    server.respond(lines)
    url = f"{gateway.url}/v2/models/own/infer"
    ours = plain_http.post(url, json={}, headers={"origin": APP})
    assert cors_headers(ours)["access-control-allow-origin"] == APP
    exposed = cors_headers(ours)["access-control-expose-headers"].split(", ")
    assert "retry-after" in exposed
    assert "x-internal" not in exposed
    assert ours.headers.get_list("vary", split_commas=True) == ["accept", "origin"]
    assert cors_headers(plain_http.post(url, json={}, headers={"origin": FOREIGN})) == {}
    assert cors_headers(plain_http.post(url, json={})) == {}
    open_to_all = plain_http.post(
        f"{gateway.url}/v2/models/open/infer", json={}, headers={"origin": APP}
    )
    assert cors_headers(open_to_all) == {"access-control-allow-origin": APP}


@pytest.mark.parametrize(
    ("path", "headers", "status", "reason"),
    [
        ("/v2/models/echo/infer", {}, 401, "unauthenticated"),
        ("/v2/models/unknown/infer", bearer(), 404, "unknown_model"),
        ("/v2/models/gone/infer", bearer(), 503, "model_unreachable"),
    ],
)
def test_a_page_can_read_why_its_request_is_refused(
    gateway: Gateway, path: str, headers: dict[str, str], status: int, reason: str
) -> None:
    refused = plain_http.post(gateway.url + path, json={}, headers={"origin": APP, **headers})
    assert (refused.status_code, refused.json()["reason"]) == (status, reason)
    assert allowed(refused, APP)
    assert "x-sluice-reason" in refused.headers["access-control-expose-headers"]
    assert "origin" in refused.headers["vary"]


def test_a_page_can_read_when_to_retry_and_preflights_take_no_tokens(
    gateway: Gateway, server: RawServer
) -> None:
    server.respond("200 OK")
    path = "/v2/models/limited/infer"
    for _ in range(10):
        assert preflight(gateway, path, APP).status_code == 200
    with gateway.client(headers={"origin": APP}) as client, decided_by_placement(gateway):
        answers = [client.post(path, json={}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert allowed(answers[-1], APP)
    assert "retry-after" in answers[-1].headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", [FOREIGN, "null"])
def test_the_preflight_of_another_origin_is_a_request_like_any_other(
    gateway: Gateway, origin: str
) -> None:
    answer = preflight(gateway, "/v2/models/echo/infer", origin)
    assert (answer.status_code, answer.json()["reason"]) == (405, "method_not_allowed")
    assert cors_headers(answer) == {}


def test_the_preflight_of_an_allowed_origin_shows_no_names_of_models(gateway: Gateway) -> None:
    answers = [preflight(gateway, f"/v2/models/{name}/infer", APP) for name in ("gone", "nothing")]
    assert cors_headers(answers[0]) == cors_headers(answers[1]) != {}


def test_the_log_says_that_a_request_was_a_preflight(gateway: Gateway, directory: Path) -> None:
    preflight(gateway, "/v2/models/echo/infer", APP, **{"user-agent": "a-browser"})
    line = logged(directory, "a-browser")
    assert (line["status"], line["reason"], line["method"]) == (200, "cors_preflight", "OPTIONS")
    assert line["placement"] == ""
    labels = {"reason": "cors_preflight", "model": "echo"}
    eventually(lambda: metric(gateway, "sluice_requests_total", **labels) > 0)


HANDSHAKE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.mark.parametrize(
    ("model", "origin", "expected"),
    [
        ("own", {"origin": APP}, 200),
        ("own", {}, 200),
        ("own", {"origin": FOREIGN}, 403),
        ("closed", {"origin": APP}, 403),
        ("open", {"origin": FOREIGN}, 200),
    ],
)
def test_a_websocket_of_another_origin_is_refused(
    gateway: Gateway,
    server: RawServer,
    directory: Path,
    model: str,
    origin: dict[str, str],
    expected: int,
) -> None:
    server.respond("200 OK")  # no upgrade: the test reads only whether the server was asked
    agent = {"user-agent": f"ws-{model}-{origin.get('origin')}"}
    answer = plain_http.get(
        f"{gateway.url}/v2/models/{model}/infer", headers=HANDSHAKE | origin | agent
    )
    assert answer.status_code == expected
    if expected == 403:
        assert answer.json()["reason"] == "origin_not_allowed"
        line: dict[str, Any] = logged(directory, agent["user-agent"])
        assert (line["reason"], line["model"]) == ("origin_not_allowed", model)
