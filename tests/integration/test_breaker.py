"""With a real Envoy and two workers: the breaker refuses requests to a version that fails.

The behaviour is the same whether Envoy admits requests alone or the callout decides all. The
callout switches native routes on only while the breaker is closed.
"""

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import httpx
import pytest

from sluice.cli import main
from sluice.contract.names import RUNTIME_CLUSTER
from tests import plain_http
from tests.integration.gateway import (
    INFER,
    Gateway,
    base_config,
    bearer,
    decided_by_placement,
    eventually,
    reported_requests,
    running,
    stopped,
)

BREAKER = {
    "window": "2s",
    "buckets": 10,
    "min_volume": 10,
    "reduce_above": 0.3,
    "refuse_above": 0.3,
    "probe_successes": 5,
}
"""A breaker that is closed or open. One that admits a share closes by itself after its window, and
an open one does not, however long a test takes on a busy machine."""

ALL_KEYS, KEYS_WITHOUT_A_VERSION = 3, 1
"""The keys of both versions and of the model; that of the other version."""

LARGE_SAMPLE = {"min_volume": 300, "sample": 400, "probe_interval": "10s"}
"""A breaker that also admits a share. Its error rate differs little from the share of failures."""


@pytest.fixture(scope="module")
def own(placement: str) -> Iterator[Gateway]:
    config = base_config(placement)
    config["models"]["echo"]["breaker"] = BREAKER
    config["callout"]["hang_timeout"] = "60s"
    with running(config) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def without_faults(own: Gateway) -> Iterator[None]:
    """A test that fails leaves no faults to the tests after it."""
    yield
    control(own, fail_rate=0, delay_ms=0)


def statistic(gateway: Gateway, name: str) -> int:
    """A statistic of Envoy."""
    url = f"http://{gateway.config['envoy']['admin']}/stats"
    found = plain_http.get(url, params={"filter": f"^{name}$"}).text
    return int(found.partition(":")[2])


def keys(gateway: Gateway) -> int:
    """How many keys switch routes on."""
    return statistic(gateway, "runtime.num_keys")


def has_keys(gateway: Gateway, expected: int) -> bool:
    """Whether Envoy has so many keys. Without native routes, it has none."""
    return keys(gateway) == (expected if gateway.config["placement"] == "auto" else 0)


def streams(gateway: Gateway) -> int:
    """How many streams Envoy has opened to the workers to get the keys."""
    return statistic(gateway, f"cluster.{RUNTIME_CLUSTER}.upstream_rq_total")


def control(gateway: Gateway, **faults: float) -> None:
    """Set the error rate or the delay of the model server."""
    endpoint = gateway.config["models"]["echo"]["versions"]["v1"]["endpoints"][0]["address"]
    plain_http.post(f"http://{endpoint}/control", json=faults).raise_for_status()


def send(client: httpx.Client, count: int = 1) -> list[httpx.Response]:
    headers = bearer()
    return [client.post(INFER, json={}, headers=headers) for _ in range(count)]


def reasons(client: httpx.Client, count: int) -> Counter[str]:
    """How often each reason of a refusal came; "" for an answer of the model server."""
    return Counter(
        "breaker_open" if b"breaker_open" in response.content else ""
        for response in send(client, count)
    )


def open_breaker(gateway: Gateway) -> None:
    """Let a version fail, and wait until Envoy knows."""
    control(gateway, fail_rate=1.0)
    with gateway.client() as client:
        eventually(
            lambda: (
                reasons(client, 10)["breaker_open"] > 0
                and has_keys(gateway, KEYS_WITHOUT_A_VERSION)
            )
        )


def close_breaker(gateway: Gateway) -> None:
    """Let the version recover, and wait until Envoy knows."""
    control(gateway, fail_rate=0.0)
    with gateway.client() as client:
        eventually(lambda: reasons(client, 10) == {"": 10} and has_keys(gateway, ALL_KEYS))


def test_while_the_breaker_is_closed_the_placement_says_who_decides(own: Gateway) -> None:
    with own.client() as client, decided_by_placement(own):
        assert reasons(client, 10) == {"": 10}


