"""Where the requests of each model are decided: in Envoy alone (native), or by the callout.

Envoy admits a request alone only if its filters and matchers can express exactly what the decision
would do. This module says which ways of admission that is true of, and why not of the others. It
builds no resource of Envoy: `xds.resources.native` does, from the same plan.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from sluice.config.auth import JwtIssuer
from sluice.config.claims import SPACE_SEPARATED
from sluice.config.gateway import GatewayConfig
from sluice.config.limits import LimitRule
from sluice.config.models import AllowRule, Canary, ClaimRule, Model
from sluice.config.policy import PolicyDocument
from sluice.contract.headers import INTERNAL_PREFIX, MODEL_SERVICE, MODEL_TYPE
from sluice.contract.reasons import Reason
from sluice.keys.key_set import RSA_ALGORITHMS

MAX_WAYS: Final = 64
"""Maximum ways of admission of a model with native routes. Envoy holds each of them in memory, and
the control plane sends them at each change of a route."""

NATIVE_ALGORITHMS: Final = frozenset((*RSA_ALGORITHMS, "EdDSA"))
"""Algorithms with which Envoy accepts exactly the tokens that the callout accepts.

Not ES*: Envoy accepts a signature that is padded with zeros, against RFC 7518 section 3.4. Not HS*:
Envoy shows its config, and with it the shared secret, on its admin interface.
"""

MIN_LEEWAY: Final = 2
"""Minimum seconds of `leeway` of a native issuer. Envoy admits a token during the whole second in
which it expires, so its own leeway is one second shorter, and it cannot be 0."""

MAX_EXACT: Final = 2**53
"""Up to this number, a double holds every integer exactly."""

BUCKETS: Final = 10_000
"""Buckets of users, for the percentages of canaries."""

_JOINED: Final = ","
"""Envoy joins the values of a repeated header with a comma, and the decision with a comma and a
blank. So a value with a comma is not the same for both."""

_SHARED_HEADERS: Final = ("host", MODEL_SERVICE)
"""Headers that have another name in Envoy's matchers, or that a matcher sees and the decision does
not."""


@dataclass(frozen=True, slots=True)
class ClaimTest:
    """The claim has the value, or one with this prefix. A group is a value of a claim of groups.

    `separated`: the text of the claim is a list of values, separated by spaces.
    """

    claim: str
    value: str
    prefix: bool = False
    separated: bool = False


@dataclass(frozen=True, slots=True)
class GroupTest:
    """The caller is in the group. Each issuer has a claim with the groups of its callers."""

    value: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class SubjectTest:
    """The caller is this subject; with None, the caller has a subject."""

    value: str | None = None


@dataclass(frozen=True, slots=True)
class HeaderTest:
    """The request header has this value. None: it has a value that both sides read alike."""

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class HeaderPresent:
    """The request has the header, with any value."""

    name: str


@dataclass(frozen=True, slots=True)
class All:
    """Every test is met."""

    tests: "tuple[Test, ...]"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one test is met."""

    tests: "tuple[Test, ...]"


Test: TypeAlias = ClaimTest | GroupTest | SubjectTest | HeaderTest | HeaderPresent | All | AnyOf
"""A condition for a way of admission. Each is certain, in both directions, if `Plan.lists` are
excluded."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A version that a request can get, for `reason`. `weight`: its number of buckets."""

    version: str
    reason: Reason
    canary: bool = False
    weight: int = BUCKETS


