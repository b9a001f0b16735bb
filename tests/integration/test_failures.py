"""Processes die under load: traffic recovers, and nothing is admitted that nobody decided on."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.integration.gateway import Gateway, alive, base_config, bearer, eventually, running
from tests.integration.load import Load

PATH = "/v2/models/echo/x"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def own() -> Iterator[Gateway]:
    """A gateway whose processes the tests of this module kill."""
    with running(base_config()) as gateway:
        yield gateway


def load(gateway: Gateway) -> Load:
    return Load(gateway.config["listener"]["address"], PATH, {**JSON, **bearer()})


def test_traffic_recovers_within_a_second_when_a_worker_is_killed(own: Gateway) -> None:
    victim = own.workers()[0]
    with load(own) as traffic:
        traffic.wait_for(100)
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        traffic.wait_for(1000)
        eventually(lambda: time.monotonic() > killed + 2.0)
    assert traffic.failures_after(killed + 1.0) == []
    eventually(lambda: len(own.workers()) == 2 and victim not in own.workers())


def test_traffic_does_not_notice_when_the_control_plane_is_killed(own: Gateway) -> None:
    (victim,) = own.children("control-plane")
    with load(own) as traffic:
        traffic.wait_for(100)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in own.children("control-plane") and _reachable(own), 20)
        traffic.wait_for(200)
    assert traffic.failures == []
    # The new control plane takes over: what is edited now still arrives.
    own.edit(lambda config: config["models"]["echo"].update(stable="v2"))


def _reachable(gateway: Gateway) -> bool:
    try:
        return gateway.in_sync() and len(gateway.status()["nodes"]) == 3
    except OSError:
        return False


def test_without_a_callout_nothing_is_admitted() -> None:
    with running(base_config()) as gateway:
        (supervisor,) = [pid for pid in gateway.children(" callout ") if "--xds" in _command(pid)][
            :1
        ]
        os.kill(supervisor, signal.SIGSTOP)
        workers = gateway.workers()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(map(_runs, workers)))
        with gateway.client() as client:
            for headers in ({}, bearer()):
                answer = client.post(PATH, json={}, headers=headers)
                assert answer.status_code in (500, 503, 504)
                assert "version" not in answer.json()
        os.kill(supervisor, signal.SIGCONT)


def test_ctrl_c_leaves_no_process_behind() -> None:
    with running(base_config()) as gateway:
        assert gateway.process is not None
        pids = gateway.children("")
        assert len(pids) > 5
        gateway.process.send_signal(signal.SIGINT)
        assert gateway.process.wait(20) == 0
        eventually(lambda: not any(map(alive, pids)), 2)


def _command(pid: int) -> str:
    from tests.integration.gateway import command_line

    return command_line(pid)


def _runs(pid: int) -> bool:
    """Whether a process still executes; a zombie, killed but not yet reaped, does not."""
    return bool(_command(pid))
