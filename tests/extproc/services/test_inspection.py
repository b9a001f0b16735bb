"""A worker answers what the breaker and the limits would do with a request."""

from pathlib import Path

import pytest

from extproc.counter_table import CounterTable, create
from extproc.policy.compiled import compile_policy
from extproc.policy.current import CurrentPolicy
from extproc.protection import Protection, ProtectionSettings
from extproc.rpc import RpcError, StatusCode
from extproc.services.inspection import InspectionService
from protos.protection_pb2 import InspectRequest, InspectResponse
from tests.extproc.decision.requests import document
from tests.extproc.policy.received import protect

pytestmark = pytest.mark.anyio
GOLD = InspectRequest.Claim(name="tier", values=["gold", "new"])
MATCH = {"part": "claim:tier", "values": ["gold"]}
RULES = [
    {
        "name": "each",
        "key": ["subject", "header:x", "claim:tier"],
        "match": [MATCH],
        "rate": 3,
        "per": "hour",
    }
]


@pytest.fixture
async def service(tmp_path: Path) -> InspectionService:
    create(tmp_path / "counters", 1, 10_000)
    policy = document(limits={"rules": RULES})
    protection = Protection(CounterTable(tmp_path / "counters", 0), ProtectionSettings())
    await protect(protection, policy)
    current = CurrentPolicy()
    current.current = compile_policy(policy)
    return InspectionService(protection, current)


async def test_the_answer_has_the_breaker_and_the_rules(service: InspectionService) -> None:
    request = InspectRequest(
        cluster="m/v1", model="m", subject="a", headers={"x": "1"}, claims=[GOLD]
    )
    answer = InspectResponse.FromString(await service.inspect(request.SerializeToString()))
    assert answer.policy == document(limits={"rules": RULES}).version
    assert (answer.breaker.state, answer.breaker.requests) == ("closed", 0)
    assert not answer.breaker.HasField("error_rate")
    (rule,) = answer.rules
    assert (rule.name, rule.admits, rule.limit, rule.remaining, rule.cost) == (
        "each",
        True,
        3,
        3,
        1,
    )


async def test_a_version_without_a_breaker_has_no_state(service: InspectionService) -> None:
    request = InspectRequest(cluster="none/v1", claims=[GOLD])
    answer = InspectResponse.FromString(await service.inspect(request.SerializeToString()))
    assert not answer.HasField("breaker")


async def test_a_message_that_is_not_a_request_is_refused(service: InspectionService) -> None:
    with pytest.raises(RpcError) as refused:
        await service.inspect(b"\xff")
    assert refused.value.code is StatusCode.INVALID_ARGUMENT
