"""Models, their versions and endpoints, and the rules that select a version."""

import hashlib
from collections.abc import Iterable
from functools import cached_property
from itertools import chain, pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from sluice.config.auth import Claim, ClaimValue
from sluice.config.breaker import BreakerConfig
from sluice.config.canary_steps import MAX_STEPS, CanaryCriteria, CanaryStep
from sluice.config.cors import Cors
from sluice.config.endpoints import MAX_ENDPOINTS, Endpoint, EndpointsFrom
from sluice.config.enumeration import enumerated
from sluice.config.errors import KeyPath
from sluice.config.invalid import check_distinct, invalid
from sluice.config.mirror import Mirror
from sluice.config.pattern import Pattern
from sluice.config.tensors import TensorInput, TensorOutput
from sluice.config.upstream import MAX_SECRET_HEADERS, SecretHeaders, UpstreamTls, common_host
from sluice.config.values import (
    MAX_UINT32,
    Duration,
    HeaderName,
    Method,
    Name,
    PathPrefix,
    Percent,
    Placement,
    PositiveDuration,
    Size,
    Strict,
    Subpath,
    Text,
)
from sluice.config.video_model import ModelVideo
from sluice.contract.paths import OIP_PREFIX

GrpcMethod = Literal["ModelConfig", "ModelStatistics"]
MediaRange = Annotated[
    str,
    Pattern(
        r"[A-Za-z0-9.+-]+/(?:[A-Za-z0-9.+-]+|\*)|\*/\*",
        "write a media type such as application/json, a range such as image/*, or */*; without "
        "parameters",
    ),
    AfterValidator(str.lower),
]

DIGEST_LENGTH = 16
"""Bytes: two models do not have the same digest by chance."""

_RULES: Final = (
    "stable", "extra_paths", "methods", "content_types", "websocket", "access", "claim_rules",
    "canaries", "bucket",
)  # fmt: skip
"""Keys of a model that are compared with requests and callers."""

MAX_NAMED = 8
"""Versions that an error names."""

MAX_TCP_KEEPIDLE = 32_767
"""Seconds: the maximum of TCP_KEEPIDLE in Linux (tcp(7)). A connection with more fails."""


class HealthCheck(Strict):
    """Active health check of every endpoint by Envoy (config.core.v3.HealthCheck).

    Envoy sends `GET` to `path` of `http` versions, and calls grpc.health.v1.Health/Check of `grpc`
    versions.
    """

    path: Annotated[
        str,
        Field(max_length=1024),
        Pattern(r"/[!-~]*", "write a path such as /health: it begins with a slash, without blanks"),
    ] = "/v2/health/ready"
    interval: PositiveDuration = 5.0
    timeout: PositiveDuration = 1.0
    healthy_threshold: int = Field(
        1,
        ge=1,
        le=MAX_UINT32,
        description="Consecutive successes after which an endpoint is healthy.",
    )
    unhealthy_threshold: int = Field(
        3,
        ge=1,
        le=MAX_UINT32,
        description="Consecutive failures after which an endpoint is unhealthy.",
    )


