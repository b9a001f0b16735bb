"""Native placement: which requests Envoy admits without the callout, with the same answers.

Every case is sent to two models that differ only in `placement`. What the model servers receive and
what the clients get must be the same. Envoy's count of calls to the callout says who decided.
"""

import contextlib
import http.client
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from sluice.config.placement import MAX_ITEM
from tests.integration.gateway import (
    AUDIENCE,
    ISSUER,
    PRIVATE_KEY,
    Config,
    Gateway,
    base_config,
    bearer,
    callout_calls,
    running,
    token,
)

NATIVE, CALLOUT = "native", "callout"

Headers = dict[str, str]


def native_config() -> Config:
    """Pairs of models: `n-KIND` with native routes, and `c-KIND` without, with the same servers."""
    config = base_config()
    config["auth"]["issuers"][0] |= {"leeway": "30s", "audiences": [AUDIENCE, "api"]}
    config["listener"]["headers_with_underscores"] = "allow"
    echo = config["models"]["echo"]
    versions = echo["versions"]
    plain = {"stable": "v1", "versions": versions, "content_types": ["application/json", "image/*"]}
    rules = [
        {"claim": "group", "value": "vip", "version": "v2"},
        {"claim": "tier", "match": "prefix", "value": "go", "version": "v2"},
        {"claim": "scope", "value": "beta", "version": "v2"},
        {"claim": "level", "value": "7", "version": "v2"},
        {"claim": "group", "value": "x" * MAX_ITEM, "version": "v2"},
        {"claim": "group", "match": "prefix", "value": "y" * MAX_ITEM, "version": "v2"},
    ]
    allowed = [{"groups": ["staff", "ops"]}, {"subjects": ["al"]}]
    canary = {"version": "v2", "percent": 30, "model_types": ["image"]}
    kinds: dict[str, Config] = {
        "plain": plain,
        "rules": {**plain, "claim_rules": rules},
        "canary": {**plain, "canaries": [canary]},
        "bucket": {**plain, "canaries": [canary], "bucket": {"header": "x-user-id"}},
        "modulo": {**plain, "canaries": [canary], "bucket": {"hash": "modulo"}},
        "allow": {**plain, "access": {"allow": allowed}},
        "open": {**plain, "access": {"public": True}, "canaries": [canary]},
        "number": {**plain, "claim_rules": [{"claim": "n", "value": "0.5", "version": "v2"}]},
        "put": {**plain, "methods": ["GET", "PUT"], "max_body": "1KiB"},
    }
    config["models"] = {"echo": echo} | {
        f"{placement[0]}-{kind}": {**model, "paths": [f"/v2/models/echo/{placement[0]}-{kind}"]}
        | ({"placement": "callout"} if placement == CALLOUT else {})
        for kind, model in kinds.items()
        for placement in (NATIVE, CALLOUT)
    }
    return config


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with running(native_config()) as started:
        yield started


def answer(response: httpx.Response) -> tuple[int, Any]:
    """The status, and what the model server received, or why the request was refused."""
    body = response.json()
    if response.status_code == 200:
        ignored = ("x-request-id", "x-sluice-model", "x-model-service")
        received = sorted(pair for pair in body["headers"] if pair[0] not in ignored)
        return 200, (body["version"], received)
    return response.status_code, body["reason"]


def send(gateway: Gateway, model: str, headers: Headers, **options: Any) -> httpx.Response:
    path = f"/v2/models/echo/{model}{options.pop('below', '')}"
    method = options.pop("method", "POST")
    options = {"content": b"{}", **options}
    with gateway.client() as client:
        sent = {"content-type": "application/json", **headers}
        return client.request(method, path, headers=sent, **options)


def placement(gateway: Gateway, kind: str, headers: Headers, **options: Any) -> str:
    """Where the request is decided, after checking that both placements answer alike."""
    before = callout_calls(gateway)
    native = send(gateway, f"n-{kind}", headers, **options)
    asked = callout_calls(gateway) - before
    decided = send(gateway, f"c-{kind}", headers, **options)
    assert answer(native) == answer(decided)
    return CALLOUT if asked else NATIVE


def raw_token(payload: bytes, header: bytes = b'{"alg":"RS256","kid":"test"}') -> Headers:
    """A signed token with exactly these parts."""
    parts = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload))
    signature = PRIVATE_KEY.sign(parts, padding.PKCS1v15(), hashes.SHA256())
    return {"authorization": f"Bearer {parts.decode()}.{_unpadded(signature)}"}


