"""Compiles a policy document into an immutable `Policy`, with names and values as bytes.

A new policy shares the compiled models that have not changed with the policy before.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeVar, cast

from extproc.auth import Authenticator
from extproc.convert import ConversionLimits, Converters, Signature
from extproc.policy.received import ReceivedPolicy
from sluice.config import Model, PolicyDocument, PolicySettings, Version
from sluice.config.breaker import BreakerConfig
from sluice.config.gateway import Requests
from sluice.config.mirror import Mirror
from sluice.config.models import AllowRule, ClaimRule, UserBucket
from sluice.contract.names import cluster_name
from sluice.contract.paths import GRPC_OPERATIONS, OIP_OPERATIONS
from sluice.media_types import IMAGES, MULTIPART, PROTOBUF, media_type_name

Value = TypeVar("Value", bound=Hashable)

MAX_SHARED = 1024
"""Values that compiled models share. Many models differ in few of their settings."""


@dataclass(frozen=True, slots=True)
class Target:
    """A version of a model, as the destination of requests."""

    model: str
    version: str
    cluster: str
    protocol: str
    model_type: str | None = None
    converters: Converters | None = field(default=None, compare=False)
    """None if the version accepts every body unchanged."""


@dataclass(frozen=True, slots=True)
class CompiledCanary:
    """The rules of one canary. `weight` is its number of buckets."""

    target: Target
    weight: int
    headers: tuple[tuple[str, bytes], ...]
    model_types: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class CompiledMirror:
    """The version that gets copies of requests. `outputs`: those whose classes are compared."""

    target: Target
    settings: Mirror
    outputs: frozenset[str]


@dataclass(frozen=True, slots=True)
class ModelPolicy:
    """The rules of one model."""

    name: str
    digest: bytes = field(repr=False)
    """The hash of the model that was compiled."""
    type: str | None
    prefixes: tuple[bytes, ...]
    """Path prefixes: first `/v2/models/NAME`, then `paths`."""
    targets: Mapping[bytes, Target]
    """Targets by version."""
    breaker: BreakerConfig
    stable: Target
    methods: frozenset[bytes]
    allow_header: str
    """`methods` as the value of the header `allow` (RFC 9110 section 10.2.1)."""
    media_types: frozenset[bytes]
    """Media types in their normal form (`sluice.media_types`)."""
    media_type_prefixes: tuple[bytes, ...]
    """Prefixes of the media ranges: `image/` for `image/*`."""
    operations: frozenset[bytes] | None
    """REST operations that clients may use; None for all (see `paths.OIP_OPERATIONS`)."""
    extra_grpc_methods: frozenset[bytes]
    max_body: int
    max_video: int | None
    """Maximum bytes of a video; None if the model takes no videos."""
    websocket: bool
    public: bool
    allow_rules: tuple[AllowRule, ...]
    claim_rules: tuple[tuple[ClaimRule, Target], ...]
    canaries: tuple[CompiledCanary, ...]
    canary_headers: frozenset[str]
    """Headers that select a canary, or that have the id of the user."""
    bucket: UserBucket
    mirror: CompiledMirror | None


@dataclass(frozen=True, slots=True)
class NativeRoutes:
    """The native routes of a model. `clusters` are those of its versions.

    `digest` is that of everything that the routes were compiled from.
    """

    digest: str
    model: str
    clusters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of all models, and the settings that all models share."""

    version: str
    models: Mapping[bytes, ModelPolicy]
    """Models by name."""
    prefixes: Mapping[bytes, tuple[ModelPolicy, bool]]
    """Models by path prefix. The second value is True for `/v2/models/NAME`, False for `paths`."""
    longest_prefix: int
    """Bytes of the longest path prefix."""
    canary_headers: frozenset[str]
    """The `canary_headers` of all models."""
    limits: ConversionLimits
    """The limits of models that have none of their own."""
    authenticator: Authenticator
    expose_reason: bool
    forward_credentials: bool
    max_grpc_headers: int
    api_key_header: str
    message_timeout: float
    """Seconds that Envoy waits for the response to a message."""
    conversion_timeout: float
    """Seconds for the conversion of one body."""
    copies: str | None
    """Unix socket for the copies of mirrored requests."""
    native: Mapping[str, str] = field(default_factory=dict)
    """The digests of native routes by model: of the routes that this policy belongs to."""

    @property
    def breakers(self) -> dict[str, BreakerConfig]:
        """The breaker of each version, by the name of its cluster."""
        return {
            target.cluster: model.breaker
            for model in self.models.values()
            for target in model.targets.values()
        }

    @property
    def native_routes(self) -> tuple[NativeRoutes, ...]:
        """The native routes of each model that has some."""
        models = ((digest, self.models[name.encode()]) for name, digest in self.native.items())
        return tuple(
            NativeRoutes(digest, model.name, tuple(each.cluster for each in model.targets.values()))
            for digest, model in models
        )

    @property
    def versions(self) -> dict[str, frozenset[str]]:
        """The names of the versions of each model."""
        return {
            model.name: frozenset(target.version for target in model.targets.values())
            for model in self.models.values()
        }