class Version(Strict):
    """A deployed version of a model."""

    endpoints: tuple[Endpoint, ...] = Field(
        (), max_length=MAX_ENDPOINTS, description="Set either this or `endpoints_from`."
    )
    endpoints_from: EndpointsFrom | None = Field(
        None, description="Something else names the endpoints."
    )
    protocol: Literal["http", "grpc"] = Field(
        "http", description="Protocol of the endpoints: REST over HTTP/1.1, or gRPC."
    )
    health_check: HealthCheck | None = None
    tls: UpstreamTls | None = Field(None, description="Encrypts the connections to the endpoints.")
    headers_from_secret: SecretHeaders = Field(
        default_factory=dict,
        max_length=MAX_SECRET_HEADERS,
        description="Headers with credentials for the endpoints, by name, such as `authorization`. "
        "They replace headers of clients. Health checks do not have them.",
    )

    @property
    def server_name(self) -> str | None:
        """The name that the certificates of the endpoints must have; None if any is accepted."""
        if self.tls is None or self.tls.allow_any_server:
            return None
        return self.tls.server_name or common_host(each.address for _, each in self.named())

    def named(self) -> list[tuple[KeyPath, Endpoint]]:
        """The endpoints, with the key of the host of each.

        Without those that a source finds, unless they were added (`xds.sources.endpoints`).
        """
        if self.endpoints_from is not None and self.endpoints_from.dns is not None:
            return [(("endpoints_from", "dns", "name"), self.endpoints_from.dns.endpoint)]
        return [(("endpoints", n, "address"), each) for n, each in enumerate(self.endpoints)]

    @property
    def refers(self) -> bool:
        """Whether the version names what is not in the config: secrets, CAs, or a source of its
        endpoints. Few versions do."""
        return (
            self.tls is not None
            or bool(self.headers_from_secret)
            or self.endpoints_from is not None
        )

    @property
    def needs_secrets(self) -> bool:
        """Whether Envoy gets a private key or a header with a secret for the version."""
        with_key = self.tls is not None and self.tls.private_key is not None
        return with_key or bool(self.headers_from_secret)

    @model_validator(mode="after")
    def _one_origin_of_endpoints(self) -> Self:
        if self.endpoints_from is None and not self.endpoints:
            raise invalid("write at least one endpoint, or set endpoints_from", ("endpoints",))
        if self.endpoints_from is not None and self.endpoints:
            message = "remove endpoints or endpoints_from: a version has only one of both"
            raise invalid(message, ("endpoints_from",))
        return self

    @model_validator(mode="after")
    def _server_is_known(self) -> Self:
        if self.tls is not None and not self.tls.allow_any_server and self.server_name is None:
            message = "the endpoints have no common host: write the name in their certificates"
            raise invalid(message, ("tls", "server_name"))
        return self

    @model_validator(mode="after")
    def _distinct_endpoints(self) -> Self:
        check_distinct(
            ((path, each.address) for path, each in self.named()),
            "two endpoints have the address {value}; set weight instead",
        )
        return self


class ClaimRule(Strict):
    """Selects a version by a claim of the caller. The first rule that matches applies."""

    claim: Claim = Field(
        "group",
        description="`group` is the caller's groups and the claim `group`. Dots separate the names "
        "of nested claims.",
    )
    match: Literal["exact", "prefix"] = Field("exact", description="How the value is compared.")
    value: ClaimValue
    version: Name


class HeaderMatch(Strict):
    """A condition: the request header has exactly this value."""

    name: HeaderName
    value: Text


BUCKETS: Final = {"xxh64": 10_000, "modulo": 100}
"""Number of buckets by `bucket.hash`: a bucket is 0.01 % or 1 % of the users."""


