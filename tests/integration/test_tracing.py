"""Envoy sends spans and log records of requests to a real OTLP server.

They are the same whether Envoy admits requests alone or the callout decides all.
"""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

import httpx
import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sluice.contract import headers
from sluice.contract.report import MAX_TEXT
from tests.integration.collector import Collector, attributes
from tests.integration.gateway import INFER, base_config, bearer, running

PARENT = "1" * 16

Item = TypeVar("Item", Span, LogRecord)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def traced(
    anyio_backend: str, placement: str
) -> AsyncIterator[tuple[Collector, httpx.AsyncClient]]:
    """A collector, and a client of a gateway that sends all spans and records to it."""
    async with Collector() as collector:
        config = base_config(placement)
        config["telemetry"]["tracing"] = {"otlp": {"address": collector.address}}
        config["telemetry"]["otlp_log"] = {"address": collector.address}
        config["models"]["limited"] = config["models"]["echo"]
        config["limits"]["models"] = {"limited": {"rate": 1, "burst": 1}}
        gateway = running(config)
        started = await asyncio.to_thread(gateway.__enter__)
        try:
            async with httpx.AsyncClient(base_url=started.url, timeout=30) as client:
                yield collector, client
        finally:
            await asyncio.to_thread(gateway.__exit__, None, None, None)


@pytest.fixture
def decided(placement: str) -> str:
    """The attribute `sluice.placement` of a request that Envoy can decide alone."""
    return "native" if placement == "auto" else "callout"


