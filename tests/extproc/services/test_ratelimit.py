"""The rate limit service responds as envoyproxy/ratelimit does with the same descriptors."""

from collections.abc import AsyncIterator

import grpc
import pytest

from extproc.limits import LocalBudgets
from extproc.limits.descriptor_limiter import (
    MAX_COUNTERS,
    OTHER,
    DescriptorLimiter,
    DescriptorSettings,
    LimitCounts,
)
from extproc.limits.descriptors import DescriptorMatcher
from extproc.limits.ledger import Ledger
from extproc.services.ratelimit import RateLimitService
from extproc.transport import serve
from protos.ratelimit_pb2 import RateLimitDescriptor, RateLimitRequest, RateLimitResponse
from sluice.config.load import loads
from sluice.contract.paths import RATE_LIMIT

NOW = 1_700_000_000.0 - 1_700_000_000.0 % 60 + 10
OK, OVER = RateLimitResponse.OK, RateLimitResponse.OVER_LIMIT

CONFIG = """
limits:
  domains:
    models:
      descriptors:
        - key: subject
          rate_limit: {unit: minute, requests_per_unit: 10}
          descriptors:
            - key: model
              value: heavy
              rate_limit: {unit: minute, requests_per_unit: 2, name: heavy}
            - key: tier
        - key: subject
          value: trusted
          rate_limit: {unlimited: true}
        - key: path
          value: /v2/*
          rate_limit: {unit: second, requests_per_unit: 5}
        - key: trial
          shadow_mode: true
          rate_limit: {unit: hour, requests_per_unit: 1}
        - key: closed
          rate_limit: {unit: day, requests_per_unit: 0}
        - key: special
          rate_limit: {unit: minute, requests_per_unit: 4, replaces: [heavy]}
        - key: zone
          value: a
          descriptors:
            - key: user
              detailed_metric: true
              rate_limit: {unit: minute, requests_per_unit: 3}
        - key: file
          value: /img/*/v*.png
          rate_limit: {unit: second, requests_per_unit: 1}
        - key: month
          quota_mode: true
          rate_limit: {unit: month, requests_per_unit: 2}
        - key: day
          quota_mode: true
          rate_limit: {unit: day, requests_per_unit: 1}
"""

pytestmark = pytest.mark.anyio

Entries = tuple[tuple[str, str], ...]