class Canary(Strict):
    """A version that gets a part of the requests instead of `stable`.

    Requests for which the client or a claim rule selects a version are not affected.

    The rules are tried in this order: `headers`, `percent`, `model_types`.
    """

    version: Name
    percent: Percent = Field(
        0.0, description="Percentage of users. A user gets the same version for every request."
    )
    headers: tuple[HeaderMatch, ...] = Field(
        (HeaderMatch(name="x-canary", value="true"),),
        description="Headers that select the canary. One matching header is enough.",
    )
    model_types: tuple[str, ...] = Field(
        (), description="Values of the request header `X-Model-Type` that select the canary."
    )
    steps: tuple[CanaryStep, ...] = Field(
        (),
        max_length=MAX_STEPS,
        description="The control plane raises `percent` from step to step by itself, and promotes "
        "the canary after the last one. Needs `sluice control-plane --store`. Without steps, only "
        "operators change `percent`.",
    )
    criteria: CanaryCriteria = CanaryCriteria()
    on_failure: Literal["abort", "hold"] = Field(
        "abort",
        description="What happens when a step fails. `abort`: the canary is removed. `hold`: it "
        "keeps its percentage, and an operator decides.",
    )

    @property
    def max_percent(self) -> float:
        """The largest percentage of users that may get the version."""
        return max(self.percent, *(step.percent for step in self.steps), 0.0)

    @model_validator(mode="after")
    def _steps_are_consistent(self) -> Self:
        if not self.steps:
            # A policy has every key, also those with their defaults.
            defaults = {"criteria": CanaryCriteria(), "on_failure": "abort"}
            for key, default in defaults.items():
                if getattr(self, key) != default:
                    raise invalid("this key is for steps: write steps, or remove it", (key,))
            return self
        for n, (before, step) in enumerate(pairwise(self.steps), 1):
            if step.percent <= before.percent:
                message = f"write more than {before.percent:g}, the percentage of the step before"
                raise invalid(message, ("steps", n, "percent"))
        first = self.steps[0].percent
        if first == 0 and not self.criteria.mirrors:
            message = "no user gets the canary in this step: write more than 0, or a criterion for "
            raise invalid(message + "copies (criteria.min_agreement)", ("steps", 0, "percent"))
        if self.criteria.mirrors and first == 100:
            message = "copies are those of requests to the stable version: write less than 100, so "
            raise invalid(message + "that there are some", ("steps", 0, "percent"))
        if self.criteria.compares and first == 100:
            message = "the criteria compare with the stable version: write less than 100, so that "
            raise invalid(message + "it gets requests in the first step", ("steps", 0, "percent"))
        return self

    def buckets(self, hash_name: str) -> int:
        """The number of buckets of users that get the version, with this `bucket.hash`."""
        return round(self.percent * BUCKETS[hash_name] / 100)


class UserBucket(Strict):
    """Assignment of users to buckets, for `percent` of canaries.

    `xxh64`: xxh64(id, seed 0) mod 10,000, like Envoy's WeightedCluster with a header hash_policy.
    `modulo`: id mod 100. An id that does not consist of digits has no bucket.
    """

    hash: Literal["xxh64", "modulo"] = "xxh64"
    header: HeaderName | None = Field(
        None, description="Request header with the id of the user. Default: the verified subject."
    )


class AllowRule(Strict):
    """Admits a caller that meets every condition of the rule."""

    groups: tuple[ClaimValue, ...] = Field((), description="The caller is in one of these groups.")
    subjects: tuple[str, ...] = Field((), description="The caller is one of these subjects.")
    claims: dict[Claim, ClaimValue] = Field(
        default_factory=dict,
        description="The caller has all of these claims. Dots separate the names of nested claims, "
        "such as `realm_access.roles`.",
    )

    @model_validator(mode="after")
    def _some_condition(self) -> Self:
        if not (self.groups or self.subjects or self.claims):
            raise ValueError("an allow rule needs groups, subjects or claims")
        return self


class Access(Strict):
    """Callers that may use a model. Default: every authenticated caller."""

    public: bool = Field(False, description="Admit all callers, also without credentials.")
    allow: tuple[AllowRule, ...] = Field(
        (), description="A caller is admitted if at least one of these rules matches."
    )

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if self.public and self.allow:
            message = "a public model admits every caller: remove allow, or set public: false"
            raise invalid(message, ("allow",))
        return self


class Retries(Strict):
    """Retries by Envoy, on another endpoint if the version has several.

    By default, Envoy repeats a request only if the server cannot have begun it. `reset` also
    repeats a request that was sent and got no response, so that a model may run twice for it.
    """

    attempts: int = Field(1, ge=0, le=10, description="Maximum number of retries.")
    retry_on: tuple[
        Literal["connect-failure", "refused-stream", "reset-before-request", "reset", "5xx",
                "gateway-error", "retriable-4xx", "unavailable", "resource-exhausted"], ...
    ] = ("connect-failure", "refused-stream", "reset-before-request")  # fmt: skip
    reads: bool = Field(
        True,
        description="Whether `GET` and `HEAD` are also repeated if the connection ends without a "
        "response (`reset`), for example because the server closes an idle connection at this "
        "moment.",
    )
    per_try_timeout: PositiveDuration | None = Field(None, description="Timeout of an attempt.")


