"""The config for hostile requests, and requests that it admits."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.integration.equality.compare import endpoint
from tests.integration.equality.request import Header, Request
from tests.integration.equality.tokens import (
    Claims,
    Credential,
    SigningKey,
    key_set,
    signing_key,
)

Config = dict[str, Any]

API_KEY = "hostile-key"
API_KEY_HASH = hashlib.sha256(API_KEY.encode()).hexdigest()
JSON = (b"content-type", b"application/json")
NAME = "https://one.test"


@dataclass(frozen=True, slots=True)
class Case:
    """A request. `native`: Envoy must admit it alone."""

    name: str
    request: Request
    native: bool = False


def config(port: int) -> Config:
    """A config with a model for each kind of rule."""

    def model(name: str, *versions: str, **settings: object) -> Config:
        served = {v: {"endpoints": [{"address": endpoint(name, v, port)}]} for v in versions}
        return {"stable": versions[0], "versions": served, "max_body": 100, **settings}

    issuers = [_issuer(name, key, leeway) for name, key, leeway in _issuers()]
    return {
        "auth": {
            "issuers": issuers,
            "api_keys": [{"name": "robot", "sha256": API_KEY_HASH, "groups": ["staff"]}],
        },
        "models": {
            "m": model("m", "v1", "v2", "v10"),
            "staff": model("staff", "v1", access={"allow": [{"groups": ["staff"]}]}),
            "gold": model("gold", "v1", access={"allow": [{"claims": {"tier": "gold"}}]}),
            "three": model("three", "v1", access={"allow": [{"claims": {"tier": "3"}}]}),
            "true": model("true", "v1", access={"allow": [{"claims": {"tier": "true"}}]}),
            "nested": model("nested", "v1", access={"allow": [{"claims": {"org.unit": "x"}}]}),
            "alice": model("alice", "v1", access={"allow": [{"subjects": ["alice"]}]}),
            "rules": model(
                "rules", "v1", "v2", "v3",
                claim_rules=[
                    {"claim": "group", "value": "vip", "version": "v2"},
                    {"claim": "tier", "match": "prefix", "value": "go", "version": "v3"},
                ],
            ),
            "public": model("public", "v1", "v2", access={"public": True}),
            "half": model(
                "half", "v1", "v2",
                access={"public": True}, bucket={"header": "x-user-id"},
                canaries=[{"version": "v2", "percent": 50, "model_types": ["image"]}],
            ),
            "subjects": model(
                "subjects", "v1", "v2", canaries=[{"version": "v2", "percent": 50}]
            ),
            "modulo": model(
                "modulo", "v1", "v2",
                bucket={"header": "x-user-id", "hash": "modulo"},
                canaries=[{"version": "v2", "percent": 50}],
            ),
            "a": model("a", "v1", access={"public": True}),
            "ab": model("ab", "v1", access={"allow": [{"groups": ["nobody"]}]}),
            "under": model("under", "v1", access={"public": True}),
            "over": model(
                "over", "v1", access={"allow": [{"groups": ["staff"]}]},
                paths=["/v2/models/under/infer", "/own"],
            ),
            "socket": model("socket", "v1", access={"public": True}, websocket=True),
            "any": model(
                "any", "v1", access={"public": True}, content_types=["*/*"],
                methods=["GET", "POST", "PUT", "HEAD"], extra_paths=["*"],
            ),
            "off": model("off", "v1"),
        },
    }  # fmt: skip


def _issuers() -> Iterator[tuple[str, SigningKey, float]]:
    yield NAME, signing_key("EdDSA", 0), 30
    yield "https://strict.test", signing_key("EdDSA", 1), 0
    yield "https://half.test", signing_key("EdDSA", 2), 0.5
    yield "https://rsa.test", signing_key("RS256", 0), 30
    yield "https://ecdsa.test", signing_key("ES256", 0), 30


def _issuer(name: str, key: SigningKey, leeway: float) -> Config:
    return {
        "issuer": name,
        "audiences": ["api", "https://api.test/v1"],
        "algorithms": [key.algorithm],
        "jwks": key_set(key),
        "leeway": leeway,
    }


def post(model: str, *headers: Header, path: bytes | None = None) -> Request:
    """A POST of JSON without credentials."""
    target = f"/v2/models/{model}/infer".encode() if path is None else path
    return Request(b"POST", target, (JSON, *headers)).with_body(b"{}")


def credential(**claims: Any) -> Credential:
    """A valid token of `NAME`. A claim with the value None is left out."""
    now = int(time.time())
    standard: Claims = {"iss": NAME, "aud": "api", "sub": "alice", "iat": now, "exp": now + 3600}
    return Credential(signing_key("EdDSA", 0), standard).with_claims(**claims)


def call(model: str, *headers: Header, path: bytes | None = None, **claims: Any) -> Request:
    """A POST of JSON with a token that has these claims."""
    return post(model, *headers, path=path).with_credential(credential(**claims))
