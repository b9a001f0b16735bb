"""Decisions through Envoy: admission, choice of the version, and responses to refused requests."""

import http.client
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.integration.gateway import Gateway, bearer, token

JSON = {"content-type": "application/json"}
MIB = 1 << 20


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as opened:
        yield opened


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and reason of a refusal, after checking that its body is a problem (RFC 9457)."""
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["title"]
    assert body["detail"]
    return response.status_code, body["reason"]


def upstream_headers(response: httpx.Response) -> dict[str, str]:
    """The request headers that the model server received."""
    assert response.status_code == 200, response.text
    return dict(response.json()["headers"])


def test_a_request_without_credentials_is_refused(client: httpx.Client) -> None:
    response = client.post("/v2/models/echo/private", json={})
    assert problem(response) == (401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other-audience"},
        {"exp": 1},
        {"nbf": 1 << 40},
        {"iss": "https://unknown.test"},
        {"exp": "soon"},
    ],
    ids=str,
)
def test_a_token_with_an_invalid_claim_is_refused(
    client: httpx.Client, claims: dict[str, object]
) -> None:
    response = client.post("/v2/models/echo/private", json={}, headers=bearer(**claims))
    assert problem(response)[0] == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_a_token_signed_with_another_key_is_refused(client: httpx.Client) -> None:
    forged = token(key=rsa.generate_private_key(65537, 2048))
    response = client.post(
        "/v2/models/echo/private", json={}, headers={"authorization": f"Bearer {forged}"}
    )
    assert problem(response)[0] == 401


def test_a_caller_that_no_access_rule_allows_is_forbidden(client: httpx.Client) -> None:
    path = "/v2/models/echo/guarded"
    assert problem(client.post(path, json={}, headers=bearer()))[0] == 403
    upstream_headers(client.post(path, json={}, headers=bearer(group="staff")))
    upstream_headers(client.post(path, json={}, headers=bearer(tier="gold")))


def test_unknown_models_and_versions_are_not_found(client: httpx.Client) -> None:
    path = "/v2/models/absent/infer"
    assert problem(client.post(path, json={}, headers=bearer())) == (404, "unknown_model")
    path = "/v2/models/echo/x"
    response = client.post(path, json={}, headers={"x-model-version": "v9"})
    assert problem(response) == (404, "unknown_version")


def test_a_refused_method_is_answered_with_the_allowed_methods(client: httpx.Client) -> None:
    response = client.get("/v2/models/echo/private/infer", headers=bearer())
    assert problem(response)[0] == 405
    assert "POST" in response.headers["allow"]


def test_a_media_type_that_the_model_does_not_accept_is_refused(client: httpx.Client) -> None:
    response = client.post(
        "/v2/models/echo/private",
        content=b"a=b",
        headers={**bearer(), "content-type": "application/x-www-form-urlencoded"},
    )
    assert problem(response)[0] == 415


def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent(gateway: Gateway) -> None:
    connection = http.client.HTTPConnection(gateway.config["listener"]["address"], timeout=10)
    connection.putrequest("POST", "/v2/models/echo/x")
    connection.putheader("content-length", str(11 * MIB))
    connection.putheader("content-type", "application/json")
    connection.endheaders()
    assert connection.getresponse().status == 413


def test_a_chunked_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    def chunks(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield bytes(64 << 10)

    admitted = client.post("/v2/models/echo/x", content=chunks(16), headers=JSON)
    assert admitted.json()["body_length"] == MIB
    try:
        refused = client.post("/v2/models/echo/x", content=chunks(176), headers=JSON)
    except httpx.WriteError:
        pytest.fail("the connection was reset before the client could read the refusal")
    assert problem(refused) == (413, "body_too_large")


def test_internal_headers_from_a_client_do_not_reach_the_model_server(client: httpx.Client) -> None:
    forged = {
        "x-model-service": "private/v2",
        "x-sluice-subject": "root",
        "x-sluice-anything": "1",
        "X-Sluice-Canary": "true",
    }
    received = upstream_headers(client.post("/v2/models/echo/x", json={}, headers=forged))
    assert received["x-model-service"] == "echo/v1"
    assert {name for name in received if name.startswith("x-sluice-")} <= {
        "x-sluice-model",
        "x-sluice-reason",
    }


def test_the_subject_is_forwarded_but_credentials_are_not(client: httpx.Client) -> None:
    sent = {**bearer("alice"), "Proxy-Authorization": "Basic YTpi", "cookie": "a=b"}
    received = upstream_headers(client.post("/v2/models/echo/private", json={}, headers=sent))
    assert "authorization" not in received
    assert "proxy-authorization" not in received
    assert received["x-sluice-subject"] == "alice"
    assert received["cookie"] == "a=b"


def test_the_version_header_takes_precedence_over_the_claim_rule(client: httpx.Client) -> None:
    path = "/v2/models/echo/private"
    by_header = client.post(path, json={}, headers={**bearer(), "x-model-version": "v2"})
    assert by_header.json()["version"] == "v2"
    assert client.post(path, json={}, headers=bearer(group="vip")).json()["version"] == "v2"
    assert client.post(path, json={}, headers=bearer(group="other")).json()["version"] == "v1"
    both = {**bearer(group="vip"), "x-model-version": "v1"}
    assert client.post(path, json={}, headers=both).json()["version"] == "v1"


@pytest.mark.parametrize(
    "headers", [{"x-canary": "true"}, {"x-model-type": "image-classification"}], ids=str
)
def test_a_request_header_selects_the_canary(client: httpx.Client, headers: dict[str, str]) -> None:
    response = client.post("/v2/models/echo/x", json={}, headers=headers)
    assert response.json()["version"] == "v2"
    assert upstream_headers(response)["x-sluice-canary"] == "true"


def test_a_canary_of_ten_percent_serves_a_tenth_of_the_users_and_always_the_same_users(
    gateway: Gateway,
) -> None:
    def versions(users: range) -> dict[int, str]:
        with gateway.client() as client:
            return {user: version_of(client, user) for user in users}

    def version_of(client: httpx.Client, user: int) -> str:
        headers = {"x-user-id": f"user-{user}"}
        version: str = client.get("/v2/models/echo/x", headers=headers).json()["version"]
        return version

    with ThreadPoolExecutor(4) as pool:
        found: dict[int, str] = {}
        for part in pool.map(versions, [range(n, n + 2500) for n in range(0, 10_000, 2500)]):
            found |= part
    assert 900 <= Counter(found.values())["v2"] <= 1100
    sample = range(0, 10_000, 50)
    assert versions(sample) == {user: found[user] for user in sample}


def test_a_response_has_the_reason_if_the_config_exposes_it(client: httpx.Client) -> None:
    response = client.post("/v2/models/echo/x", json={}, headers={"x-canary": "true"})
    assert response.headers["x-sluice-reason"] == "canary_header"


@pytest.mark.parametrize("path", ["/", "/v2/models", "/v2/models/", "/v2/models/%2e%2e/x", "/x"])
def test_a_path_of_no_model_is_refused(client: httpx.Client, path: str) -> None:
    assert client.post(path, json={}, headers=bearer()).status_code in (400, 404)