class Pool(Strict):
    """Envoy's connection pool for a version (circuit breaker thresholds, protocol options)."""

    connect_timeout: PositiveDuration = 1.0
    max_connections: int = Field(1024, ge=1, le=MAX_UINT32)
    max_pending_requests: int = Field(
        1024, ge=1, le=MAX_UINT32, description="Requests that wait for a connection."
    )
    max_requests: int = Field(1024, ge=1, le=MAX_UINT32, description="Concurrent requests.")
    max_retries: int = Field(16, ge=0, le=MAX_UINT32, description="Concurrent retries.")
    max_requests_per_connection: int = Field(0, ge=0, le=MAX_UINT32, description="0: no limit.")
    idle_timeout: PositiveDuration | None = Field(
        None,
        description="Time after which an unused connection is closed. It must be shorter than the "
        "keep-alive timeout of the servers: a server that closes a connection at the moment of a "
        "request fails this request. Default: 1.5 s for `http` (gunicorn closes after 2 s, uvicorn "
        "and Node.js after 5 s), 60 s for `grpc`.",
    )
    tcp_keepalive: PositiveDuration | None = Field(
        60.0,
        le=MAX_TCP_KEEPIDLE,
        description="Idle time after which TCP probes a connection. null: never.",
    )


_CACHED: Final = ("serialized", "digest", "rules", "ports", "referring")
"""Properties of a model that are computed once."""


