"""Policies and requests for tests of decisions."""

from typing import Any

from extproc.decision import Admission, Decision, Reason, Refusal, Request, decide
from extproc.policy.compiled import Policy, compile_policy
from sluice.config import PolicyDocument
from tests.extproc.auth.tokens import NOW, claims, issuer, token

VERSIONS = {
    name: {"endpoints": [{"address": f"127.0.0.1:{port}"}]}
    for name, port in (("v1", 9001), ("v2", 9002), ("v3", 9003))
}


def document(models: dict[str, dict[str, Any]] | None = None, **sections: Any) -> PolicyDocument:
    """Every model has versions v1 (stable), v2 and v3, and is public unless it says otherwise."""
    defaults = {"versions": VERSIONS, "stable": "v1", "access": {"public": True}}
    listed = {"m": {}} if models is None else models
    return PolicyDocument.model_validate(
        {
            "requests": {},
            "auth": {"issuers": [issuer()]},
            "models": {name: {**defaults, **settings} for name, settings in listed.items()},
            **sections,
        }
    )


def policy(models: dict[str, dict[str, Any]] | None = None, **sections: Any) -> Policy:
    return compile_policy(document(models, **sections))


def one(**settings: Any) -> Policy:
    """A policy with the one model `m`."""
    return policy({"m": settings})


def request(
    path: str = "/v2/models/m/infer", method: str = "POST", *, body: bool = True, **headers: str
) -> Request:
    """A request; underscores in names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    if body:
        named.setdefault("content-type", b"application/json")
    return Request({":method": method.encode(), ":path": path.encode(), **named}, body, NOW)


def bearer(**changes: object) -> str:
    return f"Bearer {token(claims(**changes))}"


def admitted(by: Policy, asked: Request) -> Admission:
    decision = decide(by, asked)
    assert isinstance(decision, Admission), decision
    return decision


def refused(by: Policy, asked: Request) -> tuple[int, Reason]:
    decision: Decision = decide(by, asked)
    assert isinstance(decision, Refusal), decision
    assert decision.detail
    return decision.status, decision.reason


def version(by: Policy, asked: Request) -> str:
    return admitted(by, asked).target.version
