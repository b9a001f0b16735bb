"""A config of few models, which have all rules that native routes express."""

from typing import Final

from tests.integration.equality import policies
from tests.integration.equality.compare import endpoint
from tests.integration.equality.policies import Config, TestIssuer, World
from tests.integration.equality.tokens import SigningKey, key_set, signing_key

BY_CALLOUT: Final = {"name": "x-lang", "value": "a, b"}
"""A header by which only the callout chooses a canary."""


def every_rule(port: int) -> World:
    """The config, with endpoints at this port."""

    def model(name: str, *versions: str, **settings: object) -> Config:
        served = {v: {"endpoints": [{"address": endpoint(name, v, port)}]} for v in versions}
        return {"stable": versions[0], "versions": served, **settings}

    issuers = [
        _issuer("https://one.test", "api", signing_key("EdDSA", 0), "group"),
        _issuer("https://two.test", "https://api.test/", signing_key("RS256", 1), "groups"),
    ]
    config: Config = {
        "auth": {
            "issuers": [issuer.config for issuer in issuers],
            "api_keys": [{"name": "key", "sha256": policies.API_KEY_HASH, "groups": ["staff"]}],
        },
        "models": {
            "m": model(
                "m", "v1", "v2", "v10",
                access={
                    "allow": [
                        {"groups": ["staff", "batch"], "claims": {"tier": "gold"}},
                        {"subjects": ["alice"]},
                        {"groups": ["vip", "vip-eu"]},
                    ]
                },
                claim_rules=[
                    {"claim": "group", "value": "vip", "version": "v2"},
                    {"claim": "tier", "match": "prefix", "value": "silv", "version": "v10"},
                    {"claim": "scope", "value": "gold", "version": "v10"},
                ],
                canaries=[{"version": "v2", "percent": 0, "headers": [BY_CALLOUT]}],
                max_body=64, methods=["POST", "PUT"], content_types=["application/json", "image/*"],
            ),
            "p": model(
                "p", "v1", "v2", "v3",
                access={"public": True}, bucket={"header": "x-user-id"},
                canaries=[
                    {"version": "v2", "percent": 30},
                    {"version": "v3", "percent": 30, "model_types": ["text"],
                     "headers": [{"name": "x-beta", "value": "1"}]},
                ],
                paths=["/own", "/v2/models/q/infer"], max_body=64,
            ),
            "q": model(
                "q", "v1", "v2",
                canaries=[
                    {"version": "v2", "percent": 40, "model_types": ["text", "image"],
                     "headers": [{"name": "x-canary", "value": "true"}, BY_CALLOUT]},
                ],
                max_body=16, websocket=True, timeout=1,
            ),
        },
    }  # fmt: skip
    return World("every rule", config, tuple(issuers), policies.API_KEY)


def _issuer(name: str, audience: str, key: SigningKey, groups: str) -> TestIssuer:
    config: Config = {
        "issuer": name,
        "audiences": [audience],
        "algorithms": [key.algorithm],
        "jwks": key_set(key),
        "leeway": 2,
        "group_claim": groups,
        "subject_claim": "sub",
    }
    return TestIssuer(config, key)
