"""The admin source reads the answers of Envoy, and says why it has no answer."""

import asyncio
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.http.server import serve_in_thread
from tests.trickle import trickle
from xds.envoys import admin
from xds.envoys.admin import AdminSource
from xds.envoys.source import Host, NoObservation, Observation

SOCKET = {"socket_address": {"address": "10.0.0.1", "port_value": 80}}


@contextmanager
def envoy(clusters: Any, info: Any = None) -> Iterator[str]:
    """The address of an admin interface with these answers: JSON, or a whole response."""

    async def answer_clusters(request: Request) -> Response:
        assert request.query_params["format"] == "json"
        return clusters if isinstance(clusters, Response) else JSONResponse(clusters)

    async def answer_info(_: Request) -> Response:
        return JSONResponse({"node": {"id": "envoy-1"}} if info is None else info)

    routes = [Route("/clusters", answer_clusters), Route("/server_info", answer_info)]
    with serve_in_thread(Starlette(routes=routes), "127.0.0.1:0", max_requests=5) as address:
        yield address


def host(address: Any = SOCKET, **health: Any) -> dict[str, Any]:
    return {"address": address, "health_status": {"eds_health_status": "HEALTHY", **health}}


def asked(*hosts: dict[str, Any]) -> tuple[Host, ...]:
    clusters = {"cluster_statuses": [{"name": "m/v1", "host_statuses": list(hosts)}]}
    with envoy(clusters) as address:
        found = AdminSource(address).ask()
    assert isinstance(found, Observation)
    assert found.node == "envoy-1"
    return found.clusters["m/v1"]


@pytest.mark.parametrize(
    ("health", "problems"),
    [
        ({}, ()),
        ({"failed_active_health_check": True}, ("its health check fails",)),
        (
            {"failed_active_health_check": True, "active_hc_timeout": True},
            ("its health check times out",),
        ),
        ({"failed_outlier_check": True}, ("ejected after failures in a row",)),
        ({"failed_active_health_check": True, "pending_active_hc": True}, ()),
        ({"eds_health_status": "DRAINING"}, ()),
    ],
)
def test_the_health_of_a_host_is_read(health: dict[str, object], problems: tuple[str, ...]) -> None:
    (found,) = asked(host(**health))
    assert found.problems == problems
    assert found.draining == ("eds_health_status" in health)
    assert found.ejected == ("failed_outlier_check" in health)
    assert found.checking == ("pending_active_hc" in health)


def test_addresses_names_and_counts_are_read() -> None:
    counts = [
        {"name": "cx_total", "value": "7"},
        {"name": "cx_connect_fail", "value": "3"},
        {"name": "rq_success"},
        {"name": "cx_active", "type": "GAUGE", "value": "1"},
    ]
    ipv6 = {"socket_address": {"address": "::1", "port_value": 80}}
    found = asked(
        {**host(), "hostname": "models.test", "stats": counts},
        host({"pipe": {"path": "/run/m"}}),
        host(ipv6),
    )
    assert found == (
        Host("10.0.0.1:80", "models.test", connections=7, failed_connections=3),
        Host("unix:/run/m"),
        Host("[::1]:80"),
    )


def test_the_statistics_of_many_hosts_do_not_fill_the_memory() -> None:
    stats = [{"type": "GAUGE", "name": f"number_{n}", "value": str(n)} for n in range(20)]
    cluster = {"name": "m/v1", "host_statuses": [{**host(), "stats": stats}] * 2000}
    answer = json.dumps({"cluster_statuses": [cluster]}).encode()
    with envoy(Response(answer)) as address:
        tracemalloc.start()
        found = AdminSource(address).ask()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert isinstance(found, Observation)
    assert len(found.clusters["m/v1"]) == 2000
    assert peak < 5 * len(answer)


def test_a_cluster_without_hosts_is_read() -> None:
    assert asked() == ()


