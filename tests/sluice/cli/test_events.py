"""`sluice events` goes on after the last event when its connection ends."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sluice.cli import main
from sluice.cli.api import MAX_EVENT_LINE
from sluice.cli.exit_status import ExitStatus
from sluice.http.events import ServerSentEvent, read_events
from sluice.http.server import serve_in_thread


@contextmanager
def server(*bodies: str) -> Iterator[tuple[str, list[str | None]]]:
    """A server with one body for each connection, and the `Last-Event-ID` of each."""
    last_ids: list[str | None] = []

    async def events(request: Request) -> Response:
        last_ids.append(request.headers.get("last-event-id"))
        return PlainTextResponse(bodies[len(last_ids) - 1], media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/events", events)])
    with serve_in_thread(app, "127.0.0.1:0", max_requests=5) as address:
        yield f"http://{address}", last_ids


def event(number: int, kind: str = "node", **data: object) -> str:
    return f"id: p-{number}\nevent: {kind}\ndata: {json.dumps({'at': 0.0, **data})}\n\n"


def test_events_are_read_by_the_rules_of_event_streams() -> None:
    lines = b": ping\r\n\r\nid: 1\nretry: 250\n\ndata: a\ndata:  b\nevent:x\n\nunfinished: 1\n"
    assert list(read_events(lines.splitlines(keepends=True))) == [
        ServerSentEvent("1", "message", "", 0.25),
        ServerSentEvent(None, "x", "a\n b"),
    ]


def test_a_connection_that_ends_is_resumed_after_the_last_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = "id: p-0\nretry: 10\n\n" + event(1, node="a\x1b[2J") + event(2, "nack", reason="no")
    with server(first, event(3, node="b")) as (url, last_ids):
        assert main(["events", "--control-plane", url, "--count", "3"]) == 0
    assert last_ids == [None, "p-2"]
    printed = capsys.readouterr()
    assert [line.split()[1:] for line in printed.out.splitlines()] == [
        ["node", "node=a\\x1b[2J"], ["nack", "reason=no"], ["node", "node=b"],
    ]  # fmt: skip
    assert "the connection has ended; connecting again in 0.01 s" in printed.err


def test_missed_events_are_said_whatever_the_kind(capsys: pytest.CaptureFixture[str]) -> None:
    missed = 'id: q-0\nevent: missed\ndata: {"missed": true}\n\n'
    with server(missed + event(1) + event(2, "nack", reason="x")) as (url, last_ids):
        arguments = ["events", "--control-plane", url, "--count", "2", "--kind", "nack"]
        assert main([*arguments, "--after", "p-9"]) == 0
    assert last_ids == ["p-9"]
    first, second = capsys.readouterr().out.splitlines()
    assert first == "events have been missed: sluice status shows the state"
    assert second.endswith("reason=x")


@pytest.mark.parametrize(
    "body", ["id: 1\ndata: [\n\n", "id: 1\ndata: 1\n\n", "data: " + "x" * (MAX_EVENT_LINE + 1)]
)
def test_a_stream_that_is_no_event_stream_of_the_gateway_is_an_error(
    body: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with server(body) as (url, _):
        assert main(["events", "--control-plane", url]) == ExitStatus.FAILED
    assert "answered, but" in capsys.readouterr().err


def test_without_a_control_plane_the_command_ends(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["events", "--control-plane", "http://127.0.0.1:1"]
    assert main(arguments) == ExitStatus.NO_CONTROL_PLANE
    assert "hint: start the gateway with `sluice up CONFIG`" in capsys.readouterr().err
