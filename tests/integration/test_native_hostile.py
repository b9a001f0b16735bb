"""Hostile requests get the same answers with placement on and off (`equality/hostile.py`)."""

import asyncio
import json
import re
from dataclasses import dataclass, replace

import pytest

from tests.integration.equality import hostile, hostile_config
from tests.integration.equality.gateway import (
    NUMBER,
    ROUTE,
    EqualityGateway,
    equality_gateway,
    is_native,
)
from tests.integration.equality.request import Header, Request, Response

CASES = {case.name: case for case in hostile.cases()}

_VARYING = frozenset((ROUTE, NUMBER, b"date", b"x-request-id", b"content-length"))
"""Headers that differ between two answers to one request."""

_TOKEN = re.compile(rb"eyJ[\w.-]+")
"""A token in the path: each run has tokens of its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What client and model server have seen. `received`: the head of the request, without ids."""

    status: int
    headers: tuple[Header, ...]
    trailers: tuple[Header, ...]
    informational: tuple[Header, ...]
    received: tuple[bytes, ...]
    problem: str


@pytest.fixture(scope="module")
def answers() -> dict[str, list[tuple[bool, Answer]]]:
    """Whether the answer is native, and the answer, with placement on and then off, by case."""
    return asyncio.run(_answers())


async def _answers() -> dict[str, list[tuple[bool, Answer]]]:
    found: dict[str, list[tuple[bool, Answer]]] = {name: [] for name in CASES}
    async with equality_gateway() as gateway:
        # Envoy leaves a connection open for a second after many of the requests over HTTP/2.
        gateway.client = replace(gateway.client, connections=8, http2_connections=16, streams=1)
        for placement in ("auto", "callout"):
            config = {**hostile_config.config(gateway.model_port), "placement": placement}
            probe, native = hostile_config.post("public"), placement == "auto"
            await gateway.apply(config, probe, native=native)
            for name, answer in (await _send(gateway)).items():
                found[name].append(answer)
    return found


async def _send(gateway: EqualityGateway) -> dict[str, tuple[bool, Answer]]:
    # Tokens are made now: some expire in a few seconds.
    names = {case.request: case.name for case in hostile.cases()}
    found = {}

    def on_response(request: Request, response: Response) -> None:
        found[names[request]] = is_native(response), _answer(response)

    await gateway.client.send(names, on_response)
    return found


def _answer(response: Response) -> Answer:
    received: tuple[bytes, ...] = ()
    problem = ""
    if response.value(b"x-own"):
        lines = _TOKEN.sub(b"TOKEN", response.body).split(b"\r\n")
        received = tuple(sorted(line for line in lines if not line.startswith(b"x-request-id")))
    elif response.body.startswith(b"{"):
        members = json.loads(response.body)
        members.pop("instance", None)
        problem = json.dumps(members)
    else:
        problem = response.body.decode("latin-1")
    headers = tuple(sorted(each for each in response.headers if each[0] not in _VARYING))
    trailers, informational = tuple(response.trailers), tuple(response.informational)
    return Answer(response.status, headers, trailers, informational, received, problem)


@pytest.mark.parametrize("name", CASES)
def test_the_answer_is_the_same_with_placement_on_and_off(
    answers: dict[str, list[tuple[bool, Answer]]], name: str
) -> None:
    (native, auto), (other_native, callout) = answers[name]
    assert auto == callout
    assert native or not CASES[name].native, "the callout has decided"
    assert not other_native


def test_there_are_enough_cases_of_both_kinds() -> None:
    native = sum(case.native for case in CASES.values())
    assert native >= 50
    assert len(CASES) - native >= 100