@dataclass(frozen=True, slots=True)
class Way:
    """One way in which a version is chosen, after those before it.

    `test` is None if the way takes all requests that remain. With one pick, this is the version.
    With several, the hash of the header `bucket` (None: of the subject) picks one. `callout` says
    why the requests of this way are decided by the callout; it is empty if they are native.
    """

    name: str
    test: Test | None
    picks: tuple[Pick, ...]
    bucket: str | None = None
    callout: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the requests of a model are decided.

    `callout` says why all are decided by the callout; it is empty if some are native. `access` is
    the condition for a caller to use the model; None: there is none. `versions` are those that a
    request can name, `chosen` the other ways in order.

    `claims` are the claims that the tests read, with `None` for the claims of groups.
    """

    callout: str
    access: Test | None = None
    public: bool = False
    versions: tuple[Way, ...] = ()
    chosen: tuple[Way, ...] = ()
    claims: tuple[str | None, ...] = ()

    @property
    def native(self) -> bool:
        """Whether Envoy admits some requests alone."""
        return not self.callout

    def why_callout(self, version: str, reason: str) -> str:
        """Why the callout decides about requests that get the version for this reason.

        Empty if Envoy decides, if nothing else about the request prevents it.
        """
        if self.callout:
            return self.callout
        named = reason in (Reason.VERSION_HEADER, Reason.VERSION_PATH)
        for way in self.versions if named else self.chosen:
            for pick in way.picks:
                if pick.version == version and (named or pick.reason == reason):
                    return way.callout
        return "no native way of admission leads to this version"

    @property
    def ways(self) -> tuple[Way, ...]:
        """All ways of admission."""
        return (*self.versions, *self.chosen)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the placement of a model depends on, apart from the model itself."""

    placement: str
    issuers: tuple[str, ...]
    """The issuers whose tokens Envoy verifies for native routes."""
    no_issuers: str
    """Why there are none."""
    rules: tuple[LimitRule, ...]


def surroundings(config: GatewayConfig | PolicyDocument) -> Surroundings:
    """The part of the config that the placement of all models depends on."""
    refused = [(issuer, issuer_obstacle(issuer)) for issuer in config.auth.issuers]
    native = tuple(issuer.issuer for issuer, obstacle in refused if not obstacle)
    why = next((obstacle for _, obstacle in refused), "the config has no issuers of tokens")
    return Surroundings(config.placement, native, "" if native else why, config.limits.rules)


def plans(config: GatewayConfig) -> dict[str, Plan]:
    """The plan of each model, by name."""
    around = surroundings(config)
    return {name: plan(name, model, around) for name, model in config.models.items()}


def without_native_routes(config: GatewayConfig) -> GatewayConfig:
    """The config with `placement: callout` for every model."""
    models = {
        name: model.model_copy(update={"placement": None}) if model.placement else model
        for name, model in config.models.items()
    }
    return config.model_copy(update={"placement": "callout", "models": models})


def issuer_obstacle(issuer: JwtIssuer) -> str:
    """Why Envoy cannot verify the issuer's tokens as the callout does; empty if it can."""
    if NATIVE_ALGORITHMS.isdisjoint(issuer.algorithms):
        return f"algorithms: Envoy verifies {', '.join(sorted(NATIVE_ALGORITHMS))}"
    if issuer.leeway < MIN_LEEWAY:
        return f"leeway: Envoy needs at least {MIN_LEEWAY} seconds"
    if issuer.subject_claim != "sub":
        return "subject_claim: only sub is certain to be text in Envoy"
    if not _is_plain_name(issuer.group_claim):
        return "group_claim: Envoy reads a name with dots or a slash in another way"
    if not any(map(is_plain, issuer.audiences)):
        return "audiences: Envoy cannot compare these values exactly"
    return ""


def plan(name: str, model: Model, around: Surroundings) -> Plan:
    """The plan of one model."""
    obstacle = _obstacle(name, model, around)
    if obstacle:
        return Plan(obstacle)
    access = None if model.access.public or not model.access.allow else _access(model.access.allow)
    if access is not None and not access.tests:
        return Plan("access.allow: Envoy cannot compare these values exactly")
    versions = tuple(_named(version, model) for version in model.versions)
    chosen = tuple(_until_unknown(_chosen(model)))
    if len(versions) + len(chosen) > MAX_WAYS:
        return Plan(f"it has more than {MAX_WAYS} ways of admission")
    if not any(not way.callout for way in (*versions, *chosen)):
        return Plan(next(way.callout for way in (*versions, *chosen)))
    tests = [way.test for way in chosen if way.test is not None]
    read = dict.fromkeys(_claims((*tests, *(() if access is None else (access,)))))
    return Plan("", access, model.access.public, versions, chosen, tuple(read))


