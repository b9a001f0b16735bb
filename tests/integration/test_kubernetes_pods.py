"""The containers of the laptop overlay and of the component `video` run as their manifests say, and
work together.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.cli import main
from tests import plain_http
from tests.deploy import cluster_files
from tests.deploy.local_pods import LocalPods, example_models, infer
from tests.deploy.manifests import GATEWAY, ROOT, overlay
from tests.deploy.video_component import with_video
from tests.integration.gateway import PATIENCE, eventually


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of the example models, by their names in the Service."""
    process, ports = example_models(
        overlay("laptop"), "127.0.0.1", tmp_path_factory.mktemp("models")
    )
    yield ports
    process.stop()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cluster_files.certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture(scope="module")
def pods(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, models: dict[str, int]
) -> Iterator[LocalPods]:
    folder = tmp_path_factory.mktemp("pods")
    cluster = cluster_files.create_secrets(folder / "created", certificates)
    endpoints = {
        "endpoints_from: { kubernetes: { service: example-models, namespace: sluice-models, "
        f"port: {name} }} }}": f'endpoints: [{{ address: "127.0.0.1:{port}" }}]'
        for name, port in models.items()
    }
    kustomization = folder / "kustomization"
    kustomization.mkdir()
    started = LocalPods(with_video(kustomization), folder, cluster, endpoints)
    try:
        started.start()
        yield started
    finally:
        started.stop()


def test_a_request_is_answered_by_the_version_of_its_group(
    pods: LocalPods, certificates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = infer(pods, cluster_files.token(certificates, capsys))
    assert (answer.status_code, answer.json()["model_version"]) == (200, "v2"), answer.text


def test_a_film_is_analysed_by_the_video_service(
    pods: LocalPods, certificates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = cluster_files.token(certificates, capsys)
    options = "rate=1&region=0.2,0.075,0.6,0.8"
    answer = plain_http.post(
        f"http://127.0.0.1:{pods.ports[8080]}/v2/models/digits/video?{options}",
        content=(ROOT / "examples/digits.mp4").read_bytes(),
        headers={"authorization": f"Bearer {token}", "content-type": "video/mp4"},
        timeout=PATIENCE,
    )
    assert answer.status_code == 200, answer.text
    *results, end = map(json.loads, answer.text.splitlines())
    outputs = [output for event in results for output in event["inference"]["outputs"]]
    digits = [output["data"] for output in outputs if output["name"] == "label"]
    assert (digits, end["end"]["reason"]) == ([[digit] for digit in range(10)], "")


def test_prometheus_reads_all_metrics_with_its_token(pods: LocalPods) -> None:
    token = pods.secret("sluice-tokens", "prometheus")
    ca = pods.secret("sluice-callout-identity", "ca.crt").encode()
    for port, name, metric in (
        (9902, "sluice-callout", b"sluice_worker_up"),
        (8081, "sluice-control-plane", b"sluice_xds_nodes"),
        (9903, "sluice-video", b"sluice_video_worker_up"),
    ):
        status, text = pods.get(port, "/metrics", tls=True, verified=(ca, name), token=token)
        assert (status, metric in text) == (200, True)
        status, _ = pods.get(port, "/metrics", tls=True, verified=(ca, name))
        assert status == 401
    _, text = pods.get(9901, "/stats/prometheus", tls=False)
    # The metric by which pods are scaled.
    pattern = rb'envoy_http_downstream_rq_active\{[^}]*envoy_http_conn_manager_prefix="gateway"'
    assert re.search(pattern, text)


def test_a_change_of_the_config_map_is_one_revision_of_both_control_planes(
    pods: LocalPods,
) -> None:
    ca = pods.secret("sluice-callout-identity", "ca.crt").encode(), "sluice-control-plane"
    token = pods.secret("sluice-tokens", "prometheus")

    def status(port: int) -> dict[str, object]:
        _, text = pods.get(port, "/v1/status", tls=True, verified=ca, token=token)
        found: dict[str, object] = json.loads(text)
        return found

    def revisions() -> tuple[object, object]:
        return status(8081)["revision"], status(28081)["revision"]

    assert revisions() == (1, 1)
    # No Envoy is asked, so none is silent.
    assert status(8081)["envoys"] == []
    for number, percent in enumerate((20, 30, 40), start=2):
        pods.edit_config(f"percent: {percent - 10}, model", f"percent: {percent}, model")
        eventually(lambda expected=number: revisions() == (expected, expected))  # type: ignore[misc]
    _, text = pods.get(8081, "/v1/history", tls=True, verified=ca, token=token)
    assert len(json.loads(text)["revisions"]) == 4


def test_the_status_can_be_read_in_the_pod_of_the_control_plane(
    pods: LocalPods, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", str(pods.config_file)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r", revision \d+ \(", shown)
    assert "not known: the control plane has asked no Envoy" in shown


def test_pods_end_in_order_without_losing_the_request_that_is_open(
    pods: LocalPods, certificates: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pods.terminate("envoy")
    eventually(lambda: pods.probe(GATEWAY, "envoy", "readinessProbe") == 503)
    # Load balancers have not noticed yet.
    assert infer(pods, cluster_files.token(certificates, capsys)).status_code == 200
    assert pods.probe(GATEWAY, "envoy", "livenessProbe") == 200
    assert pods.wait("envoy") == 0
    for name in ("callout", "video", "control-plane", "control-plane-second"):
        pods.terminate(name)
        assert pods.wait(name) == 0, pods.log(name)
