"""Requests to the servers of a gateway reach them directly, and end in time."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from sluice.contract.names import CALLOUT_CLUSTER
from sluice.http.client import NoAnswerError, fetch_status
from sluice.http.server import serve_in_thread
from sluice.runner.envoy import healthy_workers
from tests.trickle import trickle
from xds.envoys.admin import AdminSource
from xds.envoys.source import Observation


async def answer_status(_: Request) -> JSONResponse:
    return JSONResponse({"nodes": []})


async def answer_clusters(request: Request) -> PlainTextResponse | JSONResponse:
    if request.query_params.get("format") == "json":
        return JSONResponse({})
    return PlainTextResponse(f"{CALLOUT_CLUSTER}::127.0.0.1:9::health_flags::healthy\n")


async def answer_info(_: Request) -> JSONResponse:
    return JSONResponse({"node": {"id": "envoy-1"}})


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    routes = [
        Route("/v1/status", answer_status),
        Route("/clusters", answer_clusters),
        Route("/server_info", answer_info),
    ]
    with serve_in_thread(Starlette(routes=routes), "127.0.0.1:0", max_requests=5) as address:
        assert fetch_status(f"http://{address}", "nodes", proxy=True) == {"nodes": []}
        assert healthy_workers(address) == 1
        assert isinstance(AdminSource(address).ask(), Observation)


def test_a_response_that_arrives_too_slowly_is_an_error() -> None:
    with trickle(b"HTTP/1.1 200 OK\r\n\r\n", b" ") as (address, left):
        with pytest.raises(NoAnswerError, match="no response in time"):
            fetch_status(f"http://{address}", "nodes", timeout=0.2)
        assert left.wait(60)