def is_plain(value: str) -> bool:
    """Whether Envoy's header of a claim has this text exactly if the claim has this value.

    Envoy writes numbers in another form than the decision, except for integers from 0 that a double
    holds. It writes lists and objects as the base64 of their JSON. A header must be printable.
    """
    if not value or not value.isprintable():
        return False
    if value.isascii() and value.isdigit():
        return (value == "0" or value[0] != "0") and int(value) < MAX_EXACT
    try:
        float(value)
    except ValueError:
        return not looks_like_base64(value)
    return False


def looks_like_base64(value: str) -> bool:
    """Whether text may be the base64 of a list or an object in JSON: of `[` or `{` and ASCII."""
    return value[:1] in ("W", "e") and value[1:2] in SECOND_OF_LIST


SECOND_OF_LIST: Final = "wxyz0123456789+/"
"""Characters of base64 that can follow that of `[` or `{`: the last two bits of both are set."""


def is_item(value: str, *, prefix: bool = False) -> bool:
    """Whether an item of a list has this text exactly if the JSON of the list has it in quotes.

    Envoy's JSON has escapes for some characters. Numbers and booleans have no quotes.
    """
    if not (0 < len(value) <= MAX_ITEM and value.isascii() and value.isprintable()):
        return False
    if not _ESCAPED.isdisjoint(value) or value.isdigit() or value[0] in ",]":
        return False
    words = ("true", "false")
    return not any(word.startswith(value) if prefix else word == value for word in words)


MAX_ITEM: Final = 40
"""Characters of an item of a list that Envoy matches: regular expressions of Envoy are short."""

_ESCAPED: Final = frozenset('"\\<>&')


def _is_plain_prefix(value: str) -> bool:
    """Whether a value with this prefix can only be text that Envoy's header has exactly."""
    first = value[:1]
    return bool(value) and value.isprintable() and first not in "-0123456789We"


def is_header_safe(subject: str) -> bool:
    """Whether the subject is its own header value: printable ASCII, no percent sign, no margin."""
    printable = subject.isascii() and subject.isprintable()
    return bool(subject) and printable and "%" not in subject and subject == subject.strip()


def _is_plain_name(claim: str) -> bool:
    """Whether the name stands for one member of the token. Envoy splits names at dots."""
    return "." not in claim and not claim.startswith("/")


def _obstacle(name: str, model: Model, around: Surroundings) -> str:
    placement = around.placement if model.placement is None else model.placement
    if placement == "callout":
        return "placement: callout"
    applied = next((rule for rule in around.rules if _may_apply(rule, name)), None)
    if applied is not None:
        return f"limits.rules: {applied.name} may apply, and the callout enforces it"
    if not any(method not in ("GET", "HEAD") for method in model.methods):
        return "methods: the callout decides GET and HEAD"
    if not around.issuers and not model.access.public:
        return around.no_issuers
    return ""


def _may_apply(rule: LimitRule, model: str) -> bool:
    """Whether the fleet-wide rule may apply to requests of the model."""
    for match in rule.match:
        if match.part == "model":
            exact = match.match == "exact"
            if not any(model == v if exact else model.startswith(v) for v in match.values):
                return False
    return True


def _access(rules: tuple[AllowRule, ...]) -> AnyOf:
    """The rules that Envoy can express. A caller that meets only another is left to the callout."""
    return AnyOf(tuple(test for rule in rules for test in _allowed(rule)))