def compile_policy(document: PolicyDocument, previous: Policy | None = None) -> Policy:
    """Compile a policy document. Raises ValueError if a key set is not valid.

    If the `auth` section is the same as in `previous`, the new policy uses the authenticator of
    `previous`, with its cache of verified tokens.
    """
    models = (
        _compile_model(name, model, model.digest, document.requests)
        for name, model in document.models.items()
    )
    return _policy(document, models, () if previous is None else (previous,))


def compile_received(
    received: ReceivedPolicy, previous: Policy | None = None, *others: Policy
) -> Policy:
    """As `compile_policy`, but reads and compiles only the models that no other policy has.

    The others are `previous` and `others`. Raises ValueError also if a model is not valid.
    """
    requests = received.settings.requests
    limits = _limits(requests)
    policies = others if previous is None else (previous, *others)
    known = [each.models for each in policies if each.limits == limits]
    models = []
    for name, each in received.models.items():
        compiled = _known(known, name.encode(), each.version)
        models.append(compiled or _compile_model(name, each.model(), each.version, requests))
    native = {name: each.native for name, each in received.models.items() if each.native}
    return replace(_policy(received.settings, models, policies), native=native)


def _known(
    policies: Iterable[Mapping[bytes, ModelPolicy]], name: bytes, digest: bytes
) -> ModelPolicy | None:
    """The model that was compiled for another policy, from the same content."""
    for models in policies:
        compiled = models.get(name)
        if compiled is not None and compiled.digest == digest:
            return compiled
    return None


def _limits(requests: Requests) -> ConversionLimits:
    return ConversionLimits(max_body=requests.max_body, max_response=requests.max_response)


def _policy(
    settings: PolicySettings, compiled: Iterable[ModelPolicy], others: Sequence[Policy]
) -> Policy:
    auth = settings.auth
    known = [each.authenticator for each in others]
    authenticator = next((each for each in known if each.auth == auth), None)
    if authenticator is None:
        authenticator = Authenticator(auth, known[0] if known else None)
    models: dict[bytes, ModelPolicy] = {}
    prefixes: dict[bytes, tuple[ModelPolicy, bool]] = {}
    for model in compiled:
        models[model.name.encode()] = model
        own, *configured = model.prefixes
        prefixes[own] = (model, True)
        prefixes.update((path, (model, False)) for path in configured)
    return Policy(
        version=settings.version,
        models=models,
        prefixes=prefixes,
        longest_prefix=max(map(len, prefixes), default=0),
        canary_headers=frozenset().union(*(model.canary_headers for model in models.values())),
        limits=_limits(settings.requests),
        authenticator=authenticator,
        expose_reason=settings.requests.expose_reason,
        forward_credentials=auth.forward_credentials,
        max_grpc_headers=settings.requests.max_grpc_headers,
        api_key_header=auth.api_key_header,
        message_timeout=settings.message_timeout,
        conversion_timeout=settings.conversion_timeout,
        copies=settings.copies,
    )


