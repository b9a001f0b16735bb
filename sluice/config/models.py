"""Models, their versions and endpoints, and the rules that choose between versions."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from sluice.config.auth import Claim, ClaimValue
from sluice.config.breaker import BreakerConfig
from sluice.config.tensors import TensorInput, TensorOutput, distinct_names
from sluice.config.values import (
    Duration,
    HeaderName,
    HostPort,
    Name,
    PathPrefix,
    Percent,
    PositiveDuration,
    Size,
    Strict,
)

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
MediaRange = Annotated[
    str,
    StringConstraints(pattern=r"^([A-Za-z0-9.+-]+/([A-Za-z0-9.+-]+|\*)|\*/\*)$"),
    AfterValidator(str.lower),
]


class Endpoint(Strict):
    """One address where a version is served."""

    address: HostPort
    weight: int = Field(1, ge=1, le=128)


class HealthCheck(Strict):
    """Active health check of every endpoint by Envoy (config.core.v3.HealthCheck).

    `http` versions are asked by GET `path`, `grpc` versions by grpc.health.v1.Health/Check.
    """

    path: str = Field("/v2/health/ready", pattern=r"^/")
    interval: PositiveDuration = 5.0
    timeout: PositiveDuration = 1.0
    healthy_threshold: int = Field(1, ge=1)
    unhealthy_threshold: int = Field(3, ge=1)


class Version(Strict):
    """One deployed version of a model."""

    endpoints: tuple[Endpoint, ...] = Field(min_length=1)
    protocol: Literal["http", "grpc"] = Field(
        "http", description="What the endpoints speak: HTTP/1.1 REST, or gRPC over HTTP/2."
    )
    health_check: HealthCheck | None = None

    @model_validator(mode="after")
    def _distinct_endpoints(self) -> Self:
        addresses = [endpoint.address for endpoint in self.endpoints]
        if len(set(addresses)) < len(addresses):
            raise ValueError("the same endpoint address is listed twice; use weight instead")
        return self


class ClaimRule(Strict):
    """Routes callers whose claim has a value to a version; the first rule that matches wins."""

    claim: Claim = "group"
    match: Literal["exact", "prefix"] = "exact"
    value: ClaimValue
    version: Name


class HeaderMatch(Strict):
    """A request header with exactly this value."""

    name: HeaderName
    value: str


class Canary(Strict):
    """A version on trial: who reaches it without having asked for a version.

    Rules are tried in the order headers, percent, model_types.
    """

    version: Name
    percent: Percent = Field(0.0, description="Share of users, each always on the same side.")
    headers: tuple[HeaderMatch, ...] = Field(
        (HeaderMatch(name="x-canary", value="true"),), description="Any of these is enough."
    )
    model_types: tuple[str, ...] = Field(
        (), description="Values of the client's `X-Model-Type` header that choose the canary."
    )


class UserBucket(Strict):
    """How a user falls into a bucket.

    `xxh64`: xxh64(id, seed 0) mod 10,000, as Envoy's WeightedCluster with a header hash_policy
    computes it. `modulo`: the integer id mod 100; an id that is no integer has no bucket.
    """

    hash: Literal["xxh64", "modulo"] = "xxh64"
    header: HeaderName | None = Field(
        None, description="Header with the user's id; without it, the verified subject."
    )


class AllowRule(Strict):
    """Admits a caller whom every condition given matches."""

    groups: tuple[ClaimValue, ...] = Field((), description="The caller is in one of these.")
    subjects: tuple[str, ...] = Field((), description="The caller is one of these.")
    claims: dict[Claim, ClaimValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _some_condition(self) -> Self:
        if not (self.groups or self.subjects or self.claims):
            raise ValueError("an allow rule needs groups, subjects or claims")
        return self


class Access(Strict):
    """Who may call a model. Without rules: everyone who is authenticated."""

    public: bool = Field(False, description="Admit callers without credentials too.")
    allow: tuple[AllowRule, ...] = Field((), description="Any rule that matches admits.")

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.public and self.allow:
            raise ValueError("a public model has no allow rules")
        return self


class Retries(Strict):
    """Retries by Envoy, on another endpoint where there is one."""

    attempts: int = Field(1, ge=0, le=10)
    retry_on: tuple[
        Literal["connect-failure", "refused-stream", "reset-before-request", "5xx", "gateway-error",
                "retriable-4xx", "unavailable", "resource-exhausted"], ...
    ] = ("connect-failure", "refused-stream", "reset-before-request")  # fmt: skip
    per_try_timeout: PositiveDuration | None = None


class Pool(Strict):
    """Connections from Envoy to one version (circuit-breaker thresholds, protocol options)."""

    connect_timeout: PositiveDuration = 1.0
    max_connections: int = Field(1024, ge=1)
    max_pending_requests: int = Field(1024, ge=1)
    max_requests: int = Field(1024, ge=1, description="Requests in flight.")
    max_retries: int = Field(16, ge=0, description="Retries in flight.")
    max_requests_per_connection: int = Field(0, ge=0, description="0: no limit.")
    idle_timeout: PositiveDuration = 60.0
    tcp_keepalive: PositiveDuration | None = Field(
        60.0, description="Seconds of silence before TCP probes a connection; null: never."
    )


class Model(Strict):
    """A model: where it is addressed, who may call it, and which version answers."""

    type: str | None = Field(None, description="Such as text-classification; for limits and logs.")
    versions: dict[Name, Version] = Field(min_length=1, max_length=64)
    stable: Name | None = Field(None, description="Default version; needed with more than one.")
    paths: tuple[PathPrefix, ...] = Field(
        (), max_length=32, description="Path prefixes, beside /v2/models/NAME of every model."
    )
    methods: tuple[Method, ...] = Field(("POST",), min_length=1)
    content_types: tuple[MediaRange, ...] = Field(
        ("application/json", "application/octet-stream", "application/grpc"),
        description="Media types a request body may have; `image/*` is a range.",
    )
    max_body: Size | None = Field(None, description="Overrides requests.max_body.")
    websocket: bool = Field(False, description="Whether clients may upgrade to WebSocket.")
    access: Access = Access()
    claim_rules: tuple[ClaimRule, ...] = ()
    canaries: tuple[Canary, ...] = Field((), max_length=16)
    bucket: UserBucket = UserBucket()
    timeout: Duration = Field(
        30.0, description="Until the whole response is received; 0: none, for long streams."
    )
    idle_timeout: Duration = Field(300.0, description="Silence that ends a stream; 0: never.")
    retries: Retries = Retries()
    pool: Pool = Pool()
    breaker: BreakerConfig = BreakerConfig()
    inputs: tuple[TensorInput, ...] = Field(
        (), max_length=64, description="What the model takes: requests are checked and converted."
    )
    outputs: tuple[TensorOutput, ...] = Field(
        (), max_length=64, description="Labels for what the model gives."
    )

    @property
    def converts(self) -> bool:
        """Whether any request's body may have to be converted for the model."""
        declared = bool(self.inputs or self.outputs)
        return declared or any(version.protocol == "grpc" for version in self.versions.values())

    @property
    def stable_version(self) -> str:
        """The version for callers whom no rule sends elsewhere."""
        return self.stable if self.stable is not None else next(iter(self.versions))

    @model_validator(mode="after")
    def _versions_exist(self) -> Self:
        if self.stable is None and len(self.versions) > 1:
            raise ValueError("name the default version in `stable`")
        named = [("stable", self.stable_version)]
        named += [(f"claim_rules.{i}", rule.version) for i, rule in enumerate(self.claim_rules)]
        named += [(f"canaries.{i}", canary.version) for i, canary in enumerate(self.canaries)]
        for where, version in named:
            if version not in self.versions:
                known = ", ".join(self.versions)
                raise ValueError(f"{where} names version {version!r}; there is {known}")
        return self

    @model_validator(mode="after")
    def _tensors_are_distinct(self) -> Self:
        distinct_names(self.inputs)
        distinct_names(self.outputs)
        return self

    @model_validator(mode="after")
    def _canaries_fit(self) -> Self:
        versions = [canary.version for canary in self.canaries]
        if len(set(versions)) < len(versions) or self.stable_version in versions:
            raise ValueError("each canary needs a version of its own, apart from stable")
        if sum(canary.percent for canary in self.canaries) > 100:
            raise ValueError("the canaries' percentages add up to more than 100")
        if self.bucket.hash == "modulo" and any(c.percent % 1 for c in self.canaries):
            raise ValueError("with bucket.hash modulo, percentages are whole numbers")
        return self