class Client:
    """Calls the service over real gRPC, at a time that the test sets."""

    def __init__(self) -> None:
        self.now = NOW
        budgets = LocalBudgets(Ledger(100_000))
        matcher = DescriptorMatcher(loads(CONFIG).limits.domains)
        self.limiter = DescriptorLimiter(DescriptorSettings(matcher, budgets))
        service = RateLimitService(self.limiter, lambda: self.now)
        self._server = serve("asyncio", service.services(), "127.0.0.1:0")

    async def __aenter__(self) -> "Client":
        self._channel = grpc.aio.insecure_channel(await self._server.start())
        self.send = self._channel.unary_unary(
            RATE_LIMIT,
            request_serializer=RateLimitRequest.SerializeToString,
            response_deserializer=RateLimitResponse.FromString,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._channel.close()
        await self._server.close()

    async def call(
        self, *descriptors: Entries, hits: int = 0, domain: str = "models"
    ) -> RateLimitResponse:
        found = [described(each) for each in descriptors]
        request = RateLimitRequest(domain=domain, hits_addend=hits, descriptors=found)
        response: RateLimitResponse = await self.send(request)
        return response

    async def codes(self, times: int, *descriptors: Entries, hits: int = 0) -> list[int]:
        return [(await self.call(*descriptors, hits=hits)).overall_code for _ in range(times)]


def described(entries: Entries) -> RateLimitDescriptor:
    return RateLimitDescriptor(
        entries=[RateLimitDescriptor.Entry(key=key, value=value) for key, value in entries]
    )


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Client() as found:
        yield found


ALICE = (("subject", "alice"),)
BOB = (("subject", "bob"),)
HEAVY = (("subject", "alice"), ("model", "heavy"))


async def test_a_key_without_a_value_limits_each_value_separately(client: Client) -> None:
    assert await client.codes(12, ALICE) == [OK] * 10 + [OVER] * 2
    assert await client.codes(1, BOB) == [OK]


async def test_a_window_ends_with_the_minute_of_the_clock(client: Client) -> None:
    assert await client.codes(11, ALICE) == [OK] * 10 + [OVER]
    client.now += 50
    assert await client.codes(1, ALICE) == [OK]


async def test_a_status_has_the_limit_the_remaining_hits_and_the_reset(client: Client) -> None:
    status = (await client.call(HEAVY)).statuses[0]
    assert status.current_limit.requests_per_unit == 2
    assert status.current_limit.unit == RateLimitResponse.RateLimit.MINUTE
    assert status.current_limit.name == "heavy"
    assert (status.limit_remaining, status.duration_until_reset.seconds) == (1, 50)


@pytest.mark.parametrize(
    "entries",
    [
        (("unknown", "x"),),
        (("subject", "alice"), ("model", "light")),
        (("subject", "alice"), ("tier", "gold")),
        (("subject", "alice"), ("model", "heavy"), ("more", "x")),
        (("model", "heavy"),),
        (("path", "/v1/models"),),
    ],
)
async def test_a_descriptor_without_a_configured_limit_is_not_limited(
    client: Client, entries: Entries
) -> None:
    response = await client.call(entries, hits=1000)
    assert response.overall_code == OK
    assert not response.statuses[0].HasField("current_limit")


async def test_an_unknown_domain_has_no_limits(client: Client) -> None:
    assert (await client.call(ALICE, hits=1000, domain="other")).overall_code == OK


async def test_a_descriptor_with_a_value_precedes_a_descriptor_without_a_value(
    client: Client,
) -> None:
    response = await client.call((("subject", "trusted"),), hits=1000)
    assert (response.overall_code, response.statuses[0].limit_remaining) == (OK, 2**32 - 1)


async def test_a_prefix_limits_each_value_that_begins_with_it_separately(client: Client) -> None:
    assert await client.codes(6, (("path", "/v2/a"),)) == [OK] * 5 + [OVER]
    assert await client.codes(1, (("path", "/v2/b"),)) == [OK]


@pytest.mark.parametrize(
    ("value", "limited"),
    [
        ("/img/a/v1.png", True),
        ("/img//v.png", True),
        ("/img/a/b/v1.png", True),
        ("/img/v.png", False),
        ("/img/a/v1.jpg", False),
        ("x/img/a/v1.png", False),
    ],
)
async def test_a_star_matches_any_text(client: Client, value: str, limited: bool) -> None:
    response = await client.call((("file", value),))
    assert response.statuses[0].HasField("current_limit") is limited


async def test_a_request_is_refused_when_all_its_quotas_are_used_up(client: Client) -> None:
    quotas = ((("month", "x"),), (("day", "x"),))
    responses = [await client.call(*quotas) for _ in range(3)]
    assert [response.overall_code for response in responses] == [OK, OK, OVER]
    assert [status.code for status in responses[1].statuses] == [OK, OVER]


async def test_an_exceeded_limit_refuses_regardless_of_quotas(client: Client) -> None:
    assert (await client.call((("month", "x"),), (("closed", "x"),))).overall_code == OVER


async def test_a_limit_of_0_refuses_every_request(client: Client) -> None:
    assert await client.codes(2, (("closed", "x"),)) == [OVER] * 2


async def test_one_refused_descriptor_refuses_the_request_and_the_others_count(
    client: Client,
) -> None:
    responses = [await client.call(ALICE, HEAVY) for _ in range(3)]
    assert [response.overall_code for response in responses] == [OK, OK, OVER]
    assert [status.code for status in responses[2].statuses] == [OK, OVER]
    assert responses[2].statuses[0].limit_remaining == 7


async def test_hits_of_refused_requests_count(client: Client) -> None:
    assert await client.codes(2, ALICE, hits=6) == [OK, OVER]
    assert await client.codes(1, ALICE) == [OVER]


async def test_a_descriptor_can_set_its_own_hits_and_set_them_to_0(client: Client) -> None:
    request = RateLimitRequest(domain="models", hits_addend=9, descriptors=[described(HEAVY)])
    request.descriptors[0].hits_addend.value = 1
    assert (await client.send(request)).statuses[0].limit_remaining == 1
    request.descriptors[0].hits_addend.value = 0
    for _ in range(5):
        response = await client.send(request)
        assert (response.overall_code, response.statuses[0].limit_remaining) == (OK, 1)


async def test_a_descriptor_with_0_hits_is_refused_when_the_limit_is_used_up(
    client: Client,
) -> None:
    request = RateLimitRequest(domain="models", descriptors=[described(ALICE)])
    hits = request.descriptors[0].hits_addend
    hits.value = 7
    codes = []
    for _ in range(2):
        hits.value = 0
        codes.append((await client.send(request)).overall_code)
        hits.value = 7
        await client.send(request)
    hits.value = 0
    assert [*codes, (await client.send(request)).overall_code] == [OK, OK, OVER]


async def test_a_descriptor_can_set_its_own_limit(client: Client) -> None:
    request = RateLimitRequest(domain="models", descriptors=[described((("any", "x"),))])
    request.descriptors[0].limit.requests_per_unit = 1
    request.descriptors[0].limit.unit = RateLimitResponse.RateLimit.HOUR
    codes = [(await client.send(request)).overall_code for _ in range(2)]
    assert codes == [OK, OVER]


async def test_a_limit_can_replace_another_of_the_same_request(client: Client) -> None:
    codes = await client.codes(5, HEAVY, (("special", "x"),))
    assert codes == [OK] * 4 + [OVER]
    assert await client.codes(2, HEAVY) == [OK] * 2


async def test_shadow_mode_counts_and_admits(client: Client) -> None:
    assert await client.codes(3, (("trial", "x"),)) == [OK] * 3
    assert client.limiter.counts["models.trial"] == LimitCounts(
        total_hits=3, within_limit=1, over_limit=2, shadow_mode=2, near_limit=1
    )


async def test_shadow_mode_counts_only_the_hits_beyond_the_limit(client: Client) -> None:
    await client.codes(1, (("trial", "x"),), hits=5)
    assert client.limiter.counts["models.trial"].shadow_mode == 4


async def test_hits_near_and_over_the_limit_are_counted(client: Client) -> None:
    await client.codes(5, ALICE, hits=2)
    counts = client.limiter.counts["models.subject"]
    assert counts == LimitCounts(total_hits=10, within_limit=10, near_limit=2)
    await client.codes(1, ALICE, hits=3)
    assert counts == LimitCounts(total_hits=13, within_limit=10, near_limit=2, over_limit=3)


async def test_hits_of_one_request_can_be_partly_near_and_partly_over_the_limit(
    client: Client,
) -> None:
    await client.codes(1, ALICE, hits=7)
    await client.codes(1, ALICE, hits=6)
    counts = client.limiter.counts["models.subject"]
    assert counts == LimitCounts(total_hits=13, within_limit=7, near_limit=2, over_limit=3)


async def test_detailed_metrics_count_a_bounded_number_of_values(client: Client) -> None:
    await client.call((("zone", "a"), ("user", "u0")))
    assert "models.zone_a.user_u0" in client.limiter.counts
    for start in range(0, MAX_COUNTERS, 500):
        await client.call(*((("zone", "a"), ("user", f"u{n}")) for n in range(start, start + 501)))
    assert len(client.limiter.counts) == MAX_COUNTERS + 1
    assert client.limiter.counts[OTHER].total_hits > 0


async def test_headers_report_the_strictest_limit(client: Client) -> None:
    response = await client.call(ALICE, HEAVY)
    headers = {header.key: header.value for header in response.response_headers_to_add}
    assert headers == {"RateLimit-Limit": "2", "RateLimit-Remaining": "1", "RateLimit-Reset": "50"}


async def test_headers_report_the_limit_that_refuses(client: Client) -> None:
    responses = [await client.call((("trial", "x"),), HEAVY) for _ in range(3)]
    headers = {header.key: header.value for header in responses[-1].response_headers_to_add}
    assert headers["RateLimit-Limit"] == "2"


@pytest.mark.parametrize(
    "request_message",
    [
        RateLimitRequest(descriptors=[described(ALICE)]),
        RateLimitRequest(domain="models"),
        RateLimitRequest(domain="models", descriptors=[described(ALICE)] * 1001),
        RateLimitRequest(
            domain="models",
            descriptors=[RateLimitDescriptor(limit=RateLimitDescriptor.RateLimitOverride(unit=99))],
        ),
    ],
)
async def test_a_malformed_request_is_an_invalid_argument(
    client: Client, request_message: RateLimitRequest
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.send(request_message)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