def _compile_model(name: str, model: Model, digest: bytes, requests: Requests) -> ModelPolicy:
    limits = ConversionLimits(
        max_body=requests.max_body_of(model), max_response=requests.max_response_of(model)
    )
    targets = {
        version: Target(
            name,
            _shared(version),
            cluster_name(name, version),
            _shared(settings.protocol),
            _shared(model.type),
            _converters(name, model, settings, limits),
        )
        for version, settings in model.versions.items()
    }
    methods = _methods(model)
    accepted = [*map(media_type_name, model.content_types), *_convertible_types(model)]
    return ModelPolicy(
        name=name,
        digest=digest,
        type=_shared(model.type),
        prefixes=tuple(path.encode() for path in model.prefixes(name)),
        targets={_shared(name.encode()): target for name, target in targets.items()},
        breaker=_shared(model.breaker),
        stable=targets[model.stable_version],
        methods=_shared(frozenset(method.encode() for method in methods)),
        allow_header=_shared(", ".join(methods)),
        media_types=_shared(
            frozenset(kind.encode() for kind in accepted if not kind.endswith("*"))
        ),
        media_type_prefixes=tuple(
            kind.removeprefix("*/").removesuffix("*").encode()
            for kind in accepted
            if kind.endswith("*")
        ),
        operations=_shared(_operations(model)),
        extra_grpc_methods=_shared(frozenset(map(str.encode, model.extra_grpc_methods))),
        max_body=limits.max_body,
        max_video=None if model.video is None else model.video.max_bytes,
        websocket=model.websocket,
        public=model.access.public,
        allow_rules=model.access.allow,
        claim_rules=tuple((rule, targets[rule.version]) for rule in model.claim_rules),
        canaries=_compile_canaries(model, targets),
        canary_headers=_shared(frozenset(_canary_headers(model))),
        bucket=_shared(model.bucket),
        mirror=None if model.mirror is None else _compile_mirror(model, model.mirror, targets),
    )


def _converters(
    name: str, model: Model, version: Version, limits: ConversionLimits
) -> Converters | None:
    """The converters of a version; None for a REST version of a model that declares no tensors."""
    if version.protocol == "http" and not model.inputs and not model.outputs:
        return None
    signature = Signature(name, inputs=model.inputs, outputs=model.outputs)
    return Converters(signature, version.protocol, limits)


def _methods(model: Model) -> list[str]:
    """The HTTP methods of a model. If all versions speak gRPC, only POST can be served."""
    return [method for method in model.methods if method == "POST" or not _speaks_grpc(model)]


def _operations(model: Model) -> frozenset[bytes] | None:
    """The REST operations of a model. Some have no meaning in gRPC."""
    if _speaks_grpc(model):
        return frozenset(path.encode() for path in GRPC_OPERATIONS)
    if "*" in model.extra_paths:
        return None
    return frozenset(path.encode() for path in OIP_OPERATIONS.union(model.extra_paths))


def _speaks_grpc(model: Model) -> bool:
    """Whether all versions speak gRPC."""
    return all(version.protocol == "grpc" for version in model.versions.values())


def _convertible_types(model: Model) -> Iterator[str]:
    """Media types that the model accepts in addition to `content_types`, for conversion."""
    if model.converts:
        yield from PROTOBUF
    if any(tensor.image is not None for tensor in model.inputs):
        yield from IMAGES
        yield MULTIPART


def _compile_canaries(model: Model, targets: Mapping[str, Target]) -> tuple[CompiledCanary, ...]:
    return tuple(
        CompiledCanary(
            target=targets[canary.version],
            weight=canary.buckets(model.bucket.hash),
            headers=_shared(tuple((each.name, each.value.encode()) for each in canary.headers)),
            model_types=_shared(frozenset(map(str.encode, canary.model_types))),
        )
        for canary in model.canaries
    )


def _compile_mirror(model: Model, mirror: Mirror, targets: Mapping[str, Target]) -> CompiledMirror:
    labeled = frozenset(each.name for each in model.outputs if each.labels)
    return CompiledMirror(targets[mirror.version], mirror, labeled)


def _canary_headers(model: Model) -> Iterator[str]:
    for canary in model.canaries:
        yield from (match.name for match in canary.headers)
    if model.canaries and model.bucket.header is not None:
        yield model.bucket.header


def _shared(value: Value) -> Value:
    """An equal value that an earlier model has, so that many models take less memory."""
    return cast("Value", _first(value))


@lru_cache(MAX_SHARED, typed=True)
def _first(value: Hashable) -> Hashable:
    return value
