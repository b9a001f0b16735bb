"""Random configs, assertions and requests, and what an assertion says about a decision."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from extproc.auth import Identity
from extproc.decision import Admission, Decision, Reason, Request, decide
from extproc.policy.compiled import compile_policy
from sluice.config import GatewayConfig, policy_document
from sluice.config.assertion import AssertedCallers, Assertion
from sluice.config.assertions.callers import Caller
from sluice.config.assertions.requests import AssertedRequest
from sluice.config.buckets import bucket_of
from sluice.config.models import BUCKETS, Access
from tests.extproc.auth.tokens import SECRET, key_set, secret_jwk
from tests.tokens import signed

NOW = 1_800_000_000.0
TEXTS = ("a", "b", "ab", "")
CLAIMS = ("group", "groups", "role", "x.y", "x", "/x/y", "sub", "iss", "aud", "scope")
HEADERS = ("x-canary", "x-user", "x-model-type", "x-model-version")
PATHS = ("/p", "/p/q", "/v2/models/m/infer", "/v2/models/n/versions", "/v2/models/m/versions/v2")
METHODS = ("POST", "GET", "PUT", "HEAD", "DELETE")
VERSIONS = ("v1", "v2", "v3")
GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
KEY = "key-of-{}"


def config(source: random.Random) -> dict[str, object]:
    """A config with two models, one or two issuers and perhaps API keys."""
    issuers = [_issuer(source, name) for name in source.choice((("i",), ("i", "a"), ()))]
    keys = [
        {
            "name": name,
            "sha256": hashlib.sha256(KEY.format(name).encode()).hexdigest(),
            "groups": _some(source, TEXTS),
            "claims": {source.choice(CLAIMS): source.choice(("a", "b", "a b"))},
        }
        for name in source.choice(((), (), ("a",), ("a", "b", "k1", "k2", "k3")))
    ]
    models = {"m": _model(source, ()), "n": _model(source, ("/p",))}
    if source.random() < 0.2:
        models["n"]["paths"] = ["/p", "/v2/models/m/infer"]
    return {"auth": {"issuers": issuers, "api_keys": keys}, "models": models}


def _issuer(source: random.Random, name: str) -> dict[str, object]:
    return {
        "issuer": name,
        "audiences": source.choice((["a"], ["s"], ["s", "b"])),
        "algorithms": ["HS256"],
        "jwks": key_set(secret_jwk()),
        "subject_claim": source.choice(("sub", "sub", "sub", "x.y", "group")),
        "group_claim": source.choice(("group", "group", "groups", "role", "x.y", "sub", "aud")),
    }


def _model(source: random.Random, paths: tuple[str, ...]) -> dict[str, object]:
    versions = VERSIONS[: source.randint(1, 3)]
    others = list(versions[1:]) if source.random() < 0.6 else []
    hash_name = source.choice(("xxh64", "xxh64", "modulo"))
    shares = source.choice(((0, 0), (50, 50), (30, 1), (100, 0), (1, 0)))
    canaries = [
        {
            "version": version,
            "percent": share,
            "headers": [
                {
                    "name": source.choice(("x-canary", "x-canary", "x-user", "x-model-type")),
                    "value": source.choice(("true", "a", "7")),
                }
                for _ in range(source.randint(0, 2))
            ],
            "model_types": _some(source, ("a", "b")),
        }
        for version, share in zip(others, shares, strict=False)
        if source.random() < 0.7
    ]
    protocols = source.choice((("http",), ("grpc",), ("http", "http", "grpc")))
    model: dict[str, object] = {
        "versions": {
            version: {
                "endpoints": [{"address": "h:1"}],
                "protocol": source.choice(protocols),
            }
            for version in versions
        },
        "stable": "v1",
        "paths": list(paths),
        "methods": source.choice((["POST"], ["POST", "GET"], ["GET"], ["PUT", "DELETE"])),
        "content_types": source.choice(
            (
                ["application/json"], ["image/*"], ["application/grpc"], [], ["text/x-json"],
                ["*/*"], ["application/octet-stream", "application/json"],
            )
        ),
        "websocket": source.random() < 0.2,
        "extra_paths": source.choice(([], [], ["stats"], ["*"])),
        "claim_rules": [
            {
                "claim": source.choice(CLAIMS),
                "match": source.choice(("exact", "prefix")),
                "value": source.choice(TEXTS),
                "version": source.choice(versions),
            }
            for _ in range(source.choice((0, 1, 1, 2, 3)))
        ],
        "canaries": canaries,
        "bucket": {"hash": hash_name, "header": source.choice((None, None, "x-user"))},
    }  # fmt: skip
    if source.random() < 0.3:
        model["inputs"] = [{"name": "t", "datatype": "FP32", "shape": [1]}]
    access = source.random()
    if access < 0.3:
        model["access"] = {"public": True}
    elif access < 0.8:
        model["access"] = {"allow": [_rule(source) for _ in range(source.randint(1, 3))]}
    return model


def _rule(source: random.Random) -> dict[str, object]:
    rule: dict[str, object] = {}
    while not rule:
        if source.random() < 0.5:
            rule["groups"] = _some(source, TEXTS) or ["a"]
        if source.random() < 0.2:
            rule["subjects"] = _some(source, ("a", "u", "k1")) or ["u"]
        if source.random() < 0.3:
            rule["claims"] = {source.choice(CLAIMS): source.choice(TEXTS)}
    return rule


def _some(source: random.Random, values: tuple[str, ...]) -> list[str]:
    return [value for value in values if source.random() < 0.4]


def assertion(source: random.Random) -> dict[str, object]:
    """A random assertion about the models of `config`."""
    made: dict[str, object] = {"name": "it holds"}
    for key in ("caller", "unless"):
        if source.random() < 0.4:
            made[key] = _callers(source)
    if source.random() < 0.3:
        made["models"] = [source.choice(("m", "n"))]
    request: dict[str, object] = {}
    if source.random() < 0.6:
        request["names_version"] = source.choice((True, False, False, False))
    if source.random() < 0.2:
        request["methods"] = [source.choice(METHODS)]
    if source.random() < 0.2:
        request["paths"] = [source.choice(PATHS)]
    if source.random() < 0.25:
        names = HEADERS if request.get("names_version") is not False else HEADERS[:3]
        name = source.choice(names)
        values = VERSIONS if name == "x-model-version" else ("true", "a", "7", "9")
        request["headers"] = [{"name": name, "value": source.choice(values)}]
    made["request"] = request
    claim = source.choice(("never", "never", "always", "refused", "admitted", "percent"))
    if claim in ("never", "always"):
        made[claim] = _some(source, VERSIONS) or ["v2"]
    elif claim == "percent":
        made["max_canary_percent"] = source.choice((0, 1, 5, 30, 50, 99))
    else:
        made[claim] = True
    return made


def _callers(source: random.Random) -> dict[str, object]:
    if source.random() < 0.2:
        return {"anonymous": source.random() < 0.5}
    anonymous = {"anonymous": False} if source.random() < 0.2 else {}
    return {**_rule(source), **anonymous}


@dataclass(frozen=True, slots=True)
class Sent:
    """A request of a client. `credentials` are its headers with a token or an API key."""

    method: str
    path: str
    headers: Mapping[str, str]
    has_body: bool
    credentials: Mapping[str, str]

    def request(self) -> Request:
        """The request as the decision reads it."""
        headers = {":method": self.method, ":path": self.path, **self.headers, **self.credentials}
        return Request(
            {name: value.encode() for name, value in headers.items()}, self.has_body, NOW
        )


def sent(source: random.Random, config: GatewayConfig) -> Sent:
    """A random request, which often is one that the assertion is about and that a model serves."""
    asserted = config.assertions[0]
    name = source.choice(asserted.models or tuple(config.models))
    model, about = config.models[name], asserted.request
    own = f"/v2/models/{name}"
    version = source.choice(VERSIONS)
    begin = source.choice((own, own, f"{own}/versions/{version}"))
    paths = [begin, f"{begin}/infer", f"{begin}/{source.choice(('stats', 'ready', 'generate'))}"]
    paths += [*model.paths, *(f"{path}/r" for path in model.paths), GRPC_PATH]
    if about.paths and source.random() < 0.7:
        paths = [path + source.choice(("", "", "/r", "/q")) for path in about.paths]
    path = source.choice(paths)
    headers = {match.name: match.value for match in about.headers if source.random() < 0.9}
    if source.random() < 0.2:
        headers["x-model-version"] = source.choice(VERSIONS)
    if source.random() < 0.3:
        headers.setdefault("x-canary", source.choice(("true", "a", "7")))
    if source.random() < 0.3:
        user = source.choice(("true", "a", "7", *map(str, range(40))))
        headers.setdefault("x-user", user)
    if source.random() < 0.3:
        headers.setdefault("x-model-type", source.choice(("a", "b", "true")))
    if path == GRPC_PATH:
        headers["x-model-name"] = name
    method = source.choice((*(about.methods or model.methods), "GET"))
    has_body = method in ("POST", "PUT") and source.random() < 0.8
    if has_body and source.random() < 0.9:
        accepted = (kind.replace("*", "json") for kind in model.content_types)
        headers["content-type"] = source.choice((*accepted, "application/x-protobuf"))
    if method == "GET" and source.random() < 0.2:
        headers |= {"upgrade": "websocket", "connection": "upgrade"}
    return Sent(method, path, headers, has_body, _credentials(source, config))


def _credentials(source: random.Random, config: GatewayConfig) -> dict[str, str]:
    kind = source.random()
    if kind < 0.2 or (kind < 0.4 and not config.auth.api_keys):
        return {}
    if kind < 0.4 or not config.auth.issuers:
        return {"x-api-key": KEY.format(source.choice(("a", "b", "k1", "k2", "k3")))}
    issuer = source.choice(config.auth.issuers)
    claims: dict[str, object] = {}
    for name in CLAIMS:
        if source.random() < 0.4:
            claims[name] = source.choice(("a", "b", "ab", ["a", "b"], ["ab"], "", {"y": "a"}))
    claims[issuer.subject_claim] = source.choice(("a", "b", "u", "k1", str(source.randint(0, 200))))
    claims["iss"] = issuer.issuer
    claims["aud"] = [issuer.audiences[0], *_some(source, ("a", "b", "ab"))]
    return token(claims)


def token(claims: Mapping[str, object]) -> dict[str, str]:
    """The header with a valid token of an issuer of `config`."""
    text = signed({"exp": NOW + 60, **claims}, SECRET, algorithm="HS256")
    return {"authorization": f"Bearer {text}"}


def breaks(
    asserted: Assertion, config: GatewayConfig, sent: Sent, identity: Identity, decision: Decision
) -> bool:
    """Whether the decision shows that the assertion is not true."""
    if not _is_meant(asserted, sent, identity):
        return False
    if asserted.admitted:
        is_refused = not isinstance(decision, Admission) and decision.stage == "authorize"
        is_about = is_refused and _model_of(config, sent) in (asserted.models or config.models)
        return is_about and _is_served(config, sent)
    if not isinstance(decision, Admission):
        return False
    target = decision.target
    if asserted.models and target.model not in asserted.models:
        return False
    if asserted.max_canary_percent is not None:
        return _is_beyond(asserted.max_canary_percent, config, sent, decision)
    if asserted.never is not None:
        return target.version in asserted.never
    return asserted.always is None or target.version not in asserted.always


def _is_served(config: GatewayConfig, sent: Sent) -> bool:
    """Whether a version can serve the request, if it is chosen and everyone may use the model."""
    for version in VERSIONS:
        models = {
            name: model.model_copy(
                update={
                    "access": Access(public=True), "claim_rules": (), "canaries": (),
                    "stable": version if version in model.versions else model.stable_version,
                }
            )
            for name, model in config.models.items()
        }  # fmt: skip
        changed = config.model_copy(update={"models": models})
        policy = compile_policy(policy_document(changed, Path()))
        if isinstance(decide(policy, sent.request()), Admission):
            return True
    return False


def _model_of(config: GatewayConfig, sent: Sent) -> str:
    if sent.path.startswith("/inference"):
        return sent.headers["x-model-name"]
    prefixes = [(p, n) for n, m in config.models.items() for p in m.prefixes(n)]
    return max((len(p), n) for p, n in prefixes if f"{sent.path}/".startswith(f"{p}/"))[1]


def _is_beyond(maximum: float, config: GatewayConfig, sent: Sent, decision: Admission) -> bool:
    if decision.reason is not Reason.CANARY_BUCKET:
        return False
    bucket = config.models[decision.target.model].bucket
    identifier = decision.subject if bucket.header is None else sent.headers[bucket.header]
    number = bucket_of(identifier.encode(), bucket.hash)
    assert number is not None
    return number >= maximum * BUCKETS[bucket.hash] / 100


def _is_meant(asserted: Assertion, sent: Sent, identity: Identity) -> bool:
    request = asserted.request
    if request.methods and sent.method not in request.methods:
        return False
    if request.paths and not any(f"{sent.path}/".startswith(f"{p}/") for p in request.paths):
        return False
    if any(sent.headers.get(match.name) != match.value for match in request.headers):
        return False
    names = "x-model-version" in sent.headers or (
        sent.path.startswith("/v2/models/") and sent.path.split("/")[4:5] == ["versions"]
        and len(sent.path.split("/")) > 5
    )  # fmt: skip
    if request.names_version is not None and request.names_version != names:
        return False
    if asserted.caller is not None and not _is(asserted.caller, identity):
        return False
    return asserted.unless is None or not _is(asserted.unless, identity)


def _is(callers: AssertedCallers, identity: Identity) -> bool:
    if callers.anonymous is not None and callers.anonymous != identity.anonymous:
        return False
    if identity.anonymous:
        return callers.anonymous is True
    in_group = not callers.groups or not identity.groups.isdisjoint(callers.groups)
    is_subject = not callers.subjects or identity.subject in callers.subjects
    has_claims = all(value in identity.claim_values(n) for n, value in callers.claims.items())
    return in_group and is_subject and has_claims


def shown(request: AssertedRequest, caller: Caller) -> Sent:
    """The request and the caller of an error, with valid credentials."""
    credentials = {}
    if caller.key:
        credentials = {"x-api-key": KEY.format(caller.key)}
    elif not caller.anonymous:
        credentials = token(caller.claims)
    has_body = "content-type" in request.headers
    return Sent(request.method, request.path, request.headers, has_body, credentials)
