"""`sluice status` and `sluice explain` against a running gateway."""

import json

import pytest

from extproc.decision.decide import STAGES
from sluice.cli import main
from tests.integration.gateway import Gateway, token

PRIVATE = "/v2/models/echo/private"


def explain(gateway: Gateway, *arguments: str) -> int:
    return main(["explain", "--xds", gateway.config["control_plane"]["xds"], *arguments])


def test_status_shows_the_version_and_all_nodes(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://{gateway.config['control_plane']['http']}"
    assert main(["status", "--url", url]) == 0
    output = capsys.readouterr().out
    assert main(["status", "--url", url, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert f"version   {status['version']} (in sync)" in output
    assert {node["kind"] for node in status["nodes"]} >= {"envoy", "callout"}
    assert all(node["id"] in output for node in status["nodes"])


def test_status_shows_the_breaker_of_every_version(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://{gateway.config['control_plane']['http']}"
    assert main(["status", "--url", url]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    closed = {line[0] for line in lines if len(line) == 4 and line[1] == "closed"}
    models = gateway.config["models"]
    assert closed == {f"{name}/{v}" for name, model in models.items() for v in model["versions"]}


def test_status_succeeds_without_the_callout(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://{gateway.config['control_plane']['http']}"
    assert main(["status", "--url", url, "--callout", "http://127.0.0.1:1"]) == 0
    output = capsys.readouterr().out
    assert "(in sync)" in output
    assert "callout   unknown: no callout at http://127.0.0.1:1: " in output


def test_explain_shows_every_stage_and_the_decision(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    authorization = f"authorization: Bearer {token('alice', group='vip')}"
    assert explain(gateway, "-H", authorization, PRIVATE) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[1:-1]] == [stage.name for stage in STAGES]
    assert lines[-1] == "-> private/v2 (claim)"


def test_explain_and_the_gateway_make_the_same_decision(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    with gateway.client() as client:
        for user in range(20):
            headers = {"x-user-id": f"user-{user}"}
            response = client.get("/v2/models/echo/x", headers=headers)
            explain(gateway, "-X", "GET", "-H", f"x-user-id: user-{user}", "/v2/models/echo/x")
            decision = capsys.readouterr().out.splitlines()[-1]
            reason = response.headers["x-sluice-reason"]
            assert decision == f"-> echo/{response.json()['version']} ({reason})"


def test_explain_names_the_stage_that_refuses(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(gateway, PRIVATE) == 0
    output = capsys.readouterr().out
    assert "REFUSE authorize    401 unauthenticated: credentials are required" in output


def test_explain_without_a_gateway_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--xds", "127.0.0.1:1", "/x"]) == 1
    assert "no policy from 127.0.0.1:1" in capsys.readouterr().err
