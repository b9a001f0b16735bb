"""A request costs the same with many models as with few: nothing looks at the other models."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest

from extproc.counter_table import CounterTable, create
from extproc.policy.compiled import compile_policy
from extproc.policy.current import CurrentPolicy
from extproc.protection import Protection, ProtectionSettings
from extproc.services.decider import Decider
from extproc.services.ext_proc.service import ExternalProcessor
from protos.ext_proc_pb2 import ProcessingRequest
from sluice.config import PolicyDocument
from tests.extproc.auth.tokens import NOW
from tests.extproc.decision.requests import bearer, document
from tests.extproc.policy.received import protect
from tests.extproc.services.ext_proc.recorded_call import RecordedCall

REQUESTS = (
    {":method": "POST", ":path": "/v2/models/m7/infer"},
    {":method": "POST", ":path": "/predict/7"},
    {":method": "POST", ":path": "/v2/models/absent/infer"},
    {":method": "POST", ":path": "/inference.GRPCInferenceService/ModelInfer", "x-model-name": "m7",
     "content-type": "application/grpc", "te": "trailers"},
    {":method": "POST", ":path": "/v2/models/m7/infer", "x-model-version": "v2"},
    {":method": "POST", ":path": "/v2/models/m7/infer", "x-canary": "true"},
)  # fmt: skip


def policy_with(count: int) -> PolicyDocument:
    canaries = [{"version": "v2", "percent": 5}]
    models: dict[str, dict[str, Any]] = {
        f"m{number}": {"paths": [f"/predict/{number}"], "canaries": canaries, "access": {}}
        for number in range(count)
    }
    rules = [{"name": "each", "key": ["subject", "model"], "rate": 1000, "per": "second"}]
    return document(models, limits={"rules": rules})


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[[PolicyDocument], ExternalProcessor]]:
    """Creates the service of a worker with breakers and limits."""
    tables: list[CounterTable] = []

    def created(policy: PolicyDocument) -> ExternalProcessor:
        file = tmp_path / f"counters-{len(tables)}"
        create(file, 1, 200_000)
        tables.append(CounterTable(file, 0))
        # The breaker evaluates all versions once, at the first request after a policy.
        protection = Protection(tables[-1], ProtectionSettings(), lambda: NOW)
        asyncio.run(protect(protection, policy))
        current = CurrentPolicy()
        current.apply(policy)
        return ExternalProcessor(Decider(current, lambda: NOW, protection=protection))

    yield created
    for table in tables:
        table.close()


def send(service: ExternalProcessor, headers: dict[str, str]) -> bytes:
    message = ProcessingRequest()
    usual = {"authorization": bearer(), "content-length": "2", "content-type": "application/json"}
    for name, value in {**usual, **headers}.items():
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    call = RecordedCall()
    service.open(call).on_message(message.SerializeToString())
    (response,) = call.responses
    return response.SerializeToString()


def lines_run(run: Callable[[], object]) -> int:
    """The number of Python lines that run."""
    count = 0

    def trace(_: FrameType, event: str, __: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def test_a_request_runs_as_many_lines_with_many_models_as_with_few(
    service: Callable[[PolicyDocument], ExternalProcessor],
) -> None:
    counts = []
    for number in (10, 1_000):
        one = service(policy_with(number))
        for headers in REQUESTS * 2:
            send(one, headers)
        counts.append(
            [lines_run(lambda one=one, headers=headers: send(one, headers)) for headers in REQUESTS]
        )
    assert counts[0] == counts[1]
    assert min(counts[0]) > 50


class NoWalk(dict[bytes, Any]):
    """A map that gives the value of a key, and nothing else."""

    def _refuse(self, *_: object) -> NoReturn:
        raise AssertionError("all models are looked at")

    __iter__ = keys = values = items = _refuse  # type: ignore[assignment]


def test_no_request_walks_the_models_of_the_policy() -> None:
    policy = compile_policy(policy_with(10))
    expected, current = CurrentPolicy(), CurrentPolicy()
    expected.current = policy
    current.current = replace(
        policy, models=NoWalk(policy.models), prefixes=NoWalk(policy.prefixes)
    )
    walking, other = (ExternalProcessor(Decider(each, lambda: NOW)) for each in (expected, current))
    for headers in REQUESTS * 3:
        assert send(other, headers) == send(walking, headers)