@pytest.mark.parametrize(
    ("clusters", "info"),
    [
        ([], None),
        ({"cluster_statuses": [{"host_statuses": []}]}, None),
        ({"cluster_statuses": [{"name": "m", "host_statuses": [{"address": {}}]}]}, None),
        ({}, {"node": "x"}),
        ({}, []),
    ],
)
def test_an_answer_of_something_else_is_no_observation(clusters: Any, info: Any) -> None:
    with envoy(clusters, info) as address:
        found = AdminSource(address).ask()
    assert found == NoObservation("the answer is not that of an Envoy's admin interface")


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 100_000,
        b'{"node": {"id": {"x": 1}}}',
        b'{"node": {"id": "x"}, "cluster_statuses": [{"name": 1}]}',
        b'{"node": {"id": "x"}, "cluster_statuses": [{"name": "m", "host_statuses": [{"address": '
        b'{"socket_address": {"address": "x y:z", "port_value": 1}}}]}]}',
        b'{"node": {"id": "x"}, "cluster_statuses": [{"name": "m", "host_statuses": [{"address": '
        b'{"socket_address": {"address": "10.0.0.1", "port_value": 1}}, "hostname": 7}]}]}',
        b'{"node": {"id": "x"}, "cluster_statuses": [{"name": "m", "host_statuses": [{"address": '
        b'{"socket_address": {"address": "10.0.0.1", "port_value": 1}}, "stats": '
        b'[{"name": "cx_total", "value": 1e999}]}]}]}',
    ],
)
def test_no_answer_ends_the_source(answer: bytes) -> None:
    """An exception of the source would end the control plane."""
    app = Starlette(routes=[Route("/{path}", lambda _: Response(answer))])
    with serve_in_thread(app, "127.0.0.1:0", max_requests=5) as address:
        found = AdminSource(address).ask()
    assert found == NoObservation("the answer is not that of an Envoy's admin interface")


def test_the_size_of_an_answer_is_bounded_by_the_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "MIN_MAX_ANSWER", 0)
    monkeypatch.setattr(admin, "MAX_ENDPOINT", 100)
    with envoy({"cluster_statuses": [], "x": "x" * 200}) as address:
        assert isinstance(AdminSource(address, lambda: 3).ask(), Observation)
        found = AdminSource(address, lambda: 2).ask()
    assert found == NoObservation("answered, but the response has more than 200 bytes")


def test_an_answer_that_arrives_too_slowly_is_no_observation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admin, "TIMEOUT", 0.2)
    with trickle(b"HTTP/1.1 200 OK\r\n\r\n", b" ") as (address, left):
        assert AdminSource(address).ask() == NoObservation("no response in time; is it running?")
        assert left.wait(60)


def test_a_status_that_is_no_success_is_no_observation() -> None:
    app = Starlette(routes=[Route("/{path}", lambda _: Response(b"{}", 302))])
    with serve_in_thread(app, "127.0.0.1:0", max_requests=5) as address:
        assert AdminSource(address).ask() == NoObservation("answered 302: {}")


def test_the_id_of_a_node_is_printable_and_short() -> None:
    with envoy({}, {"node": {"id": "\x1b[2J" + "x" * 1000}}) as address:
        found = AdminSource(address).ask()
    assert isinstance(found, Observation)
    assert found.node.startswith("\\x1b[2Jx")
    assert len(found.node) == 200


def test_no_answer_is_no_observation_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    found = AdminSource("127.0.0.1:1").ask()
    assert isinstance(found, NoObservation)
    assert "refused" in found.error
    with envoy({"cluster_statuses": []}) as address:
        assert AdminSource(address).ask() == Observation("envoy-1", {})


def test_the_source_reports_until_it_is_cancelled() -> None:
    async def first() -> tuple[str, object]:
        reported: asyncio.Future[tuple[str, object]] = asyncio.get_running_loop().create_future()

        def report(source: str, found: object) -> None:
            if not reported.done():
                reported.set_result((source, found))

        asking = asyncio.create_task(AdminSource(address).run(report))
        try:
            return await asyncio.wait_for(reported, 60)
        finally:
            asking.cancel()

    with envoy(json.loads('{"cluster_statuses": []}')) as address:
        assert asyncio.run(first()) == (address, Observation("envoy-1", {}))