def _allowed(rule: AllowRule) -> Iterator[Test]:
    parts: list[Test] = []
    if rule.groups:
        parts.append(AnyOf(tuple(GroupTest(group) for group in rule.groups if is_plain(group))))
    if rule.subjects:
        parts.append(AnyOf(tuple(SubjectTest(s) for s in rule.subjects if is_header_safe(s))))
    for claim, value in rule.claims.items():
        test = _claim_test(claim, value, prefix=False)
        parts.append(AnyOf(() if test is None else (test,)))
    if all(part.tests for part in parts if isinstance(part, AnyOf)):
        yield All(tuple(parts))


def _claim_test(claim: str, value: str, *, prefix: bool) -> ClaimTest | None:
    """The test of a claim; None if Envoy cannot express it."""
    separated = (claim,) in SPACE_SEPARATED
    if not _is_plain_name(claim) or (separated and " " in value):
        return None
    plain = _is_plain_prefix(value) if prefix else is_plain(value)
    return ClaimTest(claim, value, prefix, separated) if plain else None


def _named(version: str, model: Model) -> Way:
    picks = (Pick(version, Reason.VERSION_HEADER),)
    return Way(f"version {version}", None, picks, callout=_conversion(picks, model))


def _chosen(model: Model) -> Iterator[Way]:
    """The ways in the order of the decision: claim rules, canaries, the stable version."""
    for index, rule in enumerate(model.claim_rules):
        yield from _claim_rule(f"claim_rules.{index}", rule, model)
    for index, canary in enumerate(model.canaries):
        yield from _canary_headers(f"canaries.{index}.headers", canary, model)
    yield from _buckets(model)
    yield from _model_types(model)
    yield _way("stable", None, (_stable(model),), model)


def _until_unknown(ways: Iterator[Way]) -> Iterator[Way]:
    """The ways up to the first one that takes all requests that remain."""
    for way in ways:
        yield way
        if way.test is None:
            return


def _stable(model: Model, weight: int = BUCKETS) -> Pick:
    return Pick(model.stable_version, Reason.STABLE, weight=weight)


def _way(
    name: str, test: Test | None, picks: tuple[Pick, ...], model: Model, bucket: str | None = None
) -> Way:
    return Way(name, test, picks, bucket, _conversion(picks, model))


def _conversion(picks: tuple[Pick, ...], model: Model) -> str:
    """Why the callout must convert requests for one of the versions; empty if it must not."""
    if model.inputs or model.outputs:
        return "inputs, outputs: the callout converts the requests"
    for pick in picks:
        if model.versions[pick.version].protocol == "grpc":
            return (
                f"version {pick.version} speaks gRPC: the callout converts or checks the requests"
            )
    return ""


def _claim_rule(name: str, rule: ClaimRule, model: Model) -> Iterator[Way]:
    picks = (Pick(rule.version, Reason.CLAIM),)
    prefix = rule.match == "prefix"
    test = _claim_test(rule.claim, rule.value, prefix=prefix)
    if test is None:
        # Such a request may match this rule, so no later way may take it.
        yield Way(name, None, picks, callout=f"{name}: Envoy cannot compare this claim exactly")
        return
    tests: tuple[Test, ...] = (test,)
    if rule.claim == "group":
        tests += (GroupTest(rule.value, prefix),)
    yield _way(name, AnyOf(tests), picks, model)


def _canary_headers(name: str, canary: Canary, model: Model) -> Iterator[Way]:
    picks = (Pick(canary.version, Reason.CANARY_HEADER, canary=True),)
    tests: list[Test] = []
    for match in canary.headers:
        if not _is_matchable(match.name):
            yield Way(name, None, picks, callout=f"{name}: Envoy does not match {match.name}")
            return
        if not match.value or _JOINED in match.value:
            why = f"{name}: Envoy joins the values of a repeated {match.name} in another way"
            yield Way(name, HeaderPresent(match.name), picks, callout=why)
        else:
            tests.append(HeaderTest(match.name, match.value))
    if tests:
        yield _way(name, AnyOf(tuple(tests)), picks, model)


