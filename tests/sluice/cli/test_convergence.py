"""`--wait` follows a revision through its stage, and through the steps of canaries since then."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.cli import convergence
from sluice.cli.api import Api
from sluice.cli.commands import CommandError
from sluice.cli.convergence import wait_for_nodes
from sluice.cli.exit_status import ExitStatus
from sluice.cli.gateway import GatewayAddress
from sluice.http.server import serve_in_thread

STAGE = {"version": "v5", "revision": 5, "begun": 5, "nodes": ["a"], "remaining": 59.6}


def status(version: str, stage: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"version": version, "in_sync": True, "watched": None, "stage": stage, "nodes": []}


def revision(number: int, author: str, origin: str = "api", reason: str = "") -> dict[str, Any]:
    return {
        "revision": number, "version": f"v{number}", "author": author, "origin": origin,
        "reason": reason,
    }  # fmt: skip


@contextmanager
def control_plane(history: list[dict[str, Any]], *statuses: dict[str, Any]) -> Iterator[Api]:
    """An admin API with these revisions, and one status after the other. The last one stays."""
    left = list(statuses)

    async def answer(request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        if name == "status":
            return JSONResponse(left.pop(0) if len(left) > 1 else left[0])
        views = [each["view"] for each in statuses[-1]["nodes"]]
        return JSONResponse({"nodes": views} if name == "nodes" else {"revisions": history})

    app = Starlette(routes=[Route("/v1/{name}", answer)])
    with serve_in_thread(app, "127.0.0.1:0", max_requests=5) as address:
        yield Api(GatewayAddress(f"http://{address}", "a test"))


def test_a_step_of_a_canary_during_a_stage_replaces_no_revision() -> None:
    steps = [revision(6, "sluice", "canary"), revision(5, "ann")]
    stepped = {**STAGE, "version": "v6", "revision": 6}
    with control_plane(steps, status("v4", STAGE), status("v4", stepped), status("v6")) as api:
        assert wait_for_nodes(api, 5, "v5", 30.0) == ExitStatus.OK


def test_nobody_waits_for_a_client_of_the_config_source_of_istiod() -> None:
    """It has no credentials, so a stranger may have rejected the version."""
    view = {
        "id": "i", "kind": "istiod", "state": "nack", "version": None, "lag": 1.0, "reason": "no",
    }  # fmt: skip
    rejected = {"virtual_services": {"nacked": "v5", "reason": "no"}}
    node = {"id": "i", "kind": "istiod", "types": rejected, "view": view}
    with control_plane([revision(5, "ann")], {**status("v5"), "nodes": [node]}) as api:
        assert wait_for_nodes(api, 5, "v5", 30.0) == ExitStatus.OK


def test_the_lines_about_a_stage_name_its_envoys_and_once_the_time_that_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convergence, "JUDGED_INTERVAL", 0.0)
    several = {**STAGE, "nodes": ["a", "b", "c", "d", "e"]}
    looks = [{**STAGE, "remaining": 58.1}, {**several, "remaining": 57.0}, several]
    statuses = [status("v4", each) for each in (STAGE, *looks)]
    with control_plane([revision(5, "ann")], *statuses, status("v5")) as api:
        wait_for_nodes(api, 5, "v5", 30.0)
    assert capsys.readouterr().err.splitlines()[:-2] == [
        "nodes: no node, staged at 1 Envoy: a; the others follow in 60 s",
        "nodes: no node, staged at 5 Envoys: a, b, c and 2 more",
    ]


@pytest.mark.parametrize(
    ("newer", "expected", "message"),
    [
        (revision(6, "bob"), ExitStatus.CONFLICT, "revision 6 has replaced it"),
        (
            revision(6, "sluice", "rollback", "revision 5 is rejected: the NACK"),
            ExitStatus.REJECTED,
            "revision 5 is rejected: the NACK",
        ),
    ],
)
def test_a_revision_that_is_replaced_or_undone_is_an_error(
    newer: dict[str, Any], expected: ExitStatus, message: str
) -> None:
    history = [newer, revision(5, "ann")]
    with control_plane(history, status("v4")) as api, pytest.raises(CommandError) as caught:
        wait_for_nodes(api, 5, "v5", 30.0)
    assert caught.value.status is expected
    assert message in str(caught.value)
