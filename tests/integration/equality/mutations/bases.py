"""Requests that native routes admit, one for each kind of caller, way of admission and path.

Each has nothing that its admission does not need, so that an edit of what is left changes it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from extproc.decision import Admission
from sluice.contract import headers
from sluice.contract.paths import OIP_PREFIX
from tests.integration.equality.mutations.omission import Pick
from tests.integration.equality.policies import Config
from tests.integration.equality.population import LIFETIME, Population
from tests.integration.equality.request import Request
from tests.integration.equality.tokens import Claims, Credential

_KEPT_CLAIMS: Final = ("iss", "aud", "exp", "sub")
_HEADERS: Final = 2
"""Headers that a way may need beside those of another way."""

_FEW: Final = 3
"""Headers of a request that chooses no version by a header."""

_IDS: Final = tuple(str(7919 * number) for number in range(1, 9))
"""Values of a header that is compared with none, for different buckets."""

_NOT_COMPARED: Final = ("exp", "sub")
_KEPT_HEADERS: Final = (b"content-length", b"content-type", b"authorization")
"""`decide()` admits a request without a media type, and no native route does."""


@dataclass(frozen=True, slots=True)
class Base:
    """A natively admitted request, and what its native route chooses."""

    request: Request
    pick: Pick

    @property
    def model(self) -> str:
        """The model of the request."""
        return self.pick[0].partition("/")[0]

    @property
    def has_own_path(self) -> bool:
        """Whether the config names the path."""
        return not self.request.path.startswith(f"{OIP_PREFIX}{self.model}/".encode())

    @property
    def issuer(self) -> str:
        """The issuer of its token; empty without a token."""
        credential = self.request.credential
        return "" if credential is None else str(credential.claims["iss"])

    @property
    def names(self) -> frozenset[bytes]:
        """The names of its headers."""
        return frozenset(name for name, _ in self.request.headers)

    @property
    def way(self) -> tuple[object, ...]:
        """How it was chosen: by which headers and claims, and at which kind of path."""
        credential = self.request.credential
        claims = frozenset(() if credential is None else credential.claims)
        return self.names, claims, self.has_own_path

    def fits(self, path: str) -> bool:
        """Whether the request has this path (`=`), or one that begins so (`^`)."""
        known = path[1:].encode()
        if path.startswith("="):
            return self.request.path == known
        return self.request.path.startswith(known)


def bases(
    native: Iterable[Request], population: Population, values: Mapping[str, Iterable[str]]
) -> Iterator[Base]:
    """Bases from requests that native routes have admitted, each kind once.

    `values`: those that matchers compare with a header. With them, a base may be one of another
    way. A base may not be native, because a claim that is left out can make a list unreadable.
    """
    found: dict[object, Base] = {}
    for request in native:
        least = _least(request, population)
        found.setdefault(_kind(least), least)
    callers = _admitted(_callers(found.values(), population), population)
    found = {(base.model, str(base.request.credential)): base for base in callers} | found
    for base in _admitted(_with_tokens(found.values()), population):
        found.setdefault(_kind(base), base)
    for _ in range(_HEADERS):
        for base in _admitted(_with_headers(found.values(), values), population):
            found.setdefault(_kind(base), base)
    yield from found.values()
    for base in _admitted(_elsewhere(found.values()), population):
        if _kind(base) not in found:
            yield base


def _admitted(requests: Iterable[Request], population: Population) -> list[Base]:
    """The bases of those requests that `decide()` admits."""
    decided = ((request, _pick(request, population)) for request in requests)
    return [Base(request, pick) for request, pick in decided if pick is not None]


def _callers(found: Collection[Base], population: Population) -> Iterator[Request]:
    """A request of each model, by callers who meet one of its rules for access and nothing more."""
    plain = {base.model: base.request for base in reversed(list(found)) if len(base.names) <= _FEW}
    for model, request in plain.items():
        for rule in population.world.models[model].get("access", {}).get("allow", ()):
            for issuer in population.world.issuers:
                for claims in _claims(rule, str(issuer.config["group_claim"])):
                    standard: Claims = {
                        "iss": issuer.name,
                        "aud": issuer.config["audiences"][0],
                        "exp": population.now + LIFETIME,
                        "sub": "caller",
                    }
                    yield request.with_credential(Credential(issuer.key, {**standard, **claims}))


def _claims(rule: Config, group_claim: str) -> Iterator[Claims]:
    """The claims that meet a rule, as texts and as lists."""
    others: Claims = dict(rule.get("claims", {}))
    for subject in rule.get("subjects", ()):
        yield {**others, "sub": subject}
    for group in rule.get("groups", ()):
        yield {**others, group_claim: group}
        yield {**{name: [value] for name, value in others.items()}, group_claim: ["x", group]}


def _with_headers(
    found: Collection[Base], values: Mapping[str, Iterable[str]]
) -> Iterator[Request]:
    """A base of each way of admission, with a header that may choose another way."""
    for base in _ways(found).values():
        plain = len(base.names) <= _FEW
        named = base.request.values(headers.MODEL_VERSION.encode())
        for header, known in () if named else values.items():
            client = header.startswith("x-") and not header.startswith(headers.INTERNAL_PREFIX)
            if client and (plain or header != headers.MODEL_VERSION):
                for value in known or _IDS:
                    yield base.request.with_header(header.encode(), value.encode())


def _ways(found: Collection[Base]) -> dict[tuple[object, ...], Base]:
    """A base of each way of admission, with the same headers."""
    ways: dict[tuple[object, ...], Base] = {}
    for base in found:
        ways.setdefault((base.pick, base.names), base)
    return ways


def _elsewhere(found: Collection[Base]) -> Iterator[Request]:
    """A request of each way of admission, with each path of its model."""
    ways = _ways(found)
    for model, path in sorted({(base.model, base.request.path) for base in found}):
        for base in ways.values():
            if base.model == model:
                yield replace(base.request, path=path)


def _with_tokens(found: Collection[Base]) -> Iterator[Request]:
    """The anonymous requests, with the token of another base."""
    tokens = [base.request.credential for base in found]
    credential = next((each for each in tokens if each is not None), None)
    for base in found:
        if base.request.credential is None and credential is not None:
            yield base.request.with_credential(credential)


def _kind(base: Base) -> tuple[object, ...]:
    credential = base.request.credential
    claims = () if credential is None else credential.claims.items()
    compared = sorted((name, str(value)) for name, value in claims if name not in _NOT_COMPARED)
    return (base.pick, base.names, base.request.path, tuple(compared))


def _least(request: Request, population: Population) -> Base:
    """The request without what its admission does not need."""
    pick = _pick(request, population)
    assert pick is not None
    least = replace(request, http2=False)
    for name, _ in request.headers:
        if name not in _KEPT_HEADERS:
            least = _if_same(least, least.with_header(name, None), pick, population)
    path, mark, _ = request.path.partition(b"?")
    least = _if_same(least, replace(least, path=path + mark), pick, population)
    credential = request.credential
    for claim in credential.claims if credential else ():
        if claim not in _KEPT_CLAIMS and least.credential is not None:
            without = least.credential.with_claims(**{claim: None})
            least = _if_same(least, least.with_credential(without), pick, population)
    return Base(least, pick)


def _if_same(least: Request, less: Request, pick: Pick, population: Population) -> Request:
    return less if _pick(less, population) == pick else least


def _pick(request: Request, population: Population) -> Pick | None:
    decision = population.expected(request).decision
    if not isinstance(decision, Admission):
        return None
    return decision.target.cluster, str(decision.reason)