def test_a_failing_version_is_refused_until_it_has_recovered(own: Gateway) -> None:
    with own.client() as client:
        control(own, fail_rate=0.5)
        eventually(lambda: "breaker_open" in reasons(client, 10))
        eventually(lambda: reasons(client, 20)["breaker_open"] >= 18)
        refused = next(each for each in send(client, 20) if b"breaker_open" in each.content)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        control(own, fail_rate=0)
        eventually(lambda: reasons(client, 20) == {"": 20})


def test_the_status_shows_when_a_breaker_opens_and_closes(
    own: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://{own.config['control_plane']['http']}"

    def shown() -> bool:
        """Whether the text has an open breaker. It has only those that are not closed."""
        assert main(["status", "--url", url]) == 0
        lines = capsys.readouterr().out.splitlines()
        return any(line.split()[:2] == ["echo/v1", "open"] for line in lines)

    def breakers() -> dict[str, Any]:
        assert main(["get", "breakers", "--control-plane", url, "-o", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["known"]
        return {f"{b['model']}/{b['version']}": b for b in found["breakers"]}

    with own.client() as client:
        control(own, fail_rate=1.0)
        eventually(lambda: "breaker_open" in reasons(client, 20) and shown())
        found = breakers()
        assert found["echo/v1"]["state"] == "open"
        assert found["echo/v1"]["requests"] > 0
        assert (found["echo/v2"]["state"], found["echo/v2"]["error_rate"]) == ("closed", None)
        control(own, fail_rate=0)
        # A probe succeeds before the breaker is closed.
        eventually(lambda: reasons(client, 20) == {"": 20} and not shown())


def test_a_slow_version_without_failures_is_never_refused(own: Gateway) -> None:
    control(own, delay_ms=50)
    with own.client() as client, decided_by_placement(own):
        assert reasons(client, 60) == {"": 60}


def test_native_routes_are_off_until_the_breaker_is_closed_again(own: Gateway) -> None:
    assert has_keys(own, ALL_KEYS)
    open_breaker(own)
    close_breaker(own)


def test_each_worker_can_switch_routes_off_while_the_other_hangs(own: Gateway) -> None:
    for worker in own.workers():
        with stopped(worker):
            open_breaker(own)
            close_breaker(own)


def test_the_state_outlives_a_worker(own: Gateway) -> None:
    open_breaker(own)
    before = streams(own)
    for worker in own.workers():
        os.kill(worker, signal.SIGKILL)
        eventually(lambda pid=worker: pid not in own.workers() and len(own.workers()) == 2)
    eventually(lambda: streams(own) > before)
    assert has_keys(own, KEYS_WITHOUT_A_VERSION)
    close_breaker(own)


WINDOWS = iter(range(60, 100))
"""Seconds. A breaker with another window starts without counts."""


@pytest.mark.parametrize(
    ("failing", "refused", "alone"),
    [
        (0.05, (0.0, 0.0), False),
        (0.15, (0.35, 0.65), False),
        (0.15, (0.35, 0.65), True),
        (0.5, (0.95, 1.0), False),
    ],
)
def test_the_share_of_refused_requests_depends_on_the_share_of_failures(
    own: Gateway, failing: float, refused: tuple[float, float], alone: bool
) -> None:
    """With `alone`, the control plane does not run."""
    # The new breaker must not count requests of the test before.
    with own.client() as client:
        eventually(lambda: _is_reported(own, client))
    breaker = {**LARGE_SAMPLE, "window": f"{next(WINDOWS)}s"}
    own.edit(lambda config: config["models"]["echo"].update(breaker=breaker))
    (pid,) = own.processes("control-plane")
    control(own, fail_rate=failing)
    with own.client() as client, stopped(pid) if alone else nullcontext():
        share = _refused(client, expected=refused[1] > 0)
    assert refused[0] <= share <= refused[1]


def _is_reported(gateway: Gateway, client: httpx.Client) -> bool:
    """Whether Envoy has reported all requests. A batch has the requests of one Envoy thread."""
    before = reported_requests(gateway, "echo")
    send(client, 20)
    eventually(lambda: reported_requests(gateway, "echo") >= before + 20)
    return reported_requests(gateway, "echo") == before + 20


def _refused(client: httpx.Client, *, expected: bool) -> float:
    """The share of refused requests, after the breaker has enough results."""
    if expected:
        eventually(lambda: reasons(client, 20)["breaker_open"] > 0)
    else:
        send(client, LARGE_SAMPLE["min_volume"])
    count = 400
    return reasons(client, count)["breaker_open"] / count
