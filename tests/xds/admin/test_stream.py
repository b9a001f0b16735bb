"""The stream of events tells what happens, and where a reader continues."""

import json
import socket
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx
import pytest

from tests.integration.gateway import eventually
from tests.xds.admin.plane import Plane, config_file, plane
from xds.admin.stream import MAX_STREAMS
from xds.candidate.start import StartOptions
from xds.events import CAPACITY
from xds.sources.store.sqlite import SqliteStore

TEXT = 'models: {a: {versions: {v1: {endpoints: [{address: "127.0.0.1:9001"}]}}}}\n'


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Plane]:
    file = config_file(tmp_path, TEXT)
    with plane(StartOptions(file, "memory"), SqliteStore()) as running:
        yield running


def events(response: httpx.Response) -> Iterator[dict[str, str]]:
    """The fields of each event."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if not line and fields:
            yield fields
            fields = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


def emit(api: Plane, count: int, more: str = "") -> None:
    def run() -> None:
        for number in range(count):
            api.events.emit("node", node=f"n{number}{more}")

    api.loop.call_soon_threadsafe(run)


def test_a_change_is_a_revision_and_a_rollout(api: Plane) -> None:
    with api.client.stream("GET", "/v1/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = events(response)
        first = next(found)
        assert first.keys() == {"id", "retry"}
        assert api.patch("/v1/models/a?reason=slow", {"timeout": "5s"}).status_code == 200
        revision = next(found)
        assert revision["event"] == "revision"
        data = json.loads(revision["data"])
        assert (data["revision"], data["author"], data["reason"]) == (2, "local", "slow")
        rollouts = []
        for event in found:
            data = json.loads(event["data"])
            assert (event["event"], data["revision"]) == ("rollout", 2)
            rollouts.append(data["step"])
            if data["step"] == "in_force":
                break
        assert rollouts == ["decide", "switch", "in_force"]


def test_a_reader_continues_after_its_last_event(api: Plane) -> None:
    with api.client.stream("GET", "/v1/events") as response:
        start = next(events(response))["id"]
    emit(api, 3)
    with api.client.stream("GET", "/v1/events", headers={"last-event-id": start}) as response:
        found = list(islice(events(response), 4))
    assert found[0]["id"] == start
    assert [json.loads(each["data"])["node"] for each in found[1:]] == ["n0", "n1", "n2"]
    with api.client.stream(
        "GET", "/v1/events", headers={"last-event-id": found[2]["id"]}
    ) as response:
        assert list(islice(events(response), 2))[1] == found[3]


@pytest.mark.parametrize("last", ["x", "00000000-1", "", "{start}-lost"])
def test_a_reader_learns_that_it_has_missed_events(api: Plane, last: str) -> None:
    if last == "{start}-lost":
        with api.client.stream("GET", "/v1/events") as response:
            last = next(events(response))["id"]
        emit(api, CAPACITY + 1)
    with api.client.stream("GET", "/v1/events", headers={"last-event-id": last}) as response:
        first, second = islice(events(response), 2)
    assert first["event"] == "missed"
    assert second["event"] in ("rollout", "node")


def test_streams_are_bounded_and_freed(api: Plane) -> None:
    host, _, port = api.address.partition(":")
    opened = [socket.create_connection((host, int(port))) for _ in range(MAX_STREAMS)]
    for each in opened:
        each.sendall(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b"200 OK" in each.recv(1000)
    refused = api.get("/v1/events")
    assert (refused.status_code, refused.json()["reason"]) == (503, "too_many_requests")
    for each in opened:
        each.close()
    eventually(lambda: is_free(api))


def test_changes_of_canaries_by_operators_are_events(api: Plane) -> None:
    versions = {"v2": {"endpoints": [{"address": "127.0.0.1:9002"}]}}
    assert api.patch("/v1/models/a", {"stable": "v1", "versions": versions}).status_code == 200
    canary = "/v1/models/a/canaries/v2"
    assert api.send("PUT", canary, {"percent": 5}).status_code == 200
    assert api.send("POST", f"{canary}/promote").status_code == 200
    with api.client.stream("GET", "/v1/events", headers={"last-event-id": "0"}) as response:
        told = (each for each in events(response) if each.get("event") == "canary")
        found = [json.loads(next(told)["data"]) for _ in range(2)]
    expected = {"model": "a", "version": "v2", "action": "set", "revision": 3, "percent": 5}
    assert expected.items() <= found[0].items()
    expected = {"model": "a", "version": "v2", "action": "promote", "revision": 4}
    assert expected.items() <= found[1].items()
    assert "reason" not in found[0]


def is_free(api: Plane) -> bool:
    with api.client.stream("GET", "/v1/events") as response:
        return response.status_code == 200


def test_streams_that_are_opened_at_once_are_bounded(api: Plane) -> None:
    host, _, port = api.address.partition(":")
    opened = [socket.create_connection((host, int(port))) for _ in range(MAX_STREAMS + 8)]
    held = threading.Event()
    api.loop.call_soon_threadsafe(held.wait, 20)
    for each in opened:
        each.sendall(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
    held.set()
    answers = [each.recv(12) for each in opened]
    for each in opened:
        each.close()
    assert answers.count(b"HTTP/1.1 200") == MAX_STREAMS
    eventually(lambda: is_free(api))


def test_a_reader_that_takes_no_data_is_disconnected(
    api: Plane, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("xds.admin.stream.SEND_TIMEOUT", 0.2)
    caplog.set_level("INFO", "xds.admin.stream")
    host, _, port = api.address.partition(":")
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((host, int(port)))
        reader.sendall(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b"200 OK" in reader.recv(1000)
        emit(api, CAPACITY, "x" * 10_000)
        eventually(lambda: "took no data, and is disconnected" in caplog.text)
