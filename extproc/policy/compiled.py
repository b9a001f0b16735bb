"""The policy in the form that decisions read: names are bytes, and everything is immutable."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from extproc.auth import Authenticator
from extproc.convert import ConversionLimits, Converters, Signature
from extproc.convert.media_types import IMAGES, MULTIPART, PROTOBUF
from sluice.config import Model, PolicyDocument, Version
from sluice.config.models import AllowRule, ClaimRule, UserBucket
from sluice.contract.names import cluster_name
from sluice.contract.paths import OIP_PREFIX

BUCKETS = {"xxh64": 10_000, "modulo": 100}
"""Buckets that users fall into: shares of 0.01 %, or of 1 % by the id modulo 100."""


@dataclass(frozen=True, slots=True)
class Target:
    """A version that requests can be sent to."""

    model: str
    version: str
    cluster: str
    protocol: str
    model_type: str | None = None
    converters: Converters | None = field(default=None, compare=False)
    """None where every body goes on as it is."""


@dataclass(frozen=True, slots=True)
class CompiledCanary:
    """A canary: `weight` is its share of the model's buckets."""

    target: Target
    weight: int
    headers: tuple[tuple[str, bytes], ...]
    model_types: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class ModelPolicy:
    """A model as decisions see it."""

    name: str
    type: str | None
    targets: Mapping[bytes, Target]
    stable: Target
    methods: frozenset[bytes]
    allow: str
    media_types: frozenset[bytes]
    media_ranges: tuple[bytes, ...]
    max_body: int
    websocket: bool
    public: bool
    allow_rules: tuple[AllowRule, ...]
    claim_rules: tuple[tuple[ClaimRule, Target], ...]
    canaries: tuple[CompiledCanary, ...]
    bucket: UserBucket


@dataclass(frozen=True, slots=True)
class Policy:
    """What decisions are made by."""

    version: str
    models: Mapping[bytes, ModelPolicy]
    """By name."""
    prefixes: Mapping[bytes, tuple[ModelPolicy, bool]]
    """By path prefix; with whether it is the one of the Open Inference Protocol."""
    longest_prefix: int
    authenticator: Authenticator
    expose_reason: bool
    forward_credentials: bool
    api_key_header: str


def compile_policy(document: PolicyDocument, previous: Policy | None = None) -> Policy:
    """Make a policy of its document. Raises ValueError for key sets that cannot be read.

    The authenticator of `previous`, with the tokens it has verified, is kept where the `auth`
    section has not changed.
    """
    auth = document.auth
    if previous is not None and previous.authenticator.auth == auth:
        authenticator = previous.authenticator
    else:
        authenticator = Authenticator(auth, None if previous is None else previous.authenticator)
    models: dict[bytes, ModelPolicy] = {}
    prefixes: dict[bytes, tuple[ModelPolicy, bool]] = {}
    for name, model in document.models.items():
        compiled = _model_policy(name, model, document.requests.max_body)
        models[name.encode()] = compiled
        prefixes[f"{OIP_PREFIX}{name}".encode()] = (compiled, True)
        prefixes.update({path.encode(): (compiled, False) for path in model.paths})
    return Policy(
        version=document.version,
        models=models,
        prefixes=prefixes,
        longest_prefix=max(map(len, prefixes), default=0),
        authenticator=authenticator,
        expose_reason=document.requests.expose_reason,
        forward_credentials=auth.forward_credentials,
        api_key_header=auth.api_key_header,
    )


def _model_policy(name: str, model: Model, max_body: int) -> ModelPolicy:
    largest = max_body if model.max_body is None else model.max_body
    targets = {
        version: Target(
            name,
            version,
            cluster_name(name, version),
            served.protocol,
            model.type,
            _converters(name, model, served, largest),
        )
        for version, served in model.versions.items()
    }
    taken = [*model.content_types, *_convertible(model)]
    return ModelPolicy(
        name=name,
        type=model.type,
        targets={version.encode(): target for version, target in targets.items()},
        stable=targets[model.stable_version],
        methods=frozenset(method.encode() for method in model.methods),
        allow=", ".join(model.methods),
        media_types=frozenset(kind.encode() for kind in taken if not kind.endswith("*")),
        media_ranges=tuple(
            kind.removeprefix("*/").removesuffix("*").encode()
            for kind in taken
            if kind.endswith("*")
        ),
        max_body=largest,
        websocket=model.websocket,
        public=model.access.public,
        allow_rules=model.access.allow,
        claim_rules=tuple((rule, targets[rule.version]) for rule in model.claim_rules),
        canaries=_canaries(model, targets),
        bucket=model.bucket,
    )


def _converters(name: str, model: Model, served: Version, max_body: int) -> Converters | None:
    """A REST version that declares no tensors gets every body as it is."""
    if served.protocol == "http" and not model.inputs and not model.outputs:
        return None
    signature = Signature(name, inputs=model.inputs, outputs=model.outputs)
    return Converters(signature, served.protocol, ConversionLimits(max_body=max_body))


def _convertible(model: Model) -> Iterator[str]:
    """Content types that a model takes because they can be converted for it."""
    if model.converts:
        yield from PROTOBUF
    if any(tensor.image is not None for tensor in model.inputs):
        yield from IMAGES
        yield MULTIPART


def _canaries(model: Model, targets: Mapping[str, Target]) -> tuple[CompiledCanary, ...]:
    buckets = BUCKETS[model.bucket.hash]
    return tuple(
        CompiledCanary(
            target=targets[canary.version],
            weight=round(canary.percent * buckets / 100),
            headers=tuple((match.name, match.value.encode()) for match in canary.headers),
            model_types=frozenset(kind.encode() for kind in canary.model_types),
        )
        for canary in model.canaries
    )
