"""Leaves out one of the conditions of native routes at a time: the comparison must notice each."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from extproc.policy.compiled import compile_policy
from protos.route_pb2 import HeaderMatcher
from tests.integration.equality.compare import Comparison, Tally
from tests.integration.equality.edits import EDITS, edited_by
from tests.integration.equality.every_rule import every_rule
from tests.integration.equality.gateway import EqualityGateway
from tests.integration.equality.population import Population
from tests.integration.equality.request import Request
from xds.resources.native import conditions, model
from xds.resources.native.predicates import is_present

CHUNK = 200
"""Requests that are sent before the check looks whether an answer differs."""

ADMITTED, EDITED_EACH = 400, 120
"""Admitted requests, and edited requests for each kind of edit."""

_LISTS = (
    (conditions, "TOKEN_CONDITIONS"),
    (conditions, "ANONYMOUS_CONDITIONS"),
    (conditions, "CONDITIONS"),
    (model, "MODEL_CONDITIONS"),
    (model, "ROUTE_CONDITIONS"),
    (model, "UNNAMED_CONDITIONS"),
)
"""The lists of all conditions. Native routes contain nothing else but what chooses the version."""


@dataclass(frozen=True, slots=True)
class Omission:
    """One condition of a list."""

    module: Any
    list: str
    index: int

    @property
    def name(self) -> str:
        name: str = getattr(self.module, self.list)[self.index].name
        return name

    def remaining(self) -> Sequence[Any]:
        """The list with a condition that every request meets instead."""
        every = list(getattr(self.module, self.list))
        condition = every[self.index]
        if hasattr(condition, "predicate"):
            every[self.index] = replace(condition, predicate=lambda _: is_present(":path"))
        else:
            met = HeaderMatcher(name=":path", present_match=True)
            every[self.index] = replace(condition, matcher=lambda _: met)
        return tuple(every)


def omissions() -> Iterator[Omission]:
    """Every condition."""
    for module, name in _LISTS:
        for index in range(len(getattr(module, name))):
            yield Omission(module, name, index)


class ConditionCheck:
    """Compares answers for a config of all rules, with native routes that lack a condition."""

    def __init__(self, gateway: EqualityGateway) -> None:
        self._gateway = gateway
        self._world = every_rule(gateway.model_port)
        policy = compile_policy(gateway.document(self._world.config))
        self._population = Population(self._world, policy, random.Random("conditions"))
        admitted = [self._population.admitted() for _ in range(ADMITTED)]
        self._probe = admitted[0]
        self._requests = [*admitted, *self._edited(admitted)]

    async def differences(self, omission: Omission | None) -> Tally:
        """The answers up to the first that differs."""
        # Compiled models are cached by their config, so each omission has a config of its own.
        number = 0 if omission is None else 1 + list(omissions()).index(omission)
        config = {**self._world.config, "requests": {"max_body": (10 << 20) + number,
                                                     "expose_reason": True}}  # fmt: skip
        if omission is None:
            await self._gateway.apply(config, self._probe)
        else:
            with patch.object(omission.module, omission.list, omission.remaining()):
                await self._gateway.apply(config, self._probe)
        total = Tally()
        for at in range(0, len(self._requests), CHUNK):
            comparison = Comparison(self._population, self._gateway.model_port)
            chunk = self._requests[at : at + CHUNK]
            await self._gateway.client.send(chunk, comparison.on_response)
            total.add(comparison.tally)
            if total.differences:
                break
        return total

    def _edited(self, admitted: list[Request]) -> list[Request]:
        rng = self._population.rng
        found = [
            edited_by(name, rng.choice(admitted), self._population)
            for name in EDITS
            for _ in range(EDITED_EACH)
        ]
        rng.shuffle(found)
        return found
