"""Random policies: issuers, and models with rules of every kind that a native route can express.

Names, values and rules come from small sets, so that rules of one model match, or almost match,
the requests to another.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.integration.equality.tokens import SigningKey, key_set, signing_key

Config = dict[str, Any]
Endpoint = Callable[[str, str], str]
"""The address of a version of a model."""

MODELS = (
    "a", "ab", "abc", "a.b", "a-b", "a_b", "A", "infer", "m", "m1", "m10", "m.1", "versions", "v1",
    "ready", "x", "xy", "x.y.z", "model", "models", "v2", "0", "9", "z-9",
)  # fmt: skip
VERSIONS = ("v1", "v2", "v10", "v1.1", "1", "2024-01-01", "stable", "infer")
GROUPS = (
    *("staff", "vip", "vip-eu", "vi", "batch", "a.b") * 4, "true", "3", "%41", "é", "a b", "a,b",
)  # fmt: skip
TIERS = (*("gold", "silver", "goldfish") * 4, "3", "true")
HEADER_NAMES = ("x-user-id", "x-user", "x-tenant")
CANARY_HEADERS = (("x-canary", "true"), ("x-canary", "yes"), ("x-beta", "1"), ("x-user", "tester"))
MODEL_TYPES = ("image-classification", "text", "image", "text-2")
CONTENT_TYPES = (
    "application/json", "application/octet-stream", "application/grpc", "text/plain", "image/*",
    "image/png", "*/*", "application/vnd.x+json", "text/*", "video/mp4",
)  # fmt: skip
CLAIMS = (
    *("tier", "team") * 3, "org.unit", "realm_access.roles", "https://ex.test/roles", "scope",
    "group",
)  # fmt: skip
LEEWAYS = (*(2, 2.5, 10, 30, 60) * 6, 0, 0.5)
"""Seconds."""

MAX_BODY = (*(1, 16, 64, 300) * 4, 0)
"""Bytes, so that a body may have the maximum, and one more."""


@dataclass(frozen=True, slots=True)
class TestIssuer:
    """An issuer, with the private key that the gateway trusts."""

    config: Config
    key: SigningKey

    @property
    def name(self) -> str:
        return str(self.config["issuer"])


@dataclass(frozen=True, slots=True)
class World:
    """One config with many models, and the keys of its issuers."""

    seed: str
    config: Config
    issuers: tuple[TestIssuer, ...]
    api_key: str

    @property
    def models(self) -> dict[str, Config]:
        models: dict[str, Config] = self.config["models"]
        return models


def random_world(seed: str, endpoint: Endpoint, models: int = 24) -> World:
    """A random config. The seed determines it."""
    rng = random.Random(seed)
    issuers = _issuers(rng)
    names = rng.sample(MODELS, min(models, len(MODELS)))
    paths = _paths(rng, names)
    config: Config = {
        "auth": {
            "issuers": [issuer.config for issuer in issuers],
            "api_keys": [{"name": "key", "sha256": API_KEY_HASH, "groups": ["staff"]}],
            "forward_credentials": rng.random() < 0.2,
        },
        "models": {name: _model(rng, name, paths[name], endpoint) for name in names},
    }
    if rng.random() < 0.3:
        config["auth"]["api_key_header"] = "x-key"
    if rng.random() < 0.3:
        config["auth"]["api_keys"] = []
    return World(seed, config, issuers, API_KEY)


API_KEY = "sk-equality"
API_KEY_HASH = hashlib.sha256(API_KEY.encode()).hexdigest()


def _issuers(rng: random.Random) -> tuple[TestIssuer, ...]:
    algorithm = rng.choice(("EdDSA", "EdDSA", "EdDSA", "RS256"))
    first = _issuer(rng, "https://one.test", signing_key(algorithm, 0), "group", "sub")
    subject = rng.choice((*("sub",) * 22, "uid", "org.unit"))
    groups = rng.choice((*("groups", "roles") * 9, "realm_access.roles", "https://ex.test/roles"))
    algorithm = rng.choice((*("RS256", "EdDSA") * 6, "ES256"))
    second = _issuer(rng, "https://one.test/", signing_key(algorithm, 1), groups, subject)
    return (first, second) if rng.random() < 0.8 else (first,)


def _issuer(
    rng: random.Random, name: str, key: SigningKey, groups: str, subject: str
) -> TestIssuer:
    config: Config = {
        "issuer": name,
        "audiences": rng.choice((["api"], ["api", "https://api.test/"], ["https://api.test"])),
        "algorithms": [key.algorithm],
        "jwks": key_set(key),
        "leeway": rng.choice(LEEWAYS),
        "group_claim": groups,
        "subject_claim": subject,
    }
    return TestIssuer(config, key)


def _paths(rng: random.Random, names: list[str]) -> dict[str, list[str]]:
    """Own paths of the models. Some lie below, or are, the path of another model's operation."""
    candidates = ["/predict", "/predict/x", "/p", "/api/v1.0/run", "/v2/models", "/infer"]
    for name in names[:6]:
        candidates += [f"/v2/models/{name}/infer", f"/v2/models/{name}/versions/v2", f"/own/{name}"]
    candidates = sorted(set(candidates))
    rng.shuffle(candidates)
    return {
        name: [candidates.pop() for _ in range(rng.choice((0, 0, 0, 1, 2))) if candidates]
        for name in names
    }


