"""Random requests that `decide()` admits, for the models of one config."""

import random
import time
from dataclasses import replace

from extproc.decision import Admission
from extproc.policy.compiled import Policy
from tests.integration.equality import policies
from tests.integration.equality.oracle import Expected, expected
from tests.integration.equality.policies import TestIssuer, World
from tests.integration.equality.request import Request
from tests.integration.equality.tokens import Claims, Credential

CREDENTIALS = 160
"""Signed tokens of one config. Requests share them, because signatures take most of the time."""

LIFETIME = 3600
"""Seconds until tokens expire: longer than the requests of one config take."""

MAX_PROPOSALS = 40
HTTP2_SHARE = 0.2

_BENIGN = (
    (b"user-agent", b"equality/1.0"), (b"accept", b"*/*"), (b"cookie", b"a=b; c=d"),
    (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    (b"x-other", b"1"), (b"accept-encoding", b"gzip"), (b"x-forwarded-host", b"h"),
)  # fmt: skip


class Population:
    """Draws admitted requests. `now` is the time of their tokens, in seconds since the epoch."""

    def __init__(self, world: World, policy: Policy, rng: random.Random) -> None:
        self.world = world
        self._policy = policy
        self.rng = rng
        self.now = int(time.time())
        self._known: dict[Request, Expected] = {}
        self._tokens = [
            Request(b"POST", b"/", ()).with_credential(self.credential())
            for _ in range(CREDENTIALS)
        ]
        self._callers = {name: self._admitted_callers(name) for name in world.models}
        self._usable = [name for name, callers in self._callers.items() if callers]

    def credential(self) -> Credential:
        """A token of a random caller, which is not signed yet."""
        rng = self.rng
        # Tokens of the second issuer are less often native.
        issuer = rng.choice((self.world.issuers[0], *self.world.issuers))
        return random_credential(rng, issuer, self.now)

    def admitted(self) -> Request:
        """A request that `decide()` admits. Raises RuntimeError if it finds none."""
        for _ in range(MAX_PROPOSALS):
            request = self._proposal(self.rng.choice(self._usable))
            answer = self.expected(request)
            if isinstance(answer.decision, Admission):
                self._known[request] = answer
                return request
        raise RuntimeError(f"config {self.world.seed} admits almost no request")

    def expected(self, request: Request) -> Expected:
        """What `decide()` says to a request now. Requests of `admitted` and `keep` are decided
        once."""
        known = self._known.get(request)
        return known or expected(self._policy, request, time.time())

    def keep(self, request: Request) -> Expected:
        """Decide about a request that is sent several times."""
        found = self._known[request] = self.expected(request)
        return found

    def _is_admitted(self, request: Request) -> bool:
        return isinstance(self.expected(request).decision, Admission)

    def _admitted_callers(self, name: str) -> list[Request]:
        """Requests without content, each with the credentials of a caller that may use a model."""
        plain = self._content(name, Request(b"POST", f"/v2/models/{name}/infer".encode(), ()))
        method = self._method(name)
        callers = [
            token
            for token in self._tokens
            for authorization in token.values(b"authorization")
            if self._is_admitted(
                replace(plain.adding((b"authorization", authorization)), method=method)
            )
        ]
        public = self._is_admitted(replace(plain, method=method))
        anonymous = [Request(b"POST", b"/", ())] * (len(callers) // 2 or 1)
        return callers + anonymous if public else callers

    def _proposal(self, name: str) -> Request:
        rng = self.rng
        caller = rng.choice(self._callers[name])
        path = self._path(name)
        if rng.random() < 0.15:
            path += rng.choice((b"?", b"?a=b", b"?x=/v2/models/b/infer", b"?access_token=abc"))
        request = replace(
            caller, method=self._method(name), path=path, http2=rng.random() < HTTP2_SHARE
        )
        request = self._content(name, request)
        if request.method in (b"GET", b"DELETE") and rng.random() < 0.7:
            request = replace(request.with_header(b"content-length", None), body=None)
        headers = list(request.headers)
        headers += rng.sample(_BENIGN, rng.choice((0, 1, 2)))
        headers += self._choice_headers(name)
        rng.shuffle(headers)
        return replace(request, headers=tuple(headers))

    def _method(self, name: str) -> bytes:
        method: str = self.rng.choice(self.world.models[name].get("methods", ["POST"]))
        return method.encode()

    def _path(self, name: str) -> bytes:
        rng, model = self.rng, self.world.models[name]
        own = f"/v2/models/{name}"
        kind = rng.random()
        if kind < 0.65:
            return f"{own}/infer".encode()
        if kind < 0.8:
            return f"{own}/versions/{rng.choice(list(model['versions']))}/infer".encode()
        if kind < 0.95 and model.get("paths"):
            path: str = rng.choice(model["paths"])
            return (path + rng.choice(("", "", "", "/x", "/infer"))).encode()
        return f"{own}/{rng.choice(('infer', 'generate', 'ready', ''))}".encode()

    def _content(self, name: str, request: Request) -> Request:
        """The request with a body that the model accepts, and its media type."""
        rng, model = self.rng, self.world.models[name]
        limit = model.get("max_body", 4096)
        sizes = [limit, *(min(limit, size) for size in (1, 2, 9, 15, 63, 99, rng.randint(0, 4096)))]
        size = 0 if rng.random() < 0.03 else rng.choice(sizes)
        default = ("application/json", "application/octet-stream", "application/grpc")
        kind: str = rng.choice(model.get("content_types", default))
        if kind == "application/grpc" and rng.random() < 0.8:
            kind = "application/json"
        if kind == "text/*":
            kind = rng.choice(("text/plain", "text/csv"))
        if kind == "image/*":
            kind = rng.choice(("image/jpeg", "image/png"))
        if kind == "*/*":
            kind = rng.choice(
                ("application/json", "text/html", "application/x-www-form-urlencoded")
            )
        request = request.with_body(bytes(size).replace(b"\0", b"x"))
        if kind == "application/octet-stream" and rng.random() < 0.1:
            return request
        return request.with_header(b"content-type", kind.encode())

    def _choice_headers(self, name: str) -> list[tuple[bytes, bytes]]:
        """Headers that choose a version or a canary, or say who the user is."""
        rng, model = self.rng, self.world.models[name]
        found = []
        if rng.random() < 0.15:
            version: str = rng.choice(list(model["versions"]))
            found.append((b"x-model-version", version.encode()))
        if rng.random() < 0.15:
            header, value = rng.choice(policies.CANARY_HEADERS)
            found.append((header.encode(), value.encode()))
        if rng.random() < 0.15:
            found.append((b"x-model-type", rng.choice(policies.MODEL_TYPES).encode()))
        bucket = model.get("bucket", {}).get("header")
        if bucket is not None and rng.random() < 0.7:
            found.append((bucket.encode(), rng.choice(user_ids(rng))))
        return list(dict(found).items())


def user_ids(rng: random.Random) -> tuple[bytes, ...]:
    """Values of a header with the id of a user."""
    number = rng.randrange(10**6)
    return (b"%d" % number, b"user-%d" % number, b"a b", b"\xc3\xa9", b"%41", b"u" * 300)


def random_credential(rng: random.Random, issuer: TestIssuer, now: int) -> Credential:
    """A valid token of a random caller."""
    config = issuer.config
    claims: Claims = {
        "iss": issuer.name,
        "aud": rng.choice(
            (
                *config["audiences"][:1] * 4,
                [config["audiences"][0]],
                [*config["audiences"], "other"],
            )
        ),
        "exp": now + LIFETIME + rng.choice((0, 0, 0.5)),
    }
    if rng.random() < 0.7:
        claims["iat"] = now - rng.choice((0, 60))
    if rng.random() < 0.2:
        claims["nbf"] = now - rng.choice((60, 60.5))
    if rng.random() < 0.1:
        claims["jti"] = str(rng.random())
    subject = rng.choice((*policies.SUBJECTS, *(f"user-{rng.randrange(10**6)}" for _ in range(80))))
    set_claim(claims, config["subject_claim"], subject)
    if rng.random() < 0.8:
        groups: object = rng.sample(policies.GROUPS, rng.choice((1, 2, 3)))
        set_claim(claims, config["group_claim"], rng.choice((groups, rng.choice(policies.GROUPS))))
    for name in sorted(set(policies.CLAIMS)):
        if rng.random() < 0.35:
            set_claim(claims, name, random_value(rng))
    return Credential(issuer.key, claims)


def random_value(rng: random.Random) -> object:
    """A value of a claim: text, a list, a number or a boolean."""
    text = rng.choice((*policies.TIERS, *policies.GROUPS))
    values = [text, rng.sample((*policies.TIERS, *policies.GROUPS), 2)]
    return rng.choice((*values * 6, 3, 3.0, True, [3, True], [], "gold silver", {}))


def set_claim(claims: Claims, name: str, value: object) -> None:
    """Set a claim that is not there yet, at the place that the name stands for (`claim_paths`)."""
    if name.startswith("https:") or "." not in name:
        claims.setdefault(name, value)
        return
    outer, _, inner = name.partition(".")
    members = claims.setdefault(outer, {})
    if isinstance(members, dict):
        members.setdefault(inner, value)
