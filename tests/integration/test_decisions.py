"""Decisions through Envoy: admission, choice of the version, and responses to refused requests.

They are the same whether Envoy admits requests alone or the callout decides all.
"""

import http.client
from collections.abc import Iterator

import httpx
import pytest
import xxhash
from cryptography.hazmat.primitives.asymmetric import rsa

from sluice.config.models import BUCKETS
from tests.integration.conftest import decision_config
from tests.integration.gateway import (
    INFER,
    Gateway,
    bearer,
    decided_by_placement,
    running,
    token,
)

JSON = {"content-type": "application/json"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def gateway(placement: str) -> Iterator[Gateway]:
    with running(decision_config(placement)) as started:
        yield started


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


def test_a_caller_that_no_access_rule_allows_is_forbidden(
    gateway: Gateway, client: httpx.Client
) -> None:
    path = "/v2/models/echo/guarded"
    assert problem(client.post(path, json={}, headers=bearer()))[0] == 403
    with decided_by_placement(gateway):
        upstream_headers(client.post(path, json={}, headers=bearer(group="staff")))
        upstream_headers(client.post(path, json={}, headers=bearer(tier="gold")))


def test_unknown_models_and_versions_are_not_found(client: httpx.Client) -> None:
    path = "/v2/models/absent/infer"
    assert problem(client.post(path, json={}, headers=bearer())) == (404, "unknown_model")
    path = INFER
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
    connection.putrequest("POST", INFER)
    connection.putheader("content-length", str(11 * MIB))
    connection.putheader("content-type", "application/json")
    connection.endheaders()
    assert connection.getresponse().status == 413


def test_a_chunked_body_over_the_limit_is_refused(client: httpx.Client) -> None:
    def chunks(count: int) -> Iterator[bytes]:
        for _ in range(count):
            yield bytes(64 << 10)

    admitted = client.post(INFER, content=chunks(16), headers=JSON)
    assert admitted.json()["body_length"] == MIB
    try:
        refused = client.post(INFER, content=chunks(176), headers=JSON)
    except httpx.WriteError:
        pytest.fail("the connection was reset before the client could read the refusal")
    assert problem(refused) == (413, "body_too_large")


def test_internal_headers_from_a_client_do_not_reach_the_model_server(
    gateway: Gateway, client: httpx.Client
) -> None:
    forged = {
        "x-model-service": "private/v2",
        "x-sluice-subject": "root",
        "x-sluice-anything": "1",
        "X-Sluice-Canary": "true",
    }
    with decided_by_placement(gateway):
        received = upstream_headers(client.post(INFER, json={}, headers=forged))
    assert received["x-model-service"] == "echo/v1"
    assert {name for name in received if name.startswith("x-sluice-")} <= {
        "x-sluice-model",
        "x-sluice-reason",
    }


def test_the_subject_is_forwarded_but_credentials_are_not(
    gateway: Gateway, client: httpx.Client
) -> None:
    sent = {**bearer("alice"), "Proxy-Authorization": "Basic YTpi", "cookie": "a=b"}
    with decided_by_placement(gateway):
        received = upstream_headers(client.post("/v2/models/echo/private", json={}, headers=sent))
    assert "authorization" not in received
    assert "proxy-authorization" not in received
    assert received["x-sluice-subject"] == "alice"
    assert received["cookie"] == "a=b"


@pytest.mark.parametrize(
    ("group", "named", "expected"),
    [
        ("other", {"x-model-version": "v2"}, "v2"),
        ("vip", {}, "v2"),
        ("other", {}, "v1"),
        ("vip", {"x-model-version": "v1"}, "v1"),
    ],
)
def test_the_version_header_takes_precedence_over_the_claim_rule(
    gateway: Gateway, client: httpx.Client, group: str, named: dict[str, str], expected: str
) -> None:
    headers = {**bearer(group=group), **named}
    with decided_by_placement(gateway):
        response = client.post("/v2/models/echo/private", json={}, headers=headers)
    assert response.json()["version"] == expected


@pytest.mark.parametrize(
    "headers", [{"x-canary": "true"}, {"x-model-type": "image-classification"}], ids=str
)
def test_a_request_header_selects_the_canary(
    gateway: Gateway, client: httpx.Client, headers: dict[str, str]
) -> None:
    with decided_by_placement(gateway):
        response = client.post(INFER, json={}, headers=headers)
    assert response.json()["version"] == "v2"
    assert upstream_headers(response)["x-sluice-canary"] == "true"


def test_the_hash_of_a_user_selects_the_canary(gateway: Gateway, client: httpx.Client) -> None:
    users = [f"user-{number}" for number in range(300)]
    with decided_by_placement(gateway):
        found = {user: version_of(client, user) for user in users}
    assert found == {user: "v2" if bucket(user) < TEN_PERCENT else "v1" for user in users}
    assert set(found.values()) == {"v1", "v2"}


TEN_PERCENT = BUCKETS["xxh64"] // 10


def version_of(client: httpx.Client, user: str) -> str:
    version: str = client.post(INFER, json={}, headers={"x-user-id": user}).json()["version"]
    return version


def bucket(user: str) -> int:
    return xxhash.xxh64_intdigest(user.encode()) % BUCKETS["xxh64"]


def test_a_response_has_the_reason_if_the_config_exposes_it(
    gateway: Gateway, client: httpx.Client
) -> None:
    with decided_by_placement(gateway):
        response = client.post(INFER, json={}, headers={"x-canary": "true"})
    assert response.headers["x-sluice-reason"] == "canary_header"


@pytest.mark.parametrize("path", ["/", "/v2/models", "/v2/models/", "/v2/models/%2e%2e/x", "/x"])
def test_a_path_of_no_model_is_refused(client: httpx.Client, path: str) -> None:
    assert client.post(path, json={}, headers=bearer()).status_code in (400, 404)
