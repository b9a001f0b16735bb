"""Through a real Envoy: who is admitted, which version answers, and how a refusal reads."""

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
    with gateway.client() as one:
        yield one


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and reason of a refusal, having checked that its body is a problem (RFC 9457)."""
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["title"]
    assert body["detail"]
    return response.status_code, body["reason"]


def upstream(response: httpx.Response) -> dict[str, str]:
    """The headers that the model server saw."""
    assert response.status_code == 200, response.text
    return dict(response.json()["headers"])


def test_no_credentials_are_refused(client: httpx.Client) -> None:
    response = client.post("/v2/models/echo/private", json={})
    assert problem(response) == (401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "bad",
    [
        {"aud": "somebody-else"},
        {"exp": 1},
        {"nbf": 1 << 40},
        {"iss": "https://nobody.test"},
        {"exp": "soon"},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_us_is_refused(
    client: httpx.Client, bad: dict[str, object]
) -> None:
    response = client.post("/v2/models/echo/private", json={}, headers=bearer(**bad))
    assert problem(response)[0] == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_a_token_of_another_key_is_refused(client: httpx.Client) -> None:
    forged = token(key=rsa.generate_private_key(65537, 2048))
    response = client.post(
        "/v2/models/echo/private", json={}, headers={"authorization": f"Bearer {forged}"}
    )
    assert problem(response)[0] == 401


def test_a_model_that_the_caller_may_not_use_is_forbidden(client: httpx.Client) -> None:
    path = "/v2/models/echo/guarded"
    assert problem(client.post(path, json={}, headers=bearer()))[0] == 403
    upstream(client.post(path, json={}, headers=bearer(group="staff")))
    upstream(client.post(path, json={}, headers=bearer(tier="gold")))


def test_unknown_models_and_versions_are_not_found(client: httpx.Client) -> None:
    path = "/v2/models/absent/infer"
    assert problem(client.post(path, json={}, headers=bearer())) == (404, "unknown_model")
    path = "/v2/models/echo/x"
    response = client.post(path, json={}, headers={"x-model-version": "v9"})
    assert problem(response) == (404, "unknown_version")


def test_a_method_that_the_model_does_not_take_is_named(client: httpx.Client) -> None:
    response = client.get("/v2/models/echo/private/infer", headers=bearer())
    assert problem(response)[0] == 405
    assert "POST" in response.headers["allow"]


def test_a_media_type_that_the_model_does_not_take_is_refused(client: httpx.Client) -> None:
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

    fits = client.post("/v2/models/echo/x", content=chunks(16), headers=JSON)
    assert fits.json()["body_length"] == MIB
    try:
        over = client.post("/v2/models/echo/x", content=chunks(176), headers=JSON)
    except httpx.WriteError:
        pytest.fail("the refusal was lost: the connection was reset before it could be read")
    assert problem(over) == (413, "body_too_large")


def test_internal_headers_from_a_client_never_reach_the_model(client: httpx.Client) -> None:
    forged = {
        "x-model-service": "private/v2",
        "x-sluice-subject": "root",
        "x-sluice-anything": "1",
        "X-Sluice-Canary": "true",
    }
    seen = upstream(client.post("/v2/models/echo/x", json={}, headers=forged))
    assert seen["x-model-service"] == "echo/v1"
    assert {name for name in seen if name.startswith("x-sluice-")} <= {
        "x-sluice-model",
        "x-sluice-reason",
    }


def test_credentials_are_not_forwarded_but_the_subject_is(client: httpx.Client) -> None:
    given = {**bearer("alice"), "Proxy-Authorization": "Basic YTpi", "cookie": "a=b"}
    seen = upstream(client.post("/v2/models/echo/private", json={}, headers=given))
    assert "authorization" not in seen
    assert "proxy-authorization" not in seen
    assert seen["x-sluice-subject"] == "alice"
    assert seen["cookie"] == "a=b"


def test_a_version_can_be_chosen_by_header_and_by_group(client: httpx.Client) -> None:
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
def test_the_canary_can_be_asked_for(client: httpx.Client, headers: dict[str, str]) -> None:
    response = client.post("/v2/models/echo/x", json={}, headers=headers)
    assert response.json()["version"] == "v2"
    assert upstream(response)["x-sluice-canary"] == "true"


def test_a_canary_of_ten_percent_takes_a_tenth_of_the_users_and_always_the_same(
    gateway: Gateway,
) -> None:
    def ask(users: range) -> dict[int, str]:
        with gateway.client() as client:
            return {user: version_for(client, user) for user in users}

    def version_for(client: httpx.Client, user: int) -> str:
        headers = {"x-user-id": f"user-{user}"}
        version: str = client.get("/v2/models/echo/x", headers=headers).json()["version"]
        return version

    with ThreadPoolExecutor(4) as pool:
        found: dict[int, str] = {}
        for part in pool.map(ask, [range(n, n + 2500) for n in range(0, 10_000, 2500)]):
            found |= part
    assert 900 <= Counter(found.values())["v2"] <= 1100
    sample = range(0, 10_000, 50)
    assert ask(sample) == {user: found[user] for user in sample}


def test_the_reason_is_shown_where_the_config_says_so(client: httpx.Client) -> None:
    response = client.post("/v2/models/echo/x", json={}, headers={"x-canary": "true"})
    assert response.headers["x-sluice-reason"] == "canary_header"


@pytest.mark.parametrize("path", ["/", "/v2/models", "/v2/models/", "/v2/models/%2e%2e/x", "/x"])
def test_a_path_that_belongs_to_no_model_is_refused(client: httpx.Client, path: str) -> None:
    assert client.post(path, json={}, headers=bearer()).status_code in (400, 404)
