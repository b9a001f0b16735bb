"""A guard lets callers do what their role allows, and refuses web pages of other origins."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.config.access import Access
from sluice.http.access import AccessGuard, Role, principal_of
from sluice.http.hosts import HostGuard

Headers = Mapping[str, str] | Sequence[tuple[str, str]]

READER, OPERATOR = "reader-token-0123456789", "operator-token-0123456789"
DIGEST = hashlib.sha256(READER.encode()).hexdigest()
ACCESS = Access.model_validate(
    {
        "tokens": [
            {
                "name": "eve",
                "role": "reader",
                "sha256": hashlib.sha256(READER.encode()).hexdigest(),
            },
            {"name": "oscar", "role": "operator", "secret_file": "token"},
        ]
    }
)


async def whoami(request: Request) -> Response:
    caller = principal_of(request)
    return JSONResponse([caller.name, caller.role])


class Client:
    """Makes requests to an application in this process."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def request(self, method: str, path: str, headers: Headers = ()) -> httpx.Response:
        return asyncio.run(self._request(method, path, headers))

    def get(self, path: str, headers: Headers = ()) -> httpx.Response:
        return self.request("GET", path, headers)

    def post(self, path: str, headers: Headers = ()) -> httpx.Response:
        return self.request("POST", path, headers)

    async def _request(self, method: str, path: str, headers: Headers) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        base = "http://localhost:8081"
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return await client.request(method, path, headers=httpx.Headers(headers))


def client(
    access: Access,
    directory: Path = Path(),
    *,
    trusted: bool = True,
    reader_token: Path | None = None,
) -> Client:
    hosts = HostGuard("127.0.0.1:1", (), "key")
    guard = AccessGuard(
        lambda: access, directory, hosts, trusted=trusted, reader_token=reader_token
    )
    routes = [
        Route("/read", guard.protect(whoami, Role.READER), methods=["GET", "POST"]),
        Route("/write", guard.protect(whoami, Role.OPERATOR), methods=["POST"]),
    ]
    return Client(Starlette(routes=routes))


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def refusal(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["reason"]


def test_without_access_every_local_caller_is_an_operator() -> None:
    assert client(Access()).post("/write").json() == ["local", "operator"]


def test_without_access_a_caller_of_another_machine_may_only_read() -> None:
    remote = client(Access(), trusted=False)
    assert remote.get("/read").json() == ["anonymous", "reader"]
    assert refusal(remote.post("/write")) == (403, "role_required")


@pytest.mark.parametrize("trusted", [True, False])
def test_a_token_has_its_role(tmp_path: Path, trusted: bool) -> None:
    (tmp_path / "token").write_text(f"{OPERATOR}\n")
    both = client(ACCESS, tmp_path, trusted=trusted)
    assert both.get("/read", headers=bearer(READER)).json() == ["eve", "reader"]
    assert both.get("/read", headers=bearer(OPERATOR)).json() == ["oscar", "operator"]
    assert both.post("/write", headers=bearer(OPERATOR)).json() == ["oscar", "operator"]
    assert refusal(both.post("/write", headers=bearer(READER))) == (403, "role_required")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer wrong")],
        [("authorization", "Bearer ")],
        [("authorization", f"Basic {READER}")],
        [("authorization", READER)],
        [("authorization", f"Bearer {DIGEST}")],
        [("authorization", f"Bearer {READER}"), ("authorization", f"Bearer {READER}")],
    ],
)
def test_other_credentials_are_refused(headers: Headers, tmp_path: Path) -> None:
    response = client(ACCESS, tmp_path).get("/read", headers=headers)
    assert refusal(response) == (401, "unauthenticated")
    assert response.headers["www-authenticate"] == 'Bearer realm="sluice"'


def test_the_gateway_itself_may_read_with_a_token_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("own-0123456789abcdef")
    own = client(ACCESS, tmp_path, reader_token=tmp_path / "own")
    headers = bearer("own-0123456789abcdef")
    assert own.get("/read", headers=headers).json() == ["sluice", "reader"]
    assert refusal(own.post("/write", headers=headers)) == (403, "role_required")
    assert refusal(own.get("/read")) == (401, "unauthenticated")


def test_a_token_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice.token_files.LOOK_INTERVAL", 0.0)
    file = tmp_path / "token"
    guarded = client(ACCESS, tmp_path)
    assert guarded.get("/read", headers=bearer(OPERATOR)).status_code == 401
    file.write_text(OPERATOR)
    assert guarded.get("/read", headers=bearer(OPERATOR)).status_code == 200
    file.write_text("another-token-0123456789")
    assert guarded.get("/read", headers=bearer(OPERATOR)).status_code == 401
    for unusable in ("", "short", "x" * 1025, "a control \x07 character"):
        file.write_text(unusable)
        assert guarded.get("/read", headers=bearer(unusable.strip())).status_code == 401


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://page.example"},
        {"origin": "http://localhost:8082"},
        {"origin": "null"},
        {"origin": "http://[:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("access", [Access(), ACCESS])
def test_a_web_page_of_another_origin_is_refused(
    method: str, headers: dict[str, str], access: Access
) -> None:
    response = client(access).request(method, "/read", headers=headers | bearer(READER))
    assert refusal(response) == (403, "foreign_page")


def test_a_page_of_the_server_and_a_user_may_call() -> None:
    own = {"origin": "http://localhost:8081", "sec-fetch-site": "same-origin"}
    assert client(Access()).post("/write", headers=own).status_code == 200
    assert client(Access()).get("/read", headers={"sec-fetch-site": "none"}).status_code == 200


def test_a_request_for_another_host_is_refused() -> None:
    assert client(Access()).get("/read", headers={"host": "rebound.example"}).status_code == 421