def traceparent(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{PARENT}-01"}


async def spans_until(
    traced: tuple[Collector, httpx.AsyncClient], condition: Callable[[], bool]
) -> None:
    """Waits for spans. Envoy sends them when there are five of a thread, or else every 5 s."""
    collector, client = traced
    for _ in range(5):
        await client.post(INFER, json={})
    await collector.wait_for(condition)


def of_trace(items: Iterable[Item], trace_id: str) -> list[Item]:
    return [item for item in items if item.trace_id.hex() == trace_id]


@pytest.mark.anyio
async def test_a_trace_continues_to_the_model_server_and_shows_the_decision(
    traced: tuple[Collector, httpx.AsyncClient], decided: str
) -> None:
    collector, client = traced
    trace_id = secrets.token_hex(16)
    response = await client.post(
        f"{INFER}?password=hidden", json={}, headers={**bearer("alice"), **traceparent(trace_id)}
    )
    calls = 0 if decided == "native" else 1
    await spans_until(traced, lambda: len(of_trace(collector.spans, trace_id)) == 2 + calls)
    spans = of_trace(collector.spans, trace_id)
    (request,) = [span for span in spans if span.parent_span_id.hex() == PARENT]
    (model,) = [span for span in spans if span.name.startswith("router")]
    assert sum("ext_proc" in span.name for span in spans) == calls
    assert {span.parent_span_id for span in spans if span is not request} == {request.span_id}
    sent = dict(response.json()["headers"])
    assert sent["traceparent"] == f"00-{trace_id}-{model.span_id.hex()}-01"
    found = attributes(request)
    assert {key: value for key, value in found.items() if key.startswith("sluice.")} == {
        "sluice.model": "echo",
        "sluice.version": "v1",
        "sluice.service": "echo/v1",
        "sluice.subject": "alice",
        "sluice.reason": "stable",
        "sluice.details": "via_upstream",
        "sluice.placement": decided,
    }
    assert found["http.url"] == f"{client.base_url}{INFER}"
    assert "hidden" not in str(spans)


@pytest.mark.anyio
async def test_a_refusal_is_traced_with_its_reason(
    traced: tuple[Collector, httpx.AsyncClient],
) -> None:
    collector, client = traced
    trace_id = secrets.token_hex(16)
    sent = {**traceparent(trace_id), headers.MODEL_VERSION: "v2"}
    await client.post(INFER, json={}, headers=sent)

    def ingress() -> list[Span]:
        return [span for span in of_trace(collector.spans, trace_id) if span.name == "ingress"]

    await spans_until(traced, lambda: bool(ingress()))
    (request,) = ingress()
    found = attributes(request)
    assert "v2" not in found.values()
    assert found["http.status_code"] == "401"
    assert found["sluice.details"].startswith("sluice:unauthenticated")


@pytest.mark.anyio
async def test_a_request_that_a_local_limit_refuses_is_decided_nowhere(
    traced: tuple[Collector, httpx.AsyncClient],
) -> None:
    collector, client = traced
    trace_id = secrets.token_hex(16)
    for _ in range(2):
        sent = {**bearer(), **traceparent(trace_id)}
        last = await client.post("/v2/models/limited/infer", json={}, headers=sent)
    assert last.status_code == 429

    def refused(items: Iterable[Item]) -> list[dict[str, str]]:
        found = map(attributes, of_trace(items, trace_id))
        return [each for each in found if "local_rate_limited" in each.values()]

    await spans_until(traced, lambda: bool(refused(collector.spans) and refused(collector.records)))
    for (found,) in (refused(collector.spans), refused(collector.records)):
        assert found.get("sluice.placement", "") == ""


@pytest.mark.parametrize("path", [INFER, f"/{'s' * 2000}"])
@pytest.mark.parametrize("grpc", [False, True])
@pytest.mark.anyio
async def test_spans_have_parts_of_long_texts(
    traced: tuple[Collector, httpx.AsyncClient], path: str, grpc: bool
) -> None:
    """An issuer chooses the length of a subject, and clients choose those of other texts."""
    collector, client = traced
    trace_id = secrets.token_hex(16)
    names = ("user-agent", "x-client-trace-id", headers.GRPC_TIMEOUT)
    long = "s" * 2000
    sent = bearer(long) | traceparent(trace_id) | dict.fromkeys(names, long)
    sent["host"] = f"{long}.example"
    sent["content-type"] = f"application/grpc+{long}" if grpc else "application/json"
    await client.post(path, content=b"{}", headers=sent)

    def spans() -> list[Span]:
        return of_trace(collector.spans, trace_id)

    await spans_until(traced, lambda: any(span.name == "ingress" for span in spans()))
    found = [item for span in spans() for item in attributes(span).items()]
    assert ("user_agent", long[:MAX_TEXT]) in found
    assert grpc == (("grpc.authority", long[:MAX_TEXT]) in found)
    if path == INFER and not grpc:
        assert ("sluice.subject", long[:MAX_TEXT]) in found
    # `http.url` has two of them, and a scheme.
    assert {name: len(value) for name, value in found if len(value) > 2 * MAX_TEXT + 10} == {}
    assert grpc or not any(name.startswith("grpc.") for name, _ in found)


@pytest.mark.anyio
async def test_a_log_record_has_a_part_of_a_long_subject_and_the_real_path(
    traced: tuple[Collector, httpx.AsyncClient],
) -> None:
    collector, client = traced
    trace_id = secrets.token_hex(16)
    forged = {"x-envoy-original-path": "/forged", "x-sluice-subject": "root"}
    sent = {**bearer("s" * 20_000), **traceparent(trace_id), **forged}
    await client.post(INFER, json={}, headers=sent)
    await collector.wait_for(lambda: bool(of_trace(collector.records, trace_id)))
    (record,) = of_trace(collector.records, trace_id)
    found = attributes(record)
    assert found["sluice.subject"] == "s" * MAX_TEXT
    assert found["url.path"] == INFER


@pytest.mark.anyio
async def test_a_log_record_shows_the_decision(
    traced: tuple[Collector, httpx.AsyncClient], decided: str
) -> None:
    collector, client = traced
    trace_id = secrets.token_hex(16)
    token = bearer("bob")
    sent = {**token, **traceparent(trace_id), "user-agent": "recorded"}
    await client.post(f"{INFER}?password=hidden", json={}, headers=sent)
    await collector.wait_for(lambda: bool(of_trace(collector.records, trace_id)))
    (record,) = of_trace(collector.records, trace_id)
    assert record.body.string_value == f"POST {INFER} 200"
    found = attributes(record)
    expected = {
        "http.request.method": "POST",
        "url.path": INFER,
        "http.response.status_code": "200",
        "sluice.service": "echo/v1",
        "sluice.subject": "bob",
        "sluice.reason": "stable",
        "sluice.placement": decided,
        "user_agent.original": "recorded",
    }
    assert {key: found[key] for key in expected} == expected
    text = str(collector.records)
    assert "hidden" not in text
    assert token["authorization"].partition(" ")[2] not in text


@pytest.mark.parametrize(
    "start", ["GET / HTTP/1.1", "GET /%2f HTTP/1.1\r\nhost: a", "OPTIONS * HTTP/1.1\r\nhost: a"]
)
@pytest.mark.anyio
async def test_a_client_cannot_forge_the_record_of_a_request_that_has_no_route(
    traced: tuple[Collector, httpx.AsyncClient], start: str
) -> None:
    """Envoy refuses the request before it removes headers that only the gateway may set."""
    collector, client = traced
    agent = secrets.token_hex(16)
    names = (
        headers.MODEL_SERVICE, headers.SUBJECT, headers.REASON, headers.CANARY, headers.REQUEST_ID,
    )  # fmt: skip
    fields = "".join(f"{name}: forged/v1\r\n" for name in names)
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as connection:
        connection.sendall(f"{start}\r\nuser-agent: {agent}\r\n{fields}\r\n".encode())

        def records() -> list[LogRecord]:
            return [each for each in collector.records if agent in attributes(each).values()]

        await collector.wait_for(lambda: bool(records()))
    assert "forged" not in str(records())
    assert attributes(records()[0])["http.response.status_code"] in {"400", "404"}
