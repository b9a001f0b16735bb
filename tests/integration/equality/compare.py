"""Compares the answer of the gateway with the answer of `decide()`, and counts the answers."""

import random
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from extproc.decision import Refusal
from extproc.policy.compiled import compile_policy
from sluice.contract.reasons import DECISION_REFUSALS
from tests.integration.equality.edits import edited
from tests.integration.equality.gateway import Change, EqualityGateway, is_native
from tests.integration.equality.oracle import Expected
from tests.integration.equality.policies import World, random_world
from tests.integration.equality.population import Population
from tests.integration.equality.request import Header, Request, Response

ADMITTED_SHARE = 0.5
"""Share of requests that `decide()` admits. The others are one edit away from such a request."""

NATIVE_SHARE = 0.85
"""Share of requests that are natively admitted, before the edit if there is one."""

BASES = 2_000
"""Maximum admitted requests of one config, which are sent as they are, and then with edits."""

_ENVOY_SETS = frozenset((
    b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-request-id", b"x-envoy-external-address",
    b"transfer-encoding", b"content-length", b"connection", b"upgrade", b"te", b"cookie",
))  # fmt: skip
"""Headers that Envoy sets at the model server, by itself. `content-length` is compared apart."""

_REASON = b"x-sluice-reason"
_INTERNAL = b"x-sluice-"

_DECISION_REASONS = frozenset(reason.encode() for reason in DECISION_REFUSALS)

_ODD = (b"%", b"//", b"/.", b"\\", b"#")
"""Parts of paths that Envoy normalizes or refuses."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An answer that is not the answer of `decide()`."""

    world: World
    request: Request
    text: str

    def __str__(self) -> str:
        segments = self.request.path.partition(b"?")[0].decode("latin-1").split("/")
        models = {name: m for name, m in self.world.models.items() if name in segments[3:4]}
        models |= {name: m for name, m in self.world.models.items() if "paths" in m}
        issuers = [{**each, "jwks": "..."} for each in self.world.config["auth"]["issuers"]]
        return "\n".join(
            [self.text, f"  config {self.world.seed}", str(self.request), f"  models: {models}",
             f"  issuers: {issuers}"]
        )  # fmt: skip


@dataclass(slots=True)
class Tally:
    """The answers so far, by who has given them."""

    native: int = 0
    callout: int = 0
    by_envoy: int = 0
    """Local replies of Envoy, and connections that it has closed: `decide()` is not asked."""
    edited: int = 0
    native_by_edit: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return self.native + self.callout + self.by_envoy

    @property
    def native_share(self) -> float:
        return self.native / self.requests if self.requests else 0.0

    def add(self, other: "Tally") -> None:
        self.native += other.native
        self.callout += other.callout
        self.by_envoy += other.by_envoy
        self.edited += other.edited
        self.native_by_edit += other.native_by_edit
        self.reasons += other.reasons
        self.differences += other.differences


