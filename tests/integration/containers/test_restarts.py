"""Parts are restarted and killed, under load where no request may fail."""

from collections.abc import Iterator

import pytest

from tests.integration.containers.engine import port
from tests.integration.containers.fleet import FIXED, ROOT, Fleet
from tests.integration.containers.paced_load import PacedLoad
from tests.integration.gateway import eventually

pytestmark = pytest.mark.docker

RATE = 500
"""Requests per second."""
GRACE = 60
"""Seconds after which a container that does not end is killed."""


@pytest.fixture
def load(gateway: Fleet) -> Iterator[PacedLoad]:
    """Requests that the callout decides, during a test. None of them may fail."""
    headers = {**gateway.headers, "content-type": "application/json"}
    body = (ROOT / "examples" / "sentiment.json").read_bytes()
    with PacedLoad(gateway.address, f"/v2/models/{FIXED}/infer", headers, body, RATE) as load:
        eventually(lambda: load.answers > RATE)
        yield load
        end = load.answers + RATE
        eventually(lambda: load.failures != [] or load.answers > end)
    print(f"{load.answers} answers, {len(load.failures)} failures, {load.sent_rate:.0f} requests/s")
    assert load.failures[:3] == []


@pytest.mark.usefixtures("load")
def test_a_rolling_restart_of_the_callout_fails_no_request(gateway: Fleet) -> None:
    before = gateway.workers("envoy-a")
    gateway.start_callout("next callout")
    for envoy in ("envoy-a", "envoy-b"):
        eventually(lambda envoy=envoy: gateway.workers(envoy) == 2 * before)
    gateway["callout"].stop(timeout=GRACE)
    for envoy in ("envoy-a", "envoy-b"):
        eventually(lambda envoy=envoy: gateway.workers(envoy) == before)
    gateway.containers["callout"] = gateway.containers.pop("next callout")


@pytest.mark.usefixtures("load")
def test_a_restart_of_the_control_plane_fails_no_request(gateway: Fleet) -> None:
    gateway["control plane"].restart(timeout=GRACE)
    eventually(gateway.in_sync)


@pytest.mark.usefixtures("load")
def test_a_rolling_restart_of_the_envoys_fails_no_request(gateway: Fleet) -> None:
    for envoy in ("envoy-a", "envoy-b"):
        gateway[envoy].restart(timeout=GRACE)
        assert gateway[envoy].attrs["State"]["ExitCode"] == 0
        eventually(lambda: gateway.balanced() == 2)


@pytest.mark.parametrize("name", ["control plane", "redis"])
@pytest.mark.usefixtures("load")
def test_a_kill_of_what_no_request_needs_fails_no_request(gateway: Fleet, name: str) -> None:
    gateway[name].kill()
    gateway[name].start()
    eventually(gateway.in_sync)


@pytest.mark.parametrize("name", ["callout", "models"])
def test_requests_are_served_again_after_a_kill(gateway: Fleet, name: str) -> None:
    gateway[name].kill()
    assert gateway.infer().status_code == 503
    gateway[name].start()
    eventually(gateway.served)


def test_the_other_envoy_serves_after_a_kill_of_one(gateway: Fleet) -> None:
    gateway["envoy-a"].kill()
    eventually(lambda: gateway.balanced() == 1)
    # The threads of the load balancer learn of it up to a second after its main thread.
    eventually(gateway.served)
    gateway["envoy-a"].start()
    eventually(lambda: gateway.balanced() == 2)
    assert port(gateway["envoy-a"], 9901)


@pytest.mark.usefixtures("load")
def test_a_callout_that_is_cut_off_from_redis_fails_no_request(gateway: Fleet) -> None:
    gateway.start_callout("cut off")
    eventually(lambda: gateway.workers("envoy-a") == gateway.workers("envoy-b") == 4)
    eventually(lambda: gateway.limits_are_shared("cut off"))
    gateway.place.disconnect(gateway["cut off"], "data")
    eventually(lambda: not gateway.limits_are_shared("cut off"))
    assert gateway.limits_are_shared("callout")
    gateway.place.connect(gateway["cut off"], "data")
    eventually(lambda: gateway.limits_are_shared("cut off"))
    gateway["cut off"].stop(timeout=GRACE)
