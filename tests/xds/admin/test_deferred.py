"""Results with a whole config are made by a thread, so that nodes do not wait for readers."""

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from sluice.config.access import Access
from sluice.http.access import AccessGuard
from sluice.http.hosts import HostGuard
from xds.admin.access import Principal, Role
from xds.admin.api.operations import Call, Deferred, Operation, routes
from xds.admin.config import ConfigOperations
from xds.admin.edits import Edits
from xds.admin.history import HistoryOperations
from xds.candidate.apply import Applier
from xds.sources.store.sqlite import SqliteStore
from xds.sources.store.store import Draft

WHOLE_CONFIGS = ("/v1/config", "/v1/history/{revision}", "/v1/history/{revision}/diff")


@pytest.mark.parametrize("path", WHOLE_CONFIGS)
def test_whole_configs_are_shown_by_a_thread(path: str) -> None:
    async def test() -> None:
        store = SqliteStore()
        await store.append(Draft("{}", "v", "ann", "", "api"), expected=0)
        edits = Edits(Applier(store, Path(), NotImplemented, lambda: None))
        listed = (*ConfigOperations(edits).operations(), *HistoryOperations(edits).operations())
        operation = next(each for each in listed if (each.method, each.path) == ("GET", path))
        request = Request({"type": "http", "method": "GET", "path": path, "headers": []})
        caller = Principal("ann", Role.READER)
        call = Call(request, caller, {"revision": "1"}, operation.query(), "", b"")
        assert isinstance(await operation.handler(call), Deferred)
        await store.close()

    asyncio.run(test())


def test_results_of_a_thread_are_made_one_after_the_other() -> None:
    one, made = threading.Lock(), list[bool]()

    def make() -> Response:
        alone = one.acquire(blocking=False)
        threading.Event().wait(0.01)  # long enough for others to begin
        made.append(alone)
        one.release()
        return Response()

    async def answer(_: Call) -> Deferred:
        return Deferred(make)

    async def test() -> None:
        operation = Operation("GET", "/v1/slow", Role.READER, "", answer, None)
        guard = AccessGuard(Access, Path(), HostGuard("127.0.0.1:1", (), "key"), trusted=True)
        transport = httpx.ASGITransport(Starlette(routes=routes([operation], guard)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answers = await asyncio.gather(*(client.get("/v1/slow") for _ in range(10)))
        assert {each.status_code for each in answers} == {200}

    asyncio.run(test())
    assert made == [True] * 10
