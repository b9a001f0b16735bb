"""The access log and the metrics of a gateway with a real Envoy.

They are the same whether Envoy admits requests alone or the callout decides all.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sluice.contract.names import CALLOUT_CLUSTER
from sluice.contract.report import MAX_TEXT
from sluice.version import VERSION
from tests import plain_http
from tests.integration.gateway import (
    INFER,
    Gateway,
    base_config,
    bearer,
    callout_calls,
    eventually,
    running,
    token,
)
from tests.integration.load import Load

JSON = {"content-type": "application/json"}
API_KEY = "api-key-0123456789-0123456789"


@pytest.fixture(scope="module")
def gateway(placement: str, directory: Path) -> Iterator[Gateway]:
    """A gateway that logs to files."""
    config = base_config(placement)
    config["telemetry"]["access_log"] = {"output": str(directory / "access.log")}
    versions = config["models"]["echo"]["versions"]
    for own, name in (("auto", "native"), ("callout", "callout")):
        path = f"/v2/models/echo/{name}"
        config["models"][name] = {
            "stable": "v1", "versions": versions, "placement": own, "paths": [path],
        }  # fmt: skip
    with running(config) as gateway:
        yield gateway


def whole_lines(file: Path) -> list[str]:
    """The lines of a log, without one of which only a part is written."""
    return file.read_text().rpartition("\n")[0].splitlines()


def lines(directory: Path) -> list[dict[str, Any]]:
    """The log lines of all workers."""
    return [
        json.loads(line)
        for file in sorted(directory.glob("access-*.log"))
        for line in whole_lines(file)
    ]


def logged(directory: Path, user_agent: str) -> dict[str, Any]:
    """Wait for the one log line with this user agent."""

    def matching() -> list[dict[str, Any]]:
        return [line for line in lines(directory) if line["user_agent"] == user_agent]

    eventually(lambda: bool(matching()))
    (line,) = matching()
    return line


def callout_url(gateway: Gateway, path: str) -> str:
    return f"http://{gateway.config['telemetry']['metrics']['address']}{path}"


def metric(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    text = plain_http.get(callout_url(gateway, "/metrics")).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def finished_requests(gateway: Gateway) -> int:
    """The requests that Envoy has finished. It reports each of them, but not at once."""
    url = f"http://{gateway.config['envoy']['admin']}/stats?filter=http.gateway.downstream_rq_completed"
    return int(plain_http.get(url).text.rpartition(":")[2])


def admissions(gateway: Gateway) -> float:
    return metric(gateway, "sluice_decisions_total", verdict="admit")


def post(gateway: Gateway, count: int) -> None:
    """Send requests on separate connections, so that Envoy distributes them over the workers."""
    for _ in range(count):
        with gateway.client() as client:
            assert client.post(INFER, json={}, headers=bearer()).status_code == 200


def test_an_admitted_request_is_logged_with_its_decision(
    gateway: Gateway, placement: str, directory: Path
) -> None:
    with gateway.client() as client:
        response = client.post(
            f"{INFER}?query=1", json={"a": 1}, headers={**bearer("alice"), "user-agent": "admitted"}
        )
    line = logged(directory, "admitted")
    assert line["time"].endswith("Z")
    assert 0 < line["upstream_ms"] <= line["duration_ms"]
    expected = {
        "method": "POST", "path": INFER, "protocol": "HTTP/1.1", "status": 200, "flags": "",
        "reason": "stable", "subject": "alice", "model": "echo", "version": "v1", "canary": False,
        "request_bytes": 7, "response_bytes": len(response.content), "trace_id": "",
        "upstream": gateway.config["models"]["echo"]["versions"]["v1"]["endpoints"][0]["address"],
        "request_id": dict(response.json()["headers"])["x-request-id"],
        "placement": "native" if placement == "auto" else "callout",
    }  # fmt: skip
    assert {key: line[key] for key in expected} == expected


OF_ONE_REQUEST = {
    "time", "path", "model", "placement", "duration_ms", "upstream_ms", "request_id", "user_agent",
    "response_bytes",
}  # fmt: skip
"""Log fields that differ between two requests to two models."""


def test_a_native_request_is_logged_and_counted_like_one_of_the_callout(
    gateway: Gateway, directory: Path
) -> None:
    def native() -> float:
        return metric(gateway, "sluice_requests_by_placement_total", placement="native")

    before, decided = native(), admissions(gateway)
    found = []
    with gateway.client() as client:
        for name in ("native", "callout"):
            path = f"/v2/models/echo/{name}"
            sent = {**bearer("alice"), "user-agent": f"{name}-{gateway.config['placement']}"}
            response = client.post(f"{path}?q=1", json={}, headers=sent)
            assert response.status_code == 200
            line = logged(directory, sent["user-agent"])
            assert (line["placement"], line["model"], line["path"]) == (name, name, path)
            assert line["request_id"] == dict(response.json()["headers"])["x-request-id"]
            assert 0 < line["upstream_ms"] <= line["duration_ms"]
            found.append(line)
    one, other = (
        {name: value for name, value in line.items() if name not in OF_ONE_REQUEST}
        for line in found
    )
    assert one == other
    assert native() == before + 1
    assert admissions(gateway) == decided + 2


def test_a_refusal_is_logged_with_its_reason(gateway: Gateway, directory: Path) -> None:
    with gateway.client() as client:
        client.post(INFER, json={}, headers={"user-agent": "anonymous"})
        client.post("/nowhere", json={}, headers={"user-agent": "lost"})
        client.post(
            INFER, json={},
            headers={**bearer("carol"), "x-model-version": "v9", "user-agent": "versionless"},
        )  # fmt: skip
    line = logged(directory, "anonymous")
    assert (line["status"], line["reason"], line["model"], line["version"]) == (
        401, "unauthenticated", "echo", "",
    )  # fmt: skip
    line = logged(directory, "lost")
    assert (line["status"], line["reason"], line["upstream_ms"]) == (404, "unknown_model", None)
    line = logged(directory, "versionless")
    assert (line["reason"], line["subject"]) == ("unknown_version", "carol")


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (INFER, {}),
        (INFER, {"x-model-version": "v9"}),
    ],
    ids=["admitted", "refused"],
)
def test_a_long_subject_is_logged_in_part(
    gateway: Gateway, directory: Path, path: str, more: dict[str, str]
) -> None:
    user_agent = f"long subject {path} {len(more)}"
    with gateway.client() as client:
        sent = {**bearer("s" * 20_000), "user-agent": user_agent, **more}
        client.post(path, json={}, headers=sent)
    assert logged(directory, user_agent)["subject"] == "s" * MAX_TEXT


@pytest.mark.parametrize(
    ("claims", "cause"), [({"exp": 1}, "expired"), ({"aud": "other"}, "wrong_audience")]
)
def test_refused_credentials_are_logged_and_counted_with_their_cause(
    gateway: Gateway, directory: Path, claims: dict[str, object], cause: str
) -> None:
    def counted() -> float:
        return metric(gateway, "sluice_credentials_refused_total", cause=cause)

    before = counted()
    with gateway.client() as client:
        client.post(INFER, json={}, headers={**bearer(**claims), "user-agent": cause})
    line = logged(directory, cause)
    assert (line["status"], line["reason"], line["cause"]) == (401, "invalid_credentials", cause)
    assert counted() == before + 1


def test_bytes_that_are_not_text_do_not_break_the_log(gateway: Gateway, directory: Path) -> None:
    host, _, port = gateway.config["listener"]["address"].rpartition(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(
            b'GET /v2/models/\xff"\\/ready HTTP/1.1\r\nhost: h\r\n'
            b"user-agent: odd \xff\xfe\r\nconnection: close\r\n\r\n"
        )
        while connection.recv(4096):
            pass
    with gateway.client() as client:
        client.post(INFER, json={}, headers={**bearer(), "user-agent": "after"})
    logged(directory, "after")
    assert metric(gateway, "sluice_reports_invalid_total") == 0


def test_the_log_contains_no_credentials(gateway: Gateway, directory: Path) -> None:
    valid, expired = token("dave"), token("dave", exp=1)
    with gateway.client() as client:
        for credentials in (
            {"authorization": f"Bearer {valid}"},
            {"authorization": f"Bearer {expired}"},
            {"x-api-key": API_KEY},
            {"cookie": f"session={API_KEY}"},
        ):
            client.post(f"{INFER}?token={valid}&key={API_KEY}", json={}, headers=credentials)
        client.post(INFER, json={}, headers={"user-agent": "last"})
    logged(directory, "last")
    text = "".join(file.read_text() for file in directory.glob("access-*.log"))
    text += gateway.log.read_text()
    for secret in (valid, expired, valid.rpartition(".")[2], API_KEY):
        assert secret not in text


def test_metrics_are_aggregated_over_all_workers(gateway: Gateway) -> None:
    def requests() -> float:
        return metric(gateway, "sluice_requests_total", model="echo", status="2xx")

    def timed() -> float:
        return metric(gateway, "sluice_request_seconds_count", model="echo", version="v1")

    eventually(lambda: metric(gateway, "sluice_requests_total") == finished_requests(gateway))
    before = requests(), admissions(gateway), timed()
    post(gateway, 100)
    eventually(lambda: requests() == before[0] + 100)
    assert (admissions(gateway), timed()) == (before[1] + 100, before[2] + 100)
    assert metric(gateway, "sluice_worker_up") == 2
    assert metric(gateway, "sluice_build_info", version=VERSION) == 1


def test_unknown_models_and_versions_do_not_become_labels(gateway: Gateway) -> None:
    with gateway.client() as client:
        for number in range(50):
            client.post(f"/v2/models/invented-{number}/infer", json={}, headers=bearer())
            client.post(INFER, json={}, headers={**bearer(), "x-model-version": f"v{number}00"})
    eventually(lambda: metric(gateway, "sluice_requests_total", reason="unknown_version") >= 50)
    text = plain_http.get(callout_url(gateway, "/metrics")).text
    assert "invented" not in text
    assert 'v4900"' not in text


def test_every_request_is_counted_although_workers_are_killed(
    gateway: Gateway, directory: Path
) -> None:
    """Envoy repeats a batch of reports whose worker has ended without a response."""

    def requests() -> float:
        return metric(gateway, "sluice_requests_total", model="echo")

    with gateway.client() as client:
        client.post(INFER, json={}, headers={**bearer(), "user-agent": "before kills"})
    logged(directory, "before kills")
    before = requests()
    address = gateway.config["listener"]["address"]
    with Load(address, INFER, {**JSON, **bearer()}) as load:
        for victim in gateway.workers():
            load.wait_for(100)
            os.kill(victim, signal.SIGKILL)
            eventually(lambda pid=victim: pid not in gateway.workers())
            eventually(lambda: len(gateway.workers()) == 2)
        load.wait_for(100)
    sent = load.responses + len(load.failures)
    eventually(lambda: requests() - before >= sent)
    # A worker may have counted a batch and been killed before its response.
    assert requests() - before <= sent + 50


def test_metrics_survive_a_killed_worker(gateway: Gateway) -> None:
    before, starts = admissions(gateway), metric(gateway, "sluice_worker_starts_total")
    post(gateway, 50)
    eventually(lambda: admissions(gateway) == before + 50)
    for victim in gateway.workers():
        os.kill(victim, signal.SIGKILL)
        eventually(lambda pid=victim: len(gateway.workers()) == 2 and pid not in gateway.workers())
        assert admissions(gateway) == before + 50
    served = 0

    def serves() -> bool:
        nonlocal served
        with gateway.client() as client:
            answers = [client.post(INFER, json={}, headers=bearer()) for _ in range(5)]
        admitted = [answer.status_code for answer in answers].count(200)
        served += admitted
        return admitted == len(answers)

    eventually(serves)
    post(gateway, 50)
    eventually(lambda: admissions(gateway) == before + 50 + served + 50)
    assert metric(gateway, "sluice_worker_starts_total") == starts + 2


def test_the_control_plane_serves_metrics_of_its_config_and_nodes(gateway: Gateway) -> None:
    gateway.edit(lambda config: config["models"]["echo"].update(timeout=30))
    text = plain_http.get(f"http://{gateway.config['control_plane']['http']}/metrics").text
    assert 'sluice_xds_nodes{kind="callout"} 2.0' in text
    assert 'sluice_xds_nodes{kind="envoy"} 1.0' in text
    assert 'sluice_xds_config_reads_total{result="accepted"} 2.0' in text
    assert f'sluice_xds_version_info{{version="{gateway.status()["version"]}"}} 1.0' in text


def test_a_batch_of_reports_has_the_configured_size(gateway: Gateway) -> None:
    def batches() -> int:
        """Calls of Envoy to the workers, without those about decisions."""
        admin = gateway.config["envoy"]["admin"]
        name = f"cluster.{CALLOUT_CLUSTER}.upstream_rq_total"
        calls = plain_http.get(f"http://{admin}/stats?filter=^{name}$").text
        return int(calls.rpartition(":")[2]) - callout_calls(gateway)

    before = gateway.config["telemetry"].get("reports", {})
    small = {"flush_interval": 60, "buffer_size": "1KiB"}
    gateway.edit(lambda config: config["telemetry"].update(reports=small))
    sent = batches()
    post(gateway, 60)
    # A report has a few hundred bytes.
    assert batches() > sent + 10
    gateway.edit(lambda config: config["telemetry"].update(reports=before))


def test_the_log_follows_the_config(gateway: Gateway, tmp_path: Path) -> None:
    def set_log(config: dict[str, Any], access_log: object) -> None:
        config["telemetry"]["access_log"] = access_log

    before = gateway.config["telemetry"]["access_log"]
    as_text = {"output": str(tmp_path / "text.log"), "format": "text"}
    gateway.edit(lambda config: set_log(config, as_text))
    # A path of its own: reports of earlier requests may still be on their way.
    path = "/v2/models/echo/versions/v1/infer"
    with gateway.client() as client:
        client.post(f"{path}?q=1", json={}, headers=bearer())

    def matching() -> list[str]:
        files = tmp_path.glob("text-*.log")
        return [line for file in files for line in whole_lines(file) if path in line]

    eventually(lambda: bool(matching()))
    (line,) = matching()
    timestamp, method, logged_path, latency = line.rsplit(" ", 3)
    assert time.strptime(timestamp, "[%Y-%m-%d %H:%M:%S]")
    assert (method, logged_path) == ("POST", path)
    assert latency.endswith("ms")
    gateway.edit(lambda config: set_log(config, before))


def test_a_blocked_pipe_blocks_no_request_and_its_lost_lines_are_counted(
    placement: str, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Opened, so that the workers can open the pipe; never read, so that they block.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    config = base_config(placement)
    config["telemetry"]["access_log"] = {"output": str(pipe), "queue": "64KiB"}
    try:
        with running(config) as gateway:
            address = gateway.config["listener"]["address"]
            with Load(address, INFER, {**JSON, **bearer()}, connections=8) as load:
                eventually(lambda: metric(gateway, "sluice_log_dropped_total") > 500)
                # A request that waits for the pipe would never get a response.
                load.wait_for(1000)
                gateway.edit(lambda c: c["telemetry"].update(access_log={"output": "none"}))
                load.wait_for(100)
            assert load.failures == []
            assert metric(gateway, "sluice_log_dropped_total", cause="queue_full") > 500
    finally:
        os.close(reader)
