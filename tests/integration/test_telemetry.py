"""What operators see of real requests through a real Envoy: the log, metrics and profiles."""

import json
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sluice.cli import main
from tests.integration.gateway import Gateway, base_config, bearer, eventually, running, token
from tests.integration.load import Load

PATH = "/v2/models/echo/x"
JSON = {"content-type": "application/json"}
API_KEY = "api-key-that-nobody-may-see-0123456789"
SECRET = "profile-secret-that-nobody-may-see"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("telemetry")


@pytest.fixture(scope="module")
def own(directory: Path) -> Iterator[Gateway]:
    """A gateway that logs to files and may be profiled."""
    (directory / "secret").write_text(f"{SECRET}\n")
    config = base_config()
    config["telemetry"]["access_log"] = {"output": str(directory / "access.log")}
    config["telemetry"]["profile"] = {"secret_file": str(directory / "secret")}
    with running(config) as gateway:
        yield gateway


def lines(directory: Path) -> list[dict[str, Any]]:
    """What all workers have logged."""
    return [
        json.loads(line)
        for file in sorted(directory.glob("access-*.log"))
        for line in file.read_text().splitlines()
    ]


def logged(directory: Path, **wanted: object) -> dict[str, Any]:
    """The one line with these fields, once it is there."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [
            line for line in lines(directory)
            if all(line[key] == value for key, value in wanted.items())
        ]  # fmt: skip
        return bool(found)

    eventually(there)
    assert len(found) == 1, found
    return found[0]


def samples(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    url = f"http://{gateway.config['telemetry']['metrics']['address']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_a_request_is_logged_with_what_was_decided(own: Gateway, directory: Path) -> None:
    with own.client() as client:
        answer = client.post(
            f"{PATH}?query=1", json={"a": 1}, headers={**bearer("alice"), "user-agent": "admitted"}
        )
    line = logged(directory, user_agent="admitted")
    assert line["time"].endswith("Z")
    assert 0 < line["upstream_ms"] <= line["duration_ms"]
    known = {
        "method": "POST", "path": PATH, "protocol": "HTTP/1.1", "status": 200, "flags": "",
        "reason": "stable", "subject": "alice", "model": "echo", "version": "v1", "canary": False,
        "request_bytes": 7, "response_bytes": len(answer.content), "trace_id": "",
        "upstream": own.config["models"]["echo"]["versions"]["v1"]["endpoints"][0]["address"],
        "request_id": dict(answer.json()["headers"])["x-request-id"],
    }  # fmt: skip
    assert {key: line[key] for key in known} == known


def test_a_refusal_is_logged_with_its_reason(own: Gateway, directory: Path) -> None:
    with own.client() as client:
        client.post(PATH, json={}, headers={"user-agent": "anonymous"})
        client.post("/nowhere", json={}, headers={"user-agent": "lost"})
        client.post(
            f"{PATH}", json={},
            headers={**bearer("carol"), "x-model-version": "v9", "user-agent": "versionless"},
        )  # fmt: skip
    line = logged(directory, user_agent="anonymous")
    assert (line["status"], line["reason"], line["model"], line["version"]) == (
        401, "unauthenticated", "echo", "",
    )  # fmt: skip
    line = logged(directory, user_agent="lost")
    assert (line["status"], line["reason"], line["upstream_ms"]) == (404, "unknown_model", None)
    line = logged(directory, user_agent="versionless")
    assert (line["reason"], line["subject"]) == ("unknown_version", "carol")


def test_bytes_that_are_no_text_do_not_break_the_log(own: Gateway, directory: Path) -> None:
    host, _, port = own.config["listener"]["address"].rpartition(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(
            b'GET /v2/models/\xff"\\/ready HTTP/1.1\r\nhost: h\r\n'
            b"user-agent: odd \xff\xfe\r\nconnection: close\r\n\r\n"
        )
        while connection.recv(4096):
            pass
    with own.client() as client:
        client.post(PATH, json={}, headers={**bearer(), "user-agent": "after"})
    logged(directory, user_agent="after")
    assert samples(own, "sluice_reports_invalid_total") == 0


def test_no_secret_is_in_any_line(own: Gateway, directory: Path) -> None:
    good, bad = token("dave"), token("dave", exp=1)
    with own.client() as client:
        for credentials in (
            {"authorization": f"Bearer {good}"},
            {"authorization": f"Bearer {bad}"},
            {"x-api-key": API_KEY},
            {"cookie": f"session={API_KEY}"},
        ):
            client.post(f"{PATH}?token={good}&key={API_KEY}", json={}, headers=credentials)
        client.post(PATH, json={}, headers={"user-agent": "last"})
    logged(directory, user_agent="last")
    text = "".join(file.read_text() for file in directory.glob("access-*.log"))
    text += own.log.read_text()
    for secret in (good, bad, good.rpartition(".")[2], API_KEY):
        assert secret not in text


def test_metrics_of_all_workers_are_one(own: Gateway) -> None:
    before = {
        name: samples(own, name, **labels)
        for name, labels in (
            ("sluice_requests_total", {"model": "echo", "status": "2xx"}),
            ("sluice_decisions_total", {"verdict": "admit"}),
            ("sluice_request_seconds_count", {"model": "echo", "version": "v1"}),
        )
    }
    count = 100
    for _ in range(count):
        # A connection each, so that both workers decide.
        with own.client() as client:
            assert client.post(PATH, json={}, headers=bearer()).status_code == 200
    eventually(
        lambda: (
            samples(own, "sluice_requests_total", model="echo", status="2xx")
            == before["sluice_requests_total"] + count
        )
    )
    decided = samples(own, "sluice_decisions_total", verdict="admit")
    assert decided == before["sluice_decisions_total"] + count
    seen = samples(own, "sluice_request_seconds_count", model="echo", version="v1")
    assert seen == before["sluice_request_seconds_count"] + count
    assert samples(own, "sluice_worker_up") == 2


def test_models_that_clients_invent_make_no_series(own: Gateway) -> None:
    with own.client() as client:
        for number in range(50):
            client.post(f"/v2/models/invented-{number}/infer", json={}, headers=bearer())
            client.post(PATH, json={}, headers={**bearer(), "x-model-version": f"v{number}00"})
    eventually(lambda: samples(own, "sluice_requests_total", reason="unknown_version") >= 50)
    url = f"http://{own.config['telemetry']['metrics']['address']}/metrics"
    text = urllib.request.urlopen(url, timeout=5).read().decode()
    assert "invented" not in text
    assert 'v4900"' not in text


def test_metrics_go_on_where_a_killed_worker_left_off(own: Gateway) -> None:
    def decided() -> float:
        return samples(own, "sluice_decisions_total", verdict="admit")

    def workers() -> list[int]:
        return [node["pid"] for node in own.status()["nodes"] if node["kind"] == "callout"]

    def ask(count: int) -> None:
        for _ in range(count):
            with own.client() as client:
                assert client.post(PATH, json={}, headers=bearer()).status_code == 200

    before = decided()
    ask(50)
    assert decided() == before + 50
    for victim in workers():
        os.kill(victim, signal.SIGKILL)
        eventually(lambda v=victim: len(workers()) == 2 and v not in workers())
        assert decided() == before + 50
    eventually(lambda: _ready(own))
    resumed = decided()
    assert resumed > before + 50
    ask(50)
    assert decided() == resumed + 50
    assert samples(own, "sluice_worker_starts_total") == 4


def _ready(gateway: Gateway) -> bool:
    with gateway.client() as client:
        return all(
            client.post(PATH, json={}, headers=bearer()).status_code == 200 for _ in range(5)
        )


def test_the_control_plane_counts_what_it_pushed(own: Gateway) -> None:
    own.edit(lambda config: config["models"]["echo"].update(timeout=30))
    url = f"http://{own.config['control_plane']['http']}/metrics"
    text = urllib.request.urlopen(url, timeout=5).read().decode()
    assert 'sluice_xds_nodes{kind="callout"} 2.0' in text
    assert 'sluice_xds_nodes{kind="envoy"} 1.0' in text
    assert 'sluice_xds_config_reads_total{result="accepted"} 2.0' in text
    assert f'sluice_xds_version_info{{version="{own.status()["version"]}"}} 1.0' in text


def test_a_live_worker_is_profiled(own: Gateway, tmp_path: Path) -> None:
    workers = [node["pid"] for node in own.status()["nodes"] if node["kind"] == "callout"]
    graph, file = tmp_path / "flame.svg", tmp_path / "profile.json"
    address = own.config["listener"]["address"]
    with Load(address, PATH, {**JSON, **bearer()}) as traffic:
        traffic.wait_for(10)
        for output in (graph, file):
            arguments = ["--seconds", "1", "--worker", "1", "--output", str(output)]
            assert main(["profile", str(own.file), *arguments]) == 0
    assert traffic.failures == []
    assert "<svg" in graph.read_text()
    # The worker's own stack; what it was doing at the moment of a sample is a matter of chance.
    assert "Runner.run (asyncio/runners.py" in graph.read_text()
    assert json.loads(file.read_text())["$schema"].startswith("https://www.speedscope.app/")
    assert workers == [n["pid"] for n in own.status()["nodes"] if n["kind"] == "callout"]


def test_profiles_are_for_those_who_know_the_secret(own: Gateway) -> None:
    url = f"http://{own.config['telemetry']['metrics']['address']}/debug/profile"
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {SECRET}"}):
        answer = httpx.get(url, headers=header)
        assert answer.status_code == 401
        assert "www-authenticate" in answer.headers


def test_profiles_are_bounded(own: Gateway) -> None:
    url = f"http://{own.config['telemetry']['metrics']['address']}/debug/profile"
    headers = {"authorization": f"Bearer {SECRET}"}
    for query in ("seconds=61", "seconds=0", "seconds=-1", "format=exe", "worker=x"):
        assert httpx.get(f"{url}?{query}", headers=headers).status_code == 400
    assert httpx.get(f"{url}?worker=7", headers=headers).status_code == 404
    statuses: list[int] = []
    threads = [
        threading.Thread(
            target=lambda: statuses.append(
                httpx.get(f"{url}?seconds=2", headers=headers, timeout=30).status_code
            )
        )
        for _ in range(2)
    ]
    with Load(own.config["listener"]["address"], PATH, {**JSON, **bearer()}):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(statuses) == [200, 409]


def test_the_log_follows_the_config(own: Gateway, tmp_path: Path) -> None:
    before = own.config["telemetry"]["access_log"]

    def output(config: dict[str, Any], log: object) -> None:
        config["telemetry"]["access_log"] = log

    text = {"output": str(tmp_path / "text.log"), "format": "text"}
    own.edit(lambda config: output(config, text))
    asked = f"{PATH}/text"  # reports of the tests before may still be on their way
    with own.client() as client:
        client.post(f"{asked}?q=1", json={}, headers=bearer())
    files = [tmp_path / f"text-{worker}.log" for worker in range(2)]
    eventually(lambda: any(file.exists() and asked in file.read_text() for file in files))
    written = "".join(file.read_text() for file in files if file.exists()).splitlines()
    (line,) = [line for line in written if asked in line]
    time_, method, path, latency = line.rsplit(" ", 3)
    assert time.strptime(time_, "[%Y-%m-%d %H:%M:%S]")
    assert (method, path) == ("POST", asked)
    assert latency.endswith("ms")
    own.edit(lambda config: output(config, before))


def test_a_blocked_pipe_slows_no_request_and_its_losses_are_counted(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # which never reads
    config = base_config()
    config["telemetry"]["access_log"] = {"output": str(pipe), "queue": "64KiB"}
    try:
        with running(config) as gateway:
            address = gateway.config["listener"]["address"]
            with Load(address, PATH, {**JSON, **bearer()}, connections=8) as traffic:
                eventually(lambda: samples(gateway, "sluice_log_dropped_total") > 500, 60)
                answered, began = traffic.responses, time.monotonic()
                traffic.wait_for(1000)
                blocked = (traffic.responses - answered) / (time.monotonic() - began)
                gateway.edit(lambda c: c["telemetry"].update(access_log={"output": "none"}))
                answered, began = traffic.responses, time.monotonic()
                traffic.wait_for(1000)
                free = (traffic.responses - answered) / (time.monotonic() - began)
            assert traffic.failures == []
            # Far above what a blocked request would leave, far below what noise could do.
            assert blocked > free / 3
            assert samples(gateway, "sluice_log_dropped_total", cause="queue_full") > 500
    finally:
        os.close(reader)