class Comparison:
    """Compares the answers to the requests of one config."""

    def __init__(self, population: Population, port: int) -> None:
        self.tally = Tally()
        self._population = population
        self._port = port
        self.native: list[Request] = []
        """The requests without an edit that native routes have taken."""

    def on_response(self, request: Request, response: Response) -> None:
        """Compare one answer."""
        tally = self.tally
        native = is_native(response)
        if request.edit:
            tally.edited += 1
        reason = response.value(_REASON)
        if native and not request.edit:
            self.native.append(request)
        if native:
            tally.native += 1
            tally.native_by_edit[request.edit or "none"] += 1
        elif response.status and (reason in _DECISION_REASONS or response.value(b"x-own")):
            tally.callout += 1
        else:
            tally.by_envoy += 1
        tally.reasons[f"{response.status} {reason.decode('latin-1')}"] += 1
        text = self.difference(request, response)
        if text is not None:
            placement = "native" if native else "callout"
            shown = f"{placement}: {text}\n  answer: {response.status} {response.headers}"
            tally.differences.append(Difference(self._population.world, request, shown))

    def difference(self, request: Request, response: Response) -> str | None:
        """What is different; None if nothing is."""
        if response.value(b"x-own"):
            return self._admitted(request, response)
        if is_native(response):
            found = self._population.expected(request).decision
            if isinstance(found, Refusal) and not is_odd(request.path):
                return f"decide() refuses with {found.reason}: {found.detail}"
            return None
        reason = response.value(_REASON)
        if reason not in _DECISION_REASONS or is_odd(request.path):
            return None
        if request.values(b"upgrade"):
            # Envoy refuses an upgrade that the route does not allow, with the reason `forbidden`.
            return None
        found = self._population.expected(request).decision
        if isinstance(found, Refusal):
            status = 200 if response.value(b"grpc-status") else found.status
            if found.reason.encode() == reason and status == response.status:
                return None
            return f"decide() refuses with {found.status} {found.reason}: {found.detail}"
        return f"decide() admits to {found.target.cluster}, {found.reason}"

    def _admitted(self, request: Request, response: Response) -> str | None:
        head = response.body
        address, _, rest = head.partition(b"\n")
        line, *lines = rest.split(b"\r\n")
        if request.method != b"HEAD":
            if line.count(b" ") != 2:
                return f"the model server got {line!r}, and the client {response.body[:200]!r}"
            path = line.split(b" ")[1]
            if path != request.path and not is_odd(request.path):
                return f"the path at the model server is {path!r}"
            if path != request.path:
                request = replace(request, path=path)
        answer = self._population.expected(request)
        decision = answer.decision
        if isinstance(decision, Refusal):
            return f"decide() refuses with {decision.status} {decision.reason}: {decision.detail}"
        if response.values(_REASON) != [decision.reason.encode()]:
            return f"decide() admits with the reason {decision.reason}"
        others = [name for name, _ in response.headers if name.startswith(_INTERNAL)]
        if others != [_REASON]:
            return f"internal headers in the response: {others}"
        if request.method == b"HEAD":
            return None
        wanted = endpoint(decision.target.model, decision.target.version, self._port)
        if address.decode() != wanted:
            return f"decide() admits to {decision.target.cluster} at {wanted}, not {address!r}"
        return _header_difference(request, lines, answer)


def _header_difference(request: Request, lines: list[bytes], answer: Expected) -> str | None:
    pairs = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    found = _compared(pairs)
    wanted = _compared(answer.forwarded)
    if found != wanted:
        more = [each for each in found if each not in wanted]
        less = [each for each in wanted if each not in found]
        return f"headers at the model server: {more} too many, {less} missing"
    length = request.values(b"content-length")
    if length and dict(pairs).get(b"content-length") != length[0]:
        return "content-length at the model server differs"
    return None


def _compared(pairs: list[Header] | tuple[Header, ...]) -> list[Header]:
    """The headers that the test compares, sorted. HTTP/2 may have a header for each cookie."""
    cookies = b"; ".join(value for name, value in pairs if name == b"cookie")
    return sorted(
        [
            *(each for each in pairs if each[0] not in _ENVOY_SETS and each[0][:8] != b"x-envoy-"),
            (b"cookie", b"; ".join(sorted(filter(None, cookies.split(b"; "))))),
        ]
    )


def is_odd(path: bytes) -> bool:
    """Whether Envoy may change the path before anything reads it, or may refuse it."""
    plain = path.partition(b"?")[0]
    return not path.startswith(b"/") or not path.isascii() or any(part in plain for part in _ODD)


def endpoint(model: str, version: str, port: int) -> str:
    """The loopback address of a version: a different one for each."""
    number = zlib.crc32(f"{model}/{version}".encode())
    return f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number % 254 + 1}:{port}"


async def compare_world(
    gateway: EqualityGateway, seed: str, count: int, change: Change | None = None
) -> Tally:
    """Put a random config in force, and compare the answers to so many requests."""
    port = gateway.model_port
    world = random_world(seed, lambda model, version: endpoint(model, version, port))
    policy = compile_policy(gateway.document(world.config))
    population = Population(world, policy, random.Random(seed))
    comparison = Comparison(population, port)
    await gateway.apply(world.config, population.admitted(), change)
    admitted = [population.admitted() for _ in range(min(count // 4, BASES))]
    await gateway.client.send(admitted, comparison.on_response)
    more = requests(population, comparison.native or admitted, admitted, count - len(admitted))
    await gateway.client.send(more, comparison.on_response)
    return comparison.tally


def requests(
    population: Population, native: list[Request], admitted: list[Request], count: int
) -> Iterator[Request]:
    """Admitted requests, and requests that are one edit away from one."""
    rng, natives = population.rng, list(native)
    for _ in range(count):
        request = rng.choice(natives if rng.random() < NATIVE_SHARE else admitted)
        yield request if rng.random() < ADMITTED_SHARE else edited(request, population)