class Model(Strict):
    """A model: its paths, its versions and endpoints, and the rules for its requests."""

    type: Text | None = Field(
        None, max_length=256, description="Type such as `text-classification`, for limits and logs."
    )
    versions: dict[Name, Version] = Field(min_length=1, max_length=64)
    stable: Name | None = Field(
        None, description="Default version. Required with more than one version."
    )
    paths: tuple[PathPrefix, ...] = Field(
        (), max_length=32, description="Path prefixes in addition to `/v2/models/NAME`."
    )
    extra_paths: tuple[Subpath, ...] = Field(
        (),
        max_length=32,
        description="Paths below `/v2/models/NAME` that clients may use in addition to those of "
        "the Open Inference Protocol, such as `stats`. `*`: every path, also those that "
        "administer the model.",
    )
    extra_grpc_methods: tuple[GrpcMethod, ...] = Field(
        (), description="gRPC methods in addition to those of the Open Inference Protocol."
    )
    methods: tuple[Method, ...] = Field(("POST",), min_length=1)
    content_types: tuple[MediaRange, ...] = Field(
        ("application/json", "application/octet-stream", "application/grpc"),
        description="Media types of request bodies; ranges such as `image/*` are allowed.",
    )
    max_body: Size | None = Field(None, description="Overrides `requests.max_body`.")
    max_response: Size | None = Field(None, description="Overrides `requests.max_response`.")
    websocket: bool = Field(False, description="Whether clients may upgrade to WebSocket.")
    cors: Cors | None = Field(None, description="Replaces `requests.cors` for this model.")
    access: Access = Access()
    placement: Placement | None = Field(
        None, description="Replaces the global `placement` for this model."
    )
    claim_rules: tuple[ClaimRule, ...] = ()
    canaries: tuple[Canary, ...] = Field((), max_length=16)
    mirror: Mirror | None = Field(None, description="Needs `callout.copies`.")
    bucket: UserBucket = UserBucket()
    timeout: Duration = Field(
        30.0, description="Time for the whole response. 0: no timeout, for long streams."
    )
    idle_timeout: Duration = Field(
        300.0, description="Time without data after which Envoy ends a stream. 0: never."
    )
    retries: Retries = Retries()
    pool: Pool = Pool()
    breaker: BreakerConfig = BreakerConfig()
    inputs: tuple[TensorInput, ...] = Field(
        (),
        max_length=64,
        description="Inputs of the model. Requests are checked against these, and converted.",
    )
    outputs: tuple[TensorOutput, ...] = Field(
        (), max_length=64, description="Outputs of the model that have labels."
    )

    video: ModelVideo | None = Field(
        None, description="Video for this model. Needs `video` of the gateway. Default: none."
    )

    def prefixes(self, name: str) -> tuple[str, ...]:
        """The path prefixes of the model, which has this name."""
        return (OIP_PREFIX + name, *self.paths)

    @cached_property
    def serialized(self) -> bytes:
        """The model as JSON. Most edits change one model of many, so it is kept."""
        return self.model_dump_json().encode()

    @cached_property
    def digest(self) -> bytes:
        """A hash of `serialized`: the version of the model."""
        return hashlib.sha256(self.serialized).digest()[:DIGEST_LENGTH]

    @cached_property
    def rules(self) -> bytes:
        """What decides which requests reach which version, as JSON: equal for models that are
        alike, except in their paths."""
        kept = self.model_dump_json(
            include={"versions": {"__all__": {"protocol"}}, **dict.fromkeys(_RULES, True)}
        )
        return f"{kept}{bool(self.inputs or self.outputs)}".encode()

    @cached_property
    def ports(self) -> frozenset[str]:
        """The ports of the endpoints of all versions."""
        named = chain.from_iterable(each.named() for each in self.versions.values())
        return frozenset(each.address.rpartition(":")[2] for _, each in named)

    @cached_property
    def referring(self) -> tuple[tuple[str, "Version"], ...]:
        """The versions with a reference (`Version.refers`), and their names."""
        return tuple((name, each) for name, each in self.versions.items() if each.refers)

    def __copy__(self) -> Self:
        copied = super().__copy__()
        for name in _CACHED:  # `model_copy` may change the copy
            copied.__dict__.pop(name, None)
        return copied

    @property
    def converts(self) -> bool:
        """Whether request bodies may need a conversion."""
        declared = bool(self.inputs or self.outputs)
        return declared or any(version.protocol == "grpc" for version in self.versions.values())

    @property
    def stable_version(self) -> str:
        """The version of requests for which no rule selects another version."""
        return self.stable if self.stable is not None else next(iter(self.versions))

    @model_validator(mode="after")
    def _versions_exist(self) -> Self:
        if self.stable is None and len(self.versions) > 1:
            raise ValueError(f"set stable to the default version, {_one_of(self.versions)}")
        named: list[tuple[KeyPath, str]] = [(("stable",), self.stable_version)]
        named += [
            (("claim_rules", n, "version"), r.version) for n, r in enumerate(self.claim_rules)
        ]
        named += [(("canaries", n, "version"), c.version) for n, c in enumerate(self.canaries)]
        if self.mirror is not None:
            named.append((("mirror", "version"), self.mirror.version))
        for at, version in named:
            if version not in self.versions:
                known = _one_of(self.versions)
                raise invalid(f"the model has no version {version!r}; write {known}", at)
        return self

    @model_validator(mode="after")
    def _mirror_is_comparable(self) -> Self:
        if self.mirror is None:
            return self
        at: KeyPath = ("mirror", "version")
        if self.mirror.version == self.stable_version:
            message = f"{self.mirror.version!r} is the stable version: write another version"
            raise invalid(message, at)
        mirrored, own = (self.versions[v] for v in (self.stable_version, self.mirror.version))
        if mirrored.protocol != own.protocol:
            message = (
                f"{self.mirror.version!r} speaks {own.protocol}, and the stable version "
                f"{mirrored.protocol}: a copy has the protocol of the stable version, so write a "
                "version with this protocol"
            )
            raise invalid(message, at)
        return self

    @model_validator(mode="after")
    def _tensors_are_distinct(self) -> Self:
        inputs = ((("inputs", n, "name"), each.name) for n, each in enumerate(self.inputs))
        outputs = ((("outputs", n, "name"), each.name) for n, each in enumerate(self.outputs))
        for tensors in (inputs, outputs):
            check_distinct(tensors, "two tensors have the name {value}")
        return self

    @property
    def video_input(self) -> TensorInput | None:
        """The input that gets the frames of a video; None without `video`."""
        if self.video is None:
            return None
        return next((each for each in self.inputs if self._is_video_input(each)), None)

    def _is_video_input(self, declared: TensorInput) -> bool:
        assert self.video is not None
        if self.video.input is not None:
            return declared.name == self.video.input
        return declared.image is not None or declared.datatype == "BYTES"

    @model_validator(mode="after")
    def _video_has_an_input(self) -> Self:
        if self.video is None:
            return self
        for name, version in self.versions.items():
            if version.protocol != "grpc":
                message = f"frames are sent by gRPC, but version {name} speaks HTTP: write "
                raise invalid(message + "protocol: grpc, or remove video", ("video",))
        found = [each for each in self.inputs if self._is_video_input(each)]
        if len(found) != 1 or (found[0].image is None and found[0].datatype != "BYTES"):
            message = "name the input for frames: one with image, or a BYTES input for JPEG"
            raise invalid(message, ("video", "input"))
        batch = found[0].shape[:1]
        is_image = found[0].image is not None
        if self.video.max_batch > 1 and (batch != (-1,) or (is_image and len(found[0].shape) < 4)):
            message = f"{found[0].name} accepts no batch: write -1 as its first dimension"
            raise invalid(message, ("video", "max_batch"))
        return self

    def _check_mirror_to(self, version: str, at: KeyPath) -> None:
        """Raises ValueError if the version gets no copies of requests."""
        if self.mirror is None or self.mirror.version != version:
            message = f"{version!r} gets no copies: write mirror: {{version: {version}}}"
            raise invalid(f"{message} in the model, or remove min_agreement", at)
        if self.mirror.percent == 0:
            message = f"{version!r} gets no copies: set mirror.percent to more than 0"
            raise invalid(f"{message}, or remove min_agreement", at)

    @model_validator(mode="after")
    def _canaries_are_consistent(self) -> Self:
        named = [(("canaries", n, "version"), each.version) for n, each in enumerate(self.canaries)]
        check_distinct(named, "two canaries have the version {value}")
        for at, version in named:
            if version == self.stable_version:
                raise invalid(f"{version!r} is the stable version, which cannot be a canary", at)
        if sum(canary.max_percent for canary in self.canaries) > 100:
            message = "the percentages of the canaries add up to more than 100: lower one"
            raise invalid(message, ("canaries",))
        for n, canary in enumerate(self.canaries):
            if canary.criteria.mirrors:
                self._check_mirror_to(canary.version, ("canaries", n, "criteria", "min_agreement"))
            percents: list[tuple[KeyPath, float]] = [(("percent",), canary.percent)]
            percents += [(("steps", k, "percent"), s.percent) for k, s in enumerate(canary.steps)]
            for key, percent in percents:
                if self.bucket.hash == "modulo" and percent % 1:
                    message = f"write a whole number, not {percent}, with bucket.hash: modulo"
                    raise invalid(message, ("canaries", n, *key))
        return self


def _if_not_valid(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    return value if isinstance(value, Model) else validate(value)


Models = dict[Name, Annotated[Model, WrapValidator(_if_not_valid)]]
"""Models by name. A `Model` is valid: Pydantic would check its rules again."""


def _one_of(versions: Iterable[str]) -> str:
    return enumerated(list(versions), "or", MAX_NAMED)


def with_last_steps(model: Model) -> Model:
    """The model when each canary has the largest percentage that its steps give it."""
    canaries = [each.model_copy(update={"percent": each.max_percent}) for each in model.canaries]
    return model.model_copy(update={"canaries": tuple(canaries)})
