"""Policies and requests for tests of the decision."""

import hashlib
from typing import Any

from hypothesis import strategies as st

from extproc.decision import Admission, Decision, Reason, Refusal, Request, decide
from extproc.policy.compiled import Policy, compile_policy
from sluice.config import PolicyDocument
from tests.extproc.auth.tokens import NOW, claims, issuer, token

VERSIONS = {
    name: {"endpoints": [{"address": f"127.0.0.1:{port}"}]}
    for name, port in (("v1", 9001), ("v2", 9002), ("v3", 9003))
}


def document(models: dict[str, dict[str, Any]] | None = None, **sections: Any) -> PolicyDocument:
    """A policy document. By default, a model is public and has versions v1 (stable), v2 and v3.

    Documents with different models or sections have different versions.
    """
    defaults = {"versions": VERSIONS, "stable": "v1", "access": {"public": True}}
    listed = {"m": {}} if models is None else models
    return PolicyDocument.model_validate(
        {
            "version": hashlib.sha256(repr((models, sections)).encode()).hexdigest()[:16],
            "requests": {},
            "auth": {"issuers": [issuer()]},
            "models": {name: {**defaults, **settings} for name, settings in listed.items()},
            **sections,
        }
    )


def make_policy(models: dict[str, dict[str, Any]] | None = None, **sections: Any) -> Policy:
    return compile_policy(document(models, **sections))


def policy_with(**settings: Any) -> Policy:
    """A policy with the one model `m`."""
    return make_policy({"m": settings})


def make_request(
    path: str = "/v2/models/m/infer", method: str = "POST", *, body: bool = True, **headers: str
) -> Request:
    """A request. Underscores in names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    if body:
        named.setdefault("content-type", b"application/json")
    return Request({":method": method.encode(), ":path": path.encode(), **named}, body, NOW)


def bearer(**changes: object) -> str:
    return f"Bearer {token(claims(**changes))}"


def admitted(policy: Policy, request: Request) -> Admission:
    decision = decide(policy, request)
    assert isinstance(decision, Admission), decision
    return decision


def refused(policy: Policy, request: Request) -> tuple[int, Reason]:
    decision: Decision = decide(policy, request)
    assert isinstance(decision, Refusal), decision
    assert decision.detail
    return decision.status, decision.reason


def version(policy: Policy, request: Request) -> str:
    return admitted(policy, request).target.version


API_KEY = "sk-1"

POLICY = make_policy(
    {
        "m": {
            "methods": ["POST", "GET"],
            "websocket": True,
            "max_body": 1000,
            "paths": ["/classify"],
            "content_types": ["application/json", "application/grpc", "image/*"],
            "canaries": [{"version": "v2", "percent": 30, "model_types": ["text"]}],
            "claim_rules": [{"match": "prefix", "value": "v", "version": "v3"}],
            "bucket": {"header": "x-user"},
        },
        "private": {
            "access": {"allow": [{"groups": ["vip"]}, {"subjects": ["bob", "batch"]}]},
            "canaries": [{"version": "v3", "percent": 50}],
            "bucket": {"hash": "modulo"},
        },
        "tensors": {
            "versions": {"v1": {**VERSIONS["v1"], "protocol": "grpc"}},
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}],
        },
    },
    auth={
        "issuers": [issuer()],
        "api_keys": [{"name": "batch", "sha256": hashlib.sha256(API_KEY.encode()).hexdigest()}],
    },
)

_VALUES = {
    ":method": ["POST", "GET", "HEAD", "DELETE", ""],
    ":path": [
        "/v2/models/m/infer", "/v2/models/m", "/v2/models/m/versions/v2/infer", "/classify/x",
        "/v2/models/private/infer", "/v2/models/tensors/infer", "/v2/models/tensors/ready",
        "/inference.GRPCInferenceService/ModelInfer", "/", "*", "",
    ],
    "content-type": [
        "application/json", "application/grpc", "image/png", "text/html", "multipart/form-data", "",
    ],
    "content-length": ["0", "999", "1001", "-1", "", "1" * 30],
    "authorization": [
        bearer(), bearer(sub="bob"), bearer(group="vip"), bearer(aud="x"), "Bearer a.b.c", "",
    ],
    "x-api-key": [API_KEY, "sk-2", ""],
    "x-model-version": ["v1", "v2", "v9", "v2, v2", ""],
    "x-model-name": ["m", "tensors", "none"],
    "x-model-type": ["text", "image"],
    "x-canary": ["true", "false"],
    "x-user": ["1", "user", ""],
    "upgrade": ["websocket", "h2c"],
    "connection": ["upgrade", "upgrade, x-sluice-subject"],
}  # fmt: skip

_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from([value.encode() for value in values]) | st.binary(max_size=40)
        for name, values in _VALUES.items()
    },
)
REQUESTS = st.builds(Request, _HEADERS, st.booleans(), st.just(NOW))
