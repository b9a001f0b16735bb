"""With a real Envoy: status and log show which endpoints and processes do not work.

A dead endpoint is noticed in the same way if Envoy admits requests alone.
"""

import json
import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from tests.integration.gateway import (
    REQUESTS_TO_OPEN,
    Config,
    Gateway,
    base_config,
    bearer,
    callout_calls,
    eventually,
    free_ports,
    running,
    stopped,
)

CHECK = {"path": "/v2/health/live", "interval": "200ms", "timeout": "1s", "unhealthy_threshold": 1}


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """`checked` has a live and a dead endpoint, `named` a name that has no address."""
    config = base_config()
    echo = config["models"]["echo"]
    live = echo["versions"]["v1"]["endpoints"][0]
    dead = {"address": f"127.0.0.1:{free_ports(1)[0]}"}
    named = {"address": "no-such-host.invalid:80"}
    config["models"] |= {
        "checked": {
            **echo,
            "versions": {"v1": {"endpoints": [live, dead], "health_check": CHECK}},
        },
        "named": {**echo, "versions": {"v1": {"endpoints": [named]}}},
        "dead": {**echo, "versions": {"v1": {"endpoints": [dead]}}},
        "found": {**echo, "versions": {"v1": {"endpoints_from": {"file": "endpoints.json"}}}},
        "drained": {**echo, "versions": {"v1": {"endpoints": [{**live}, {**dead}]}}},
    }
    config["models"]["decided"] = {**config["models"]["dead"], "placement": "callout"}
    for name in ("checked", "named", "dead", "decided", "drained", "found"):
        del config["models"][name]["stable"]
    with running(config) as gateway:
        yield gateway


def states(gateway: Gateway, cluster: str) -> dict[str, str]:
    (envoy,) = gateway.status()["envoys"]
    return {e["address"]: e["state"] for e in envoy["endpoints"] if e["cluster"] == cluster}


def address(gateway: Gateway, model: str, number: int = 0) -> str:
    endpoint: dict[str, str] = gateway.config["models"][model]["versions"]["v1"]["endpoints"][
        number
    ]
    return endpoint["address"]


def test_endpoints_are_shown_with_their_health(gateway: Gateway) -> None:
    live, dead = address(gateway, "checked"), address(gateway, "checked", 1)
    eventually(lambda: states(gateway, "checked/v1") == {live: "healthy", dead: "unhealthy"})
    eventually(lambda: set(states(gateway, "named/v1").values()) == {"unresolved"})
    (envoy,) = gateway.status()["envoys"]
    assert (envoy["node"], envoy["error"]) == ("envoy", None)


def test_an_endpoint_that_dies_and_returns_is_logged(gateway: Gateway) -> None:
    dead = address(gateway, "checked", 1)
    line = f"endpoint {dead} of checked/v1: "
    host, port = dead.split(":")
    with socket.create_server((host, int(port))) as server:
        answering = _answer_health_checks(server)
        eventually(lambda: states(gateway, "checked/v1")[dead] == "healthy")
        server.shutdown(socket.SHUT_RDWR)
        answering.join()
    eventually(lambda: states(gateway, "checked/v1")[dead] == "unhealthy")
    eventually(lambda: f"{line}healthy -> unhealthy (its health check" in gateway.log.read_text())


def test_a_draining_endpoint_gets_no_requests(gateway: Gateway) -> None:
    path = "/v2/models/drained/infer"
    first, second = address(gateway, "drained"), address(gateway, "drained", 1)

    def drain(*numbers: int) -> None:
        def change(config: Config) -> None:
            listed = config["models"]["drained"]["versions"]["v1"]["endpoints"]
            for number in numbers:
                listed[number]["drain"] = True

        gateway.edit(change)

    with gateway.client() as client:
        drain(1)
        eventually(lambda: states(gateway, "drained/v1") == {first: "healthy", second: "draining"})
        answers = [client.post(path, json={}, headers=bearer()) for _ in range(20)]
        # The server does not know the model. The other endpoint would not answer at all.
        assert {answer.status_code for answer in answers} == {404}
        drain(0)
        refused = client.post(path, json={}, headers=bearer())
        assert (refused.status_code, refused.json()["reason"]) == (503, "no_healthy_endpoint")


def test_endpoints_come_from_a_file_that_another_program_writes(gateway: Gateway) -> None:
    live = address(gateway, "checked")
    version = gateway.status()["version"]

    def write(content: object) -> None:
        draft = gateway.directory / "draft"
        draft.write_text(json.dumps(content))
        draft.replace(gateway.directory / "endpoints.json")

    def answer() -> int:
        with gateway.client() as client:
            return client.post("/v2/models/found/infer", json={}, headers=bearer()).status_code

    def warned() -> bool:
        kinds = [warning["code"] for warning in gateway.status()["warnings"]]
        return "outdated_endpoints" in kinds

    assert (answer(), warned()) == (503, True)
    write([{"address": live}])
    # The server does not know the model.
    eventually(lambda: answer() == 404)
    eventually(lambda: states(gateway, "found/v1") == {live: "healthy"})
    assert not warned()
    write({"not": "a list"})
    eventually(warned)
    assert answer() == 404
    write([{"address": live, "drain": True}])
    eventually(lambda: answer() == 503)
    assert gateway.status()["version"] == version


def _answer_health_checks(server: socket.socket) -> Thread:
    def answer() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                )

    thread = Thread(target=answer)
    thread.start()
    return thread


@pytest.mark.parametrize(("model", "native"), [("dead", True), ("decided", False)])
def test_an_endpoint_without_a_health_check_is_unreachable_and_its_breaker_opens(
    gateway: Gateway, model: str, native: bool
) -> None:
    dead = address(gateway, model)
    path, before = f"/v2/models/{model}/infer", callout_calls(gateway)
    with gateway.client() as client:
        assert client.post(path, json={}, headers=bearer()).status_code == 503
    assert (callout_calls(gateway) == before) is native

    def is_unreachable() -> bool:
        with gateway.client() as client:
            for _ in range(REQUESTS_TO_OPEN):
                client.post(path, json={}, headers=bearer())
        return states(gateway, f"{model}/v1") == {dead: "unreachable"}

    eventually(is_unreachable)
    opened = f"breaker of {model}/v1: closed -> open"
    eventually(lambda: f"{opened} after" in gateway.log.read_text())
    assert gateway.log.read_text().count(opened) == 1


def test_an_envoy_that_is_frozen_is_shown(gateway: Gateway) -> None:
    (envoy,) = gateway.processes("--config-path")
    with stopped(envoy):
        eventually(lambda: gateway.status()["envoys"][0]["error"] is not None)
        (seen,) = gateway.status()["envoys"]
        assert "no response in time" in seen["error"]
        assert seen["node"] == "envoy"
        assert seen["age"] > 1
    eventually(lambda: gateway.status()["envoys"][0]["error"] is None)


def test_a_worker_that_is_frozen_is_ejected(gateway: Gateway) -> None:
    worker, *_ = gateway.workers()
    index = [node["pid"] for node in gateway.status()["nodes"]].index(worker)
    frozen = f"{gateway.config['callout']['address']}-{index}"
    with stopped(worker):
        eventually(lambda: states(gateway, "sluice-callout")[frozen] in ("ejected", "unhealthy"))
    eventually(lambda: states(gateway, "sluice-callout")[frozen] == "healthy")
