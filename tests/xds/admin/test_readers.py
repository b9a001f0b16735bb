"""What readers send to be checked does not delay operators, and uses no rights of the gateway."""

import asyncio
import json
from pathlib import Path

import pytest
from starlette.requests import Request

from sluice.config.checked import LoadedConfig
from xds.admin.access import Principal, Role
from xds.admin.api.operations import YAML, Call, Deferred, Query, Result
from xds.admin.api.problems import ProblemError, Reason
from xds.admin.config import ConfigOperations
from xds.admin.edits import MAX_WAITING_READERS, CheckQuery, Edits, WriteQuery
from xds.candidate.apply import Applier
from xds.resources.compiled import CompiledConfig, compile_config
from xds.sources.store.sqlite import SqliteStore
from xds.sources.store.store import Draft

pytestmark = pytest.mark.anyio

READER, OPERATOR = Principal("ann", Role.READER), Principal("bob", Role.OPERATOR)
SLOW, OTHER = "envoy: {concurrency: 3}", "envoy: {concurrency: 2}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Plane:
    """The operations on a config. The compilation of `SLOW` waits until `go_on` is set."""

    def __init__(self) -> None:
        self.compiling, self.go_on = asyncio.Event(), asyncio.Event()
        self.asked: list[bool] = []
        self.store = SqliteStore()
        applier = Applier(self.store, Path(), self._compile, lambda: None)
        listed = ConfigOperations(Edits(applier)).operations()
        self._handlers = {(each.method, each.path): each.handler for each in listed}

    async def _compile(self, loaded: LoadedConfig, *, ask: bool, dry_run: bool) -> CompiledConfig:
        self.asked.append(ask)
        if loaded.text == SLOW:
            self.compiling.set()
            await self.go_on.wait()
        return compile_config(loaded, loaded.config)

    async def call(
        self, principal: Principal, method: str, path: str, query: Query, text: str
    ) -> Result | Deferred:
        request = Request({"type": "http", "method": method, "path": path, "headers": []})
        call = Call(request, principal, {}, query, YAML, text.encode())
        return await self._handlers[method, path](call)

    async def validate(
        self, principal: Principal, text: str, *, strict: bool = False
    ) -> Result | Deferred:
        query = CheckQuery(strict=strict)
        return await self.call(principal, "POST", "/v1/config/validate", query, text)


@pytest.fixture
async def plane() -> Plane:
    plane = Plane()
    await plane.store.append(Draft("{}", "v", "ann", "", "api"), expected=0)
    return plane


async def test_an_operator_does_not_wait_for_checks_of_readers(plane: Plane) -> None:
    checks = [asyncio.create_task(plane.validate(READER, SLOW)) for _ in range(MAX_WAITING_READERS)]
    async with asyncio.timeout(60):
        await plane.compiling.wait()
        with pytest.raises(ProblemError) as refused:
            await plane.validate(READER, OTHER)
        assert refused.value.reason is Reason.TOO_MANY_REQUESTS
        changed = await plane.call(OPERATOR, "PUT", "/v1/config", WriteQuery(), OTHER)
        assert json.loads(bytes(getattr(changed, "body", b"")))["revision"] == 2
        plane.go_on.set()
        assert len(await asyncio.gather(*checks)) == MAX_WAITING_READERS


async def test_only_checks_of_operators_ask_sources_of_endpoints(plane: Plane) -> None:
    await plane.validate(READER, OTHER)
    await plane.validate(OPERATOR, OTHER)
    assert plane.asked == [False, True]


async def test_a_reader_cannot_run_envoy(plane: Plane) -> None:
    with pytest.raises(ProblemError) as refused:
        await plane.validate(READER, OTHER, strict=True)
    assert refused.value.reason is Reason.ROLE_REQUIRED
    assert plane.asked == []