def _is_matchable(header: str) -> bool:
    return header not in _SHARED_HEADERS and not header.startswith(INTERNAL_PREFIX)


def _weights(model: Model) -> list[tuple[Canary, int]]:
    """The canaries with a percentage, and their number of buckets."""
    weights = [(canary, round(canary.percent * BUCKETS / 100)) for canary in model.canaries]
    return [(canary, weight) for canary, weight in weights if weight]


def _buckets(model: Model) -> Iterator[Way]:
    """The percentages: for callers with an id. Others have no bucket."""
    weights, bucket = _weights(model), model.bucket.header
    if not weights:
        return
    canaries = tuple(
        Pick(c.version, Reason.CANARY_BUCKET, canary=True, weight=w) for c, w in weights
    )
    present = SubjectTest() if bucket is None else HeaderPresent(bucket)
    if model.bucket.hash == "modulo":
        why = "bucket.hash: Envoy has no modulo"
        yield Way("canaries.percent", present, canaries, bucket, why)
        return
    if bucket is not None and not _is_matchable(bucket):
        why = f"bucket.header: Envoy does not match {bucket}"
        yield Way("canaries.percent", None, canaries, bucket, why)
        return
    usable = SubjectTest() if bucket is None else HeaderTest(bucket)
    rest = BUCKETS - sum(weight for _, weight in weights)
    for test, pick in _remainders(model, rest) if rest else [(None, None)]:
        both = usable if test is None else All((usable, test))
        picks = canaries if pick is None else (*canaries, pick)
        if isinstance(test, HeaderPresent):
            yield Way("canaries.percent", both, picks, bucket, _MODEL_TYPES)
        else:
            yield _way("canaries.percent", both, picks, model, bucket)
    if bucket is not None:
        why = f"bucket.header: Envoy hashes the values of a repeated {bucket} in another way"
        yield Way("canaries.percent", present, canaries, bucket, why)


def _remainders(model: Model, weight: int) -> list[tuple[Test | None, Pick | None]]:
    """What gets the buckets of no canary: the canary of a model type, or the stable version."""
    found: list[tuple[Test | None, Pick | None]] = []
    for test, canary in _type_tests(model):
        found.append((test, Pick(canary.version, Reason.CANARY_MODEL_TYPE, True, weight)))
    return [*found, (None, _stable(model, weight))]


_MODEL_TYPES: Final = "canaries.model_types: Envoy joins the values of a repeated header otherwise"


def _type_tests(model: Model) -> Iterator[tuple[Test, Canary]]:
    """The canaries with model types. A type that Envoy cannot compare is one for any value."""
    for canary in model.canaries:
        if any(not kind or _JOINED in kind for kind in canary.model_types):
            yield HeaderPresent(MODEL_TYPE), canary
            return
        if canary.model_types:
            kinds = tuple(HeaderTest(MODEL_TYPE, kind) for kind in canary.model_types)
            yield AnyOf(kinds), canary


def _model_types(model: Model) -> Iterator[Way]:
    for test, canary in _type_tests(model):
        picks = (Pick(canary.version, Reason.CANARY_MODEL_TYPE, canary=True),)
        if isinstance(test, HeaderPresent):
            yield Way("canaries.model_types", test, picks, callout=_MODEL_TYPES)
        else:
            yield _way("canaries.model_types", test, picks, model)


@lru_cache(1024)
def _claims_of(test: Test) -> tuple[str | None, ...]:
    match test:
        case ClaimTest(claim=claim):
            return (claim,)
        case GroupTest():
            return (None,)
        case All(tests=tests) | AnyOf(tests=tests):
            return tuple(claim for each in tests for claim in _claims_of(each))
    return ()


def _claims(tests: tuple[Test, ...]) -> Iterator[str | None]:
    for test in tests:
        yield from _claims_of(test)
