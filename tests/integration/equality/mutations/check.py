"""Compares the answers of mutants with those of `decide()`, until one differs."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import chain, islice, tee
from typing import Final

from extproc.policy.compiled import compile_policy
from sluice.contract.headers import INTERNAL_PREFIX
from tests.integration.equality.compare import Comparison, Difference
from tests.integration.equality.gateway import EqualityGateway, is_native
from tests.integration.equality.mutations.bases import Base, bases
from tests.integration.equality.mutations.directed import Compared, edits
from tests.integration.equality.mutations.equivalents import EQUIVALENTS
from tests.integration.equality.mutations.mutation import (
    Mutation,
    Types,
    authority,
    mutations,
    serving,
)
from tests.integration.equality.mutations.omission import Pick
from tests.integration.equality.mutations.turns import in_turn
from tests.integration.equality.policies import World
from tests.integration.equality.population import Population
from tests.integration.equality.request import Request, Response
from xds.protocol import resource_types

DRAWN: Final = 2_000
"""Admitted requests from which the bases are made."""

BATCH: Final = 150
"""Mutants that Envoy serves at once."""

ROUND, MAX_ROUND = 16, 64
"""Requests for each mutant in the first round. Each round for those that remain has twice as many,
up to a size of which few are sent in vain.
"""

FIRST, NEAR, FAR = 8, 32, 30
"""Bases of a mutation: those whose edits come first, those that have what it reads, or that have
not, and bases that it does not concern."""

BREADTH: Final = 4
"""Edits of each header of each base that come first."""


class Outcome(Enum):
    """What the comparison notices of a mutant."""

    NOTICED = "noticed"
    """An answer differs from that of `decide()`."""
    NARROWER = "safe: fewer requests are native"
    """All answers are right, and fewer requests are native: so nothing guards less."""
    SURVIVED = "not noticed"


@dataclass(slots=True)
class Report:
    """The mutations by outcome, and the answers that differ without a mutation."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    requests: int = 0

    def names(self, outcome: Outcome) -> list[str]:
        """The mutations with an outcome."""
        return [name for name, each in self.outcomes.items() if each is outcome]

    def unexpected(self) -> list[str]:
        """The mutations that are not noticed, and those that are although `EQUIVALENTS` has them.

        And its entries that are no mutation.
        """
        wrong = [
            name
            for name, outcome in self.outcomes.items()
            if (outcome is Outcome.SURVIVED) != any(each.fits(name) for each in EQUIVALENTS)
        ]
        unused = (e for e in EQUIVALENTS if not any(e.fits(name) for name in self.outcomes))
        return [*wrong, *(f"no such mutation: {each.ending}" for each in unused)]

    def __str__(self) -> str:
        counts = [f"{len(self.names(each)):,} {each.value}" for each in Outcome]
        return f"{len(self.outcomes):,} mutations: {', '.join(counts)}; {self.requests:,} requests"


@dataclass(slots=True, eq=False)
class _Mutant:
    """A mutant, and what is known of it. `native` are the requests that it has admitted."""

    number: int
    mutation: Mutation
    requests: Iterator[Request]
    noticed: Request | None = None
    """A request whose answer differs."""
    exhausted: bool = False
    """Whether there are no more requests for it."""
    sent: list[Request] = field(default_factory=list)
    native: set[Request] = field(default_factory=set)


