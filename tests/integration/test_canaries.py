"""With a real Envoy: a canary with steps is promoted, or aborted if it fails."""

import copy
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests import plain_http
from tests.integration.gateway import (
    Gateway,
    base_config,
    eventually,
    free_ports,
    running,
)
from tests.integration.traffic import traffic

STEPS = [{"percent": 40, "duration": 5}, {"percent": 100, "duration": 5}]
CRITERIA = {"max_error_rate": 0.1, "max_error_rate_increase": 0.05, "min_requests": 10}


class Api:
    def __init__(self, gateway: Gateway) -> None:
        self._url = f"http://{gateway.config['control_plane']['http']}/v1"

    def get(self, path: str) -> Any:
        return plain_http.get(f"{self._url}/{path}").raise_for_status().json()

    def percents(self) -> dict[str, float]:
        """The percentage of each canary; empty without an answer."""
        with suppress(httpx.TransportError):
            return {each["model"]: each["percent"] for each in self.get("canaries")["canaries"]}
        return {}

    def finished(self) -> dict[str, str]:
        """How the steps of each model have ended; empty without an answer."""
        with suppress(httpx.TransportError):
            return {each["model"]: each["state"] for each in self.get("canaries")["finished"]}
        return {}

    def reasons(self, model: str) -> list[str]:
        """Why the steps of a model have changed the config, oldest first."""
        revisions = self.get("history?limit=100")["revisions"][::-1]
        start = f"model {model}: "
        told = (each["reason"] for each in revisions if each["origin"] == "canary")
        return [each.removeprefix(start) for each in told if each.startswith(start)]


def config(directory: Path) -> dict[str, Any]:
    """Four models with steps. Nothing serves the version v2 of `failing` and of `mirrored`.

    The first step of `mirrored` and of `agreeing` has copies of requests only.
    """
    settings = base_config()
    settings["callout"]["workers"] = 1
    canary = {"version": "v2", "steps": STEPS, "criteria": CRITERIA}
    settings["models"]["echo"]["canaries"] = [canary]
    failing = copy.deepcopy(settings["models"]["echo"])
    failing["versions"]["v2"] = {"endpoints": [{"address": f"127.0.0.1:{free_ports(1)[0]}"}]}
    settings["models"]["failing"] = failing
    settings["callout"]["copies"] = f"unix:{directory}/copies.sock"
    settings["models"]["mirrored"] = mirrored = copy.deepcopy(failing)
    mirrored["mirror"] = {"version": "v2", "percent": 100}
    criteria = {"min_agreement": 0.9, "min_requests": 10}
    steps = [{"percent": 0, "duration": 5}, *STEPS]
    mirrored["canaries"] = [{"version": "v2", "steps": steps, "criteria": criteria}]
    settings["models"]["agreeing"] = agreeing = copy.deepcopy(mirrored)
    agreeing["versions"] = settings["models"]["echo"]["versions"]
    agreeing["canaries"][0]["steps"] = [{"percent": 0, "duration": 5}, STEPS[-1]]
    return settings


def test_canaries_are_promoted_or_aborted_across_a_restart(tmp_path: Path) -> None:
    with running(config(tmp_path), "--store", f"sqlite:{tmp_path}/history.db") as gateway:
        api = Api(gateway)
        with traffic(gateway):
            eventually(lambda: api.percents().get("echo") == 40)
            (control_plane,) = gateway.processes("control-plane")
            os.kill(control_plane, signal.SIGKILL)
            ended = {"echo": "promoted", "failing": "aborted"}
            ended |= {"mirrored": "aborted", "agreeing": "promoted"}
            eventually(lambda: api.finished() == ended, 180)
        stable = {model: api.get(f"models/{model}")["stable"] for model in ended}
        assert stable == {"echo": "v2", "failing": "v1", "mirrored": "v1", "agreeing": "v2"}
        assert [each.split(": ")[0] for each in api.reasons("echo")] == [
            "canary v2 gets 40 %",
            "canary v2 gets 100 %",
            "canary v2 is promoted",
        ]
        started, aborted = api.reasons("failing")
        assert started.startswith("canary v2 gets 40 %: ")
        assert aborted.startswith("canary v2 is aborted: 40 % failed: ")
        started, aborted = api.reasons("mirrored")
        assert started.startswith("canary v2 gets 0 %: ")
        assert aborted.startswith("canary v2 is aborted: 0 % failed: 0 % of ")
        assert aborted.endswith(" copies agree, less than 90 %")
        assert " copies, 100 % agree, " in api.reasons("agreeing")[1]