def _unpadded(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def claims(more: str = "") -> bytes:
    expires = int(time.time()) + 3600
    standard = f'"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"1234","exp":{expires}'
    return f"{{{standard}{more}}}".encode()


STAFF = {"group": "staff"}

NATIVE_CASES: list[tuple[str, Headers, Config]] = [
    ("plain", bearer(), {}),
    ("plain", bearer(), {"below": "?a=b"}),
    ("plain", bearer(), {"below": "/below"}),
    ("plain", {**bearer(), "content-type": "application/json; charset=utf-8"}, {}),
    ("plain", {**bearer(), "content-type": "image/png"}, {}),
    ("plain", {**bearer(), "x-model-version": "v2"}, {}),
    ("plain", {**bearer(), "x-sluice-token-subject": "root", "x-model-service": "x/y"}, {}),
    ("plain", {**bearer(), "proxy-authorization": "Basic YTpi", "cookie": "a=b"}, {}),
    ("plain", bearer(aud="api"), {}),
    ("plain", bearer(aud=["other", AUDIENCE]), {}),
    ("plain", bearer(iat=int(time.time()) + 3600), {}),
    ("plain", bearer(padding="x" * 9000), {}),
    ("plain", bearer("a b@c/d"), {}),
    ("rules", bearer(), {}),
    ("rules", bearer(group="vip"), {}),
    ("rules", bearer(group="vip admin"), {}),
    ("rules", bearer(group=["a", "vip"]), {}),
    ("rules", bearer(group=["a", "vi", "p"]), {}),
    ("rules", bearer(group=[]), {}),
    ("rules", bearer(group=None), {}),
    ("rules", bearer(group={"vip": 1}), {}),
    ("rules", bearer(group=["a", "x" * MAX_ITEM]), {}),
    ("rules", bearer(group=["a", "y" * MAX_ITEM + "z"]), {}),
    ("rules", bearer(tier="gold"), {}),
    ("rules", bearer(tier=["silver", "gold"]), {}),
    ("rules", bearer(scope="alpha beta"), {}),
    ("rules", bearer(scope="alphabeta beta2"), {}),
    ("rules", bearer(level=7), {}),
    ("rules", bearer(level=7.0), {}),
    ("rules", bearer(level=7.5), {}),
    ("rules", {**bearer(group="vip"), "x-model-version": "v1"}, {}),
    ("canary", {**bearer(), "x-canary": "true"}, {}),
    ("canary", {**bearer(), "x-canary": "false"}, {}),
    ("canary", {**bearer(), "x-model-type": "image"}, {}),
    *(("canary", bearer(f"user-{number}"), {}) for number in range(12)),
    *(("bucket", {**bearer(), "x-user-id": f"{number}"}, {}) for number in range(12)),
    ("bucket", bearer(), {}),
    ("bucket", {**bearer(), "x-model-type": "image"}, {}),
    ("allow", bearer(**STAFF), {}),
    ("allow", bearer(group=["a", "ops"]), {}),
    ("allow", bearer("al"), {}),
    ("open", {}, {}),
    ("open", bearer(), {}),
    ("open", {"x-canary": "true"}, {}),
    ("put", bearer(), {"method": "PUT", "content": b"x" * 1024}),
]
"""The kind of model, the headers and options of requests that Envoy admits alone."""

CALLOUT_CASES: list[tuple[str, Headers, Config]] = [
    ("plain", {}, {}),
    ("plain", {"authorization": "Bearer x"}, {}),
    ("plain", {"authorization": bearer()["authorization"].replace("Bearer", "bearer")}, {}),
    ("plain", {"authorization": f"Bearer  {token()}"}, {}),
    ("plain", {"authorization": f"Bearer {token()}, Bearer {token()}"}, {}),
    ("plain", {"authorization": f"Bearer {token()}=="}, {}),
    ("plain", {**bearer(), "x-api-key": "k"}, {}),
    ("plain", {**bearer(), "x-model-version": "v9"}, {}),
    ("plain", {**bearer(), "content-type": "text/plain"}, {}),
    ("plain", {**bearer(), "content-type": "Application/JSON"}, {}),
    ("plain", bearer(), {"content": b""}),
    ("plain", bearer(), {"content": iter([b"{", b"}"])}),
    ("plain", bearer(), {"method": "DELETE"}),
    ("plain", bearer("müller"), {}),
    ("plain", bearer("100%"), {}),
    ("plain", bearer(" a"), {}),
    ("plain", bearer("a\nb"), {}),
    ("plain", bearer(aud=f"https://{AUDIENCE}"), {}),
    ("plain", bearer(aud="api/"), {}),
    ("plain", bearer(aud=["https://api", "x"]), {}),
    ("plain", bearer(exp=int(time.time()) - 31), {}),
    ("plain", bearer(exp=0), {}),
    ("plain", bearer(nbf=int(time.time()) + 3600), {}),
    ("plain", bearer(iss="https://other.test"), {}),
    ("plain", raw_token(claims(), b'{"alg":"RS256","kid":"test","crit":["x"],"x":1}'), {}),
    ("plain", raw_token(claims(), b'{"alg":"RS256","\\u0063rit":["x"],"x":1}'), {}),
    ("plain", raw_token(claims(), b'{"alg":"RS256","kid":"test","b64":false}'), {}),
    ("rules", bearer(group=[["vip"]]), {}),
    ("rules", bearer(group=["x", {"a": "vip"}]), {}),
    ("rules", bearer(group=['a"vip', "b"]), {}),
    ("rules", bearer(group="WyJ2aXAiXQ=="), {}),
    ("rules", bearer(level=[7]), {}),
    ("canary", {**bearer(), "x-model-version": "v1,v2"}, {}),
    ("bucket", {**bearer(), "x-user-id": "1, 2"}, {}),
    ("modulo", bearer("42"), {}),
    ("allow", bearer(), {}),
    ("allow", bearer(group="staff2"), {}),
    ("allow", raw_token(claims(r',"x":1,"group":"W\/8sInN0YWZmIl0="')), {}),
    ("allow", raw_token(claims(r',"group":"W\/8sInN0YWZmIl0="')), {}),
    ("allow", bearer(group=["sta", "ff"]), {}),
    ("open", {"authorization": "Basic YTpi"}, {}),
    ("open", {"x-api-key": "k"}, {}),
    ("number", bearer(n=0.5), {}),
    ("number", bearer(), {}),
    ("put", bearer(), {"method": "PUT", "content": b"x" * 1025}),
    ("put", bearer(), {"method": "GET", "content": b"x"}),
]
"""Requests that the callout decides: it refuses them, or Envoy cannot be sure."""


@pytest.mark.parametrize("number", range(len(NATIVE_CASES)))
def test_envoy_admits_a_common_request_alone(gateway: Gateway, number: int) -> None:
    kind, headers, options = NATIVE_CASES[number]
    assert placement(gateway, kind, headers, **options) == NATIVE


@pytest.mark.parametrize("number", range(len(CALLOUT_CASES)))
def test_the_callout_decides_all_other_requests(gateway: Gateway, number: int) -> None:
    kind, headers, options = CALLOUT_CASES[number]
    if callable(getattr(options.get("content"), "__next__", None)):
        options = {**options, "content": [b"{", b"}"]}
    assert placement(gateway, kind, headers, **options) == CALLOUT


def test_every_way_to_name_a_version_in_the_path_is_native(gateway: Gateway) -> None:
    with gateway.client() as client:
        sent = {"content-type": "application/json", **bearer()}
        for path in ("infer", "versions/v2/infer", "versions/v2/generate?a=b"):
            before = callout_calls(gateway)
            assert client.post(f"/v2/models/n-plain/{path}", content=b"{}", headers=sent)
            assert callout_calls(gateway) == before
        for path in ("versions/v9/infer", "versions/v2", "infer/", "inferx", "ready", ""):
            before = callout_calls(gateway)
            client.post(f"/v2/models/n-plain/{path}", content=b"{}", headers=sent)
            assert callout_calls(gateway) == before + 1, path


def test_repeated_headers_are_decided_by_the_callout(gateway: Gateway) -> None:
    for name, value in [
        ("authorization", bearer()["authorization"]),
        ("x-model-version", "v1"),
        ("x-user-id", "1"),
    ]:
        repeated = [(name, value), (name, value)]
        others = [item for item in bearer().items() if item[0] != name]
        sent = [("content-type", "application/json"), *others, *repeated]
        answers = []
        for model in ("n-bucket", "c-bucket"):
            before = callout_calls(gateway)
            with gateway.client() as client:
                url = f"/v2/models/echo/{model}"
                answers.append(answer(client.post(url, content=b"{}", headers=sent)))
            assert callout_calls(gateway) == before + 1
        assert answers[0] == answers[1]


def test_an_upgrade_is_decided_by_the_callout(gateway: Gateway) -> None:
    with contextlib.closing(
        http.client.HTTPConnection(gateway.config["listener"]["address"], timeout=10)
    ) as connection:
        before = callout_calls(gateway)
        headers = {**bearer(), "connection": "upgrade", "upgrade": "websocket"}
        connection.request("POST", "/v2/models/echo/n-plain", b"{}", headers)
        assert connection.getresponse().status in (400, 403, 405)
        assert callout_calls(gateway) <= before + 1


def test_the_placement_takes_effect_on_an_open_connection(gateway: Gateway) -> None:
    with gateway.client() as client:
        sent = {"content-type": "application/json", **bearer()}

        def decided() -> int:
            before = callout_calls(gateway)
            url = "/v2/models/echo/n-plain"
            assert client.post(url, content=b"{}", headers=sent).status_code == 200
            return callout_calls(gateway) - before

        assert decided() == 0
        gateway.edit(lambda config: config["models"]["n-plain"].update(placement="callout"))
        assert decided() == 1
        gateway.edit(lambda config: config["models"]["n-plain"].update(placement="auto"))
        gateway.edit(lambda config: config.update(placement="callout"))
        assert decided() == 0
        gateway.edit(lambda config: config["models"]["n-plain"].pop("placement"))
        assert decided() == 1
        gateway.edit(lambda config: config.update(placement="auto"))
        assert decided() == 0