def _model(rng: random.Random, name: str, paths: list[str], endpoint: Endpoint) -> Config:
    versions = rng.sample(VERSIONS, rng.choice((1, 2, 2, 3)))
    model: Config = {
        "stable": versions[0],
        "versions": {v: {"endpoints": [{"address": endpoint(name, v)}]} for v in versions},
        "access": _access(rng),
        "breaker": {"enabled": rng.random() < 0.5},
        "websocket": rng.random() < 0.15,
        "type": rng.choice((None, "text")),
        **_requests(rng),
    }
    if paths:
        model["paths"] = paths
    if len(versions) > 1 and rng.random() < 0.4:
        model["claim_rules"] = [_claim_rule(rng, versions) for _ in range(rng.choice((1, 1, 2)))]
    if len(versions) > 1 and rng.random() < 0.6:
        model["canaries"] = _canaries(rng, versions[1:])
    if rng.random() < 0.3:
        model["bucket"] = {"header": rng.choice(HEADER_NAMES)}
    if rng.random() < 0.06:
        model.setdefault("bucket", {})["hash"] = "modulo"
        for canary in model.get("canaries", ()):
            canary["percent"] = round(canary["percent"])
    return model


def _requests(rng: random.Random) -> Config:
    """The rules for methods, bodies and paths."""
    rules: Config = {}
    if rng.random() < 0.3:
        rules["methods"] = rng.choice((["POST", "PUT"], ["PUT"], ["POST", "GET"], ["DELETE"]))
    if rng.random() < 0.4:
        rules["content_types"] = rng.sample(CONTENT_TYPES, rng.choice((1, 2, 3)))
    if rng.random() < 0.6:
        rules["max_body"] = rng.choice(MAX_BODY)
    if rng.random() < 0.15:
        rules["extra_paths"] = rng.choice((["stats"], ["*"], ["infer/x"]))
    return rules


def _access(rng: random.Random) -> Config:
    kind = rng.random()
    if kind < 0.25:
        return {"public": True}
    if kind < 0.5:
        return {}
    return {"allow": [_allow_rule(rng) for _ in range(rng.choice((1, 1, 2)))]}


def _allow_rule(rng: random.Random) -> Config:
    rule: Config = {}
    if rng.random() < 0.6:
        rule["groups"] = rng.sample(GROUPS, rng.choice((1, 2)))
    if rng.random() < 0.2:
        rule["subjects"] = rng.sample(SUBJECTS, 3)
    if rng.random() < 0.4 or not rule:
        rule["claims"] = {rng.choice(CLAIMS): rng.choice((*TIERS, *GROUPS[:4]))}
    return rule


SUBJECTS = (
    "alice", "bob", "1234", "a b", "é", "100%", "%41", "a,b", "x" * 200, "a\tb", "a\nb", "~",
    "ALICE",
    " alice",
)  # fmt: skip


def _claim_rule(rng: random.Random, versions: list[str]) -> Config:
    return {
        "claim": rng.choice(("group", "group", *CLAIMS)),
        "match": rng.choice(("exact", "prefix")),
        "value": rng.choice((*GROUPS, *TIERS, "")),
        "version": rng.choice(versions),
    }


def _canaries(rng: random.Random, versions: list[str]) -> list[Config]:
    canaries = []
    for version in versions[: rng.choice((1, 1, 2))]:
        canary: Config = {"version": version, "percent": rng.choice((0, 0, 10, 0.01, 33.33, 50))}
        if rng.random() < 0.5:
            headers = rng.sample(CANARY_HEADERS, rng.choice((0, 1, 2)))
            canary["headers"] = [{"name": n, "value": v} for n, v in headers]
        if rng.random() < 0.3:
            canary["model_types"] = rng.sample(MODEL_TYPES, rng.choice((1, 2)))
        canaries.append(canary)
    return canaries
