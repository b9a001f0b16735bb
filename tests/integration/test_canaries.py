"""With a real Envoy: a canary with steps is promoted, or aborted if it fails."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests import plain_http
from tests.integration.gateway import INFER, Gateway, base_config, bearer, eventually, running

USERS = [bearer(str(number)) for number in range(40)]
STEPS = [{"percent": 40, "duration": 5}, {"percent": 100, "duration": 5}]
CRITERIA = {"max_error_rate": 0.1, "max_error_rate_increase": 0.05, "min_requests": 20}


@contextmanager
def traffic(gateway: Gateway) -> Iterator[None]:
    """Requests of many users in the block."""
    stop = threading.Event()

    def send() -> None:
        with gateway.client() as client:
            while not stop.is_set():
                for user in USERS:
                    client.post(INFER, json={}, headers=user)
                stop.wait(0.2)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


class Api:
    def __init__(self, gateway: Gateway) -> None:
        self._url = f"http://{gateway.config['control_plane']['http']}/v1"

    def get(self, path: str) -> Any:
        return plain_http.get(f"{self._url}/{path}").raise_for_status().json()

    def begin(self, version: str) -> None:
        patch = {"canaries": [{"version": version, "steps": STEPS, "criteria": CRITERIA}]}
        headers = {"content-type": "application/merge-patch+json"}
        with plain_http.client() as client:
            url = f"{self._url}/models/echo"
            client.patch(url, json=patch, headers=headers).raise_for_status()

    def canaries(self) -> dict[str, Any]:
        """The canaries and the versions whose steps have ended; empty without an answer."""
        with suppress(httpx.TransportError):
            found: dict[str, Any] = self.get("canaries")
            return found
        return {"canaries": [], "finished": []}

    def percent(self) -> float | None:
        found = self.canaries()["canaries"]
        return found[0]["percent"] if found else None

    def state(self, version: str) -> str | None:
        finished = self.canaries()["finished"]
        return next((each["state"] for each in finished if each["version"] == version), None)

    def reasons(self) -> list[str]:
        revisions = self.get("history?limit=100")["revisions"]
        return [each["reason"] for each in revisions if each["origin"] == "canary"]


def test_a_canary_is_promoted_by_itself_and_a_failing_one_is_aborted(tmp_path: Path) -> None:
    with running(base_config(), "--store", f"sqlite:{tmp_path}/history.db") as gateway:
        api = Api(gateway)
        with traffic(gateway):
            api.begin("v2")
            eventually(lambda: api.percent() == 40)
            (control_plane,) = gateway.processes("control-plane")
            os.kill(control_plane, signal.SIGKILL)
            eventually(lambda: api.state("v2") == "promoted", 60)
            assert api.get("models/echo")["stable"] == "v2"
            endpoint = gateway.config["models"]["echo"]["versions"]["v1"]["endpoints"][0]
            control = f"http://{endpoint['address']}/control"
            plain_http.post(control, json={"fail_rate": 1}).raise_for_status()
            api.begin("v1")
            eventually(lambda: api.state("v1") == "aborted", 60)
        assert api.get("models/echo")["stable"] == "v2"
        aborted, *_ = told = api.reasons()
        assert aborted.startswith("model echo: canary v1 is aborted: 40 % failed: ")
        assert [each.split(": ")[1] for each in told] == [
            "canary v1 is aborted",
            "canary v1 gets 40 %",
            "canary v2 is promoted",
            "canary v2 gets 100 %",
            "canary v2 gets 40 %",
        ]
