"""`sluice status` and `sluice explain` against a running gateway."""

import json

import pytest

from extproc.decision.decide import STAGES
from sluice.cli import main
from tests.integration.gateway import Gateway, eventually, token

PRIVATE = "/v2/models/echo/private"


def explain(gateway: Gateway, *arguments: str) -> int:
    return main(["explain", str(gateway.file), *arguments])


def test_status_shows_the_version_and_all_nodes(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://{gateway.config['control_plane']['http']}"
    assert main(["status", "--url", url]) == 0
    output = capsys.readouterr().out
    assert main(["status", "--url", url, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert f"version   {status['version']}, revision 1 (in sync)" in output
    assert {node["kind"] for node in status["nodes"]} >= {"envoy", "callout"}
    assert all(node["id"] in output for node in status["nodes"])


def test_the_breaker_of_every_version_is_shown(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://{gateway.config['control_plane']['http']}"
    eventually(lambda: gateway.status()["breakers"]["known"])
    assert main(["get", "breakers", "--control-plane", url, "-o", "json"]) == 0
    breakers = json.loads(capsys.readouterr().out)["breakers"]
    closed = {f"{b['model']}/{b['version']}" for b in breakers if b["state"] == "closed"}
    models = gateway.config["models"]
    assert closed == {f"{name}/{v}" for name, model in models.items() for v in model["versions"]}


def test_status_succeeds_without_the_callout(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://{gateway.config['control_plane']['http']}"
    assert main(["status", "--url", url, "--callout", "http://127.0.0.1:1"]) == 0
    output = capsys.readouterr().out
    assert "(in sync)" in output
    assert "callout   unknown: no answer from the callout at http://127.0.0.1:1: " in output


def test_explain_shows_every_stage_and_the_decision(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    authorization = f"authorization: Bearer {token('alice', group='vip')}"
    assert explain(gateway, "-X", "POST", "-H", authorization, PRIVATE) == 0
    lines = capsys.readouterr().out.splitlines()
    stages = [line[8:20].strip() for line in lines[1:]]
    assert stages[1 : 1 + len(STAGES)] == [stage.name for stage in STAGES]
    assert lines[-1] == "-> private/v2 (claim)"


def test_explain_names_the_stage_that_refuses(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(gateway, "-X", "POST", PRIVATE) == 3
    output = capsys.readouterr().out
    assert "REFUSE  authorize    401 unauthenticated: credentials are required" in output
    assert "skip    breaker      not evaluated: the request is refused before" in output


def test_explain_without_a_gateway_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--control-plane", "http://127.0.0.1:1", "/x"]) == 5
    assert "no answer from the control plane at http://127.0.0.1:1" in capsys.readouterr().err