class MutationCheck:
    """Checks the mutations of one config. `limit`: requests for each mutant."""

    def __init__(self, gateway: EqualityGateway, world: World, limit: int) -> None:
        self._gateway = gateway
        self._world = world
        self._limit = limit
        self._population = _population(gateway, world)
        self._closed = _closed(world)
        self._edits: dict[tuple[Base, str], Iterator[Request]] = {}
        self._native: dict[Request, bool] = {}
        """Whether a native route takes a request without a mutation."""
        self.report = Report()

    async def start(self) -> list[Mutation]:
        """Put the config in force. Returns all mutations."""
        drawn = [self._population.admitted() for _ in range(DRAWN)]
        self._probe = drawn[0]
        await self._gateway.apply(self._world.config, self._probe, self._keep)
        while not any(self._native.values()):
            self._native.clear()
            await self._answers(drawn[: DRAWN // 10])
        self._native.clear()
        await self._answers(drawn)
        native = [each for each in drawn if self._native[each]]
        self._compared = Compared.of(self._types, self._world)
        self._bases = list(bases(native, self._population, self._compared.values))
        await self._answers(base.request for base in self._bases)
        self._bases = [base for base in self._bases if self._native[base.request]]
        self._far = _varied(self._bases)[:FAR]
        self._probe = self._bases[0].request
        return list(mutations(self._types))

    async def check(self, found: Iterable[Mutation]) -> None:
        """Add the outcomes of these mutations to the report."""
        numbered = list(enumerate(found))
        assert len({each.name for _, each in numbered}) == len(numbered)
        for off in (False, True):
            mutants = [(number, each) for number, each in numbered if each.off == off]
            for at in range(0, len(mutants), BATCH):
                await self._batch(mutants[at : at + BATCH], off=off)

    def _keep(self, types: Types) -> Types:
        self._types = types
        return types

    async def _batch(self, numbered: list[tuple[int, Mutation]], *, off: bool) -> None:
        """Let Envoy serve some mutants, and send requests to them."""
        population = await self._switch_off(numbered) if off else await self._serve(numbered)
        mutants = [_Mutant(n, each, self._requests(each)) for n, each in numbered]
        active, size = mutants, ROUND
        while active:
            await self._round(active, size, population)
            active = [each for each in active if each.noticed is None and not each.exhausted]
            size = min(2 * size, MAX_ROUND)
        if not off:
            await self._answers(chain.from_iterable(map(_telling, mutants)))
        for mutant in mutants:
            self.report.outcomes[mutant.mutation.name] = self._outcome(mutant, off=off)

    async def _round(self, mutants: list[_Mutant], size: int, population: Population) -> None:
        """Send so many more requests to each of the mutants."""
        sent: dict[Request, tuple[_Mutant, Request]] = {}
        for mutant in mutants:
            requests = list(islice(mutant.requests, size))
            mutant.exhausted = len(requests) < size
            mutant.sent += requests
            for request in requests:
                population.keep(request)
                own = replace(request, authority=authority(mutant.number).encode())
                sent[own] = mutant, request
        comparison = Comparison(population, self._gateway.model_port)

        def on_response(own: Request, response: Response) -> None:
            mutant, request = sent[own]
            if is_native(response):
                mutant.native.add(request)
            if mutant.noticed is None and comparison.difference(request, response) is not None:
                mutant.noticed = request

        await self._gateway.client.send(sent, on_response)
        self.report.requests += len(sent)

    def _outcome(self, mutant: _Mutant, *, off: bool) -> Outcome:
        if mutant.noticed is not None:
            return Outcome.NOTICED
        before = set() if off else {each for each in mutant.sent if self._native[each]}
        return Outcome.NARROWER if mutant.native < before else Outcome.SURVIVED

    async def _serve(self, numbered: list[tuple[int, Mutation]]) -> Population:
        config = self._world.config
        await self._gateway.apply(config, self._probe, lambda types: serving(types, numbered))
        return self._population

    async def _switch_off(self, numbered: list[tuple[int, Mutation]]) -> Population:
        """Keep the routes, and put a policy in force to which they do not belong."""
        closed = _population(self._gateway, self._closed)
        routes = serving(self._types, numbered)
        kept = {each: routes[each] for each in (resource_types.ROUTE, resource_types.EXTENSION)}
        config = self._closed.config
        await self._gateway.apply(config, self._probe, lambda types: {**types, **kept})
        off = asyncio.Event()

        def on_response(_: Request, response: Response) -> None:
            if not is_native(response):
                off.set()

        while not off.is_set():
            await self._gateway.client.send([self._probe], on_response)
        return closed

    async def _answers(self, requests: Iterable[Request]) -> None:
        """Compare the answers without a mutation, each once."""
        requests = [each for each in dict.fromkeys(requests) if each not in self._native]
        comparison = Comparison(self._population, self._gateway.model_port)

        def on_response(request: Request, response: Response) -> None:
            self._native[request] = is_native(response)
            comparison.on_response(request, response)

        await self._gateway.client.send(requests, on_response)
        self.report.differences += comparison.tally.differences

    def _requests(self, mutation: Mutation) -> Iterator[Request]:
        """The requests for a mutant: those that most likely notice it come first."""
        inputs = self._inputs(mutation)
        issuer = "" if mutation.provider is None else mutation.provider.issuer
        reading, others = [], []
        for base in self._bases:
            fits = base.pick in mutation.picks and base.fits(mutation.path)
            if fits and issuer in base.issuer:
                (reading if self._reads(base, inputs) else others).append(base)
        near = list(in_turn([islice(_varied(each), NEAR) for each in (reading, others)]))
        rest = [each for each in self._compared.inputs if each not in inputs]
        found = chain(
            (base.request for base in (*near, *self._far)),
            # Some mutants show in few bases, and others in few edits.
            in_turn([self._edited(near, inputs, BREADTH), self._edited(near[:FIRST], inputs)]),
            self._edited(near, inputs),
            self._edited(self._far, inputs),
            self._edited(near[:FIRST], rest),
        )
        return islice(dict.fromkeys(islice(found, 2 * self._limit)), self._limit)

    def _inputs(self, mutation: Mutation) -> frozenset[str]:
        """The headers that clients set and that a mutation is about. The callout sets the rest."""
        inputs, claims = mutation.inputs, {header for _, header in self._compared.claims}
        if any(each.startswith(INTERNAL_PREFIX) and each not in claims for each in inputs):
            known = (each for each in self._compared.values if each.startswith("x-"))
            return frozenset(each for each in known if not each.startswith(INTERNAL_PREFIX))
        return inputs

    def _reads(self, base: Base, inputs: Iterable[str]) -> bool:
        """Whether the request, or its token, has one of these headers."""
        credential = base.request.credential
        claims = {} if credential is None else credential.claims
        return any(
            self._compared.claims.get((base.issuer, each)) in claims
            or base.request.values(each.encode())
            for each in inputs
        )

    def _edited(
        self, chosen: Iterable[Base], inputs: Iterable[str], depth: int | None = None
    ) -> Iterator[Request]:
        """The edits of these bases, in turn; of each header at most `depth`."""
        each = (self._directed(base, read) for base in chosen for read in sorted(inputs))
        return in_turn([islice(found, depth) for found in each])

    def _directed(self, base: Base, read: str) -> Iterator[Request]:
        """The edits of a base, which are made once."""
        found = self._edits.get((base, read))
        if found is None:
            found = edits(base.request, read, self._compared, self._world)
        self._edits[base, read], own = tee(found)
        return own


def _telling(mutant: _Mutant) -> Sequence[Request]:
    """The requests whose answers without the mutation matter: the one that noticed it, or all."""
    return mutant.sent if mutant.noticed is None else [mutant.noticed]


def _varied(found: Iterable[Base]) -> list[Base]:
    """The bases, so that the first ones differ in their issuers and in what they choose."""
    grouped: defaultdict[tuple[str, Pick], list[Base]] = defaultdict(list)
    for base in found:
        grouped[base.issuer, base.pick].append(base)
    issuers: defaultdict[str, list[Iterator[Base]]] = defaultdict(list)
    for (issuer, _), same in grouped.items():
        ways: defaultdict[tuple[object, ...], list[Base]] = defaultdict(list)
        for base in same:
            ways[base.way].append(base)
        issuers[issuer].append(in_turn([iter(each) for each in ways.values()]))
    return list(in_turn([in_turn(each) for each in issuers.values()]))


def _population(gateway: EqualityGateway, world: World) -> Population:
    policy = compile_policy(gateway.document(world.config))
    return Population(world, policy, random.Random(world.seed))


def _closed(world: World) -> World:
    """The config with models that nobody may use."""
    nobody = {"allow": [{"groups": ["nobody"]}]}
    models = {name: {**model, "access": nobody} for name, model in world.models.items()}
    return replace(world, config={**world.config, "models": models})
