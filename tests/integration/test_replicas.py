"""Two control planes on one Redis: either may end, and Envoy and the workers follow the other."""

import asyncio
import copy
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.integration.gateway import (
    INFER,
    Config,
    Gateway,
    base_config,
    bearer,
    eventually,
    free_ports,
    running,
)
from tests.redis_server import RedisServer
from xds.sources.store.redis import RedisStore
from xds.sources.store.store import Draft

BODY = b'{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["hi"]}]}'


class Replica:
    """A second control plane, which watches a file of its own."""

    def __init__(self, directory: Path, store: str, xds: str, http: str, config: Config) -> None:
        self.http = http
        self.file = directory / "second.yaml"
        self.config = config
        self._log = (directory / "second.log").open("wb")
        self._argv = [
            *(sys.executable, "-m", "sluice.cli", "control-plane", "--store", store),
            *("--watch", str(self.file), "--xds", xds, "--http", http),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.write()

    def write(self) -> None:
        draft = self.file.with_suffix(".new")
        draft.write_text(yaml.safe_dump(self.config, sort_keys=False))
        draft.replace(self.file)

    def start(self) -> None:
        self._process = subprocess.Popen(self._argv, stdout=self._log, stderr=self._log)
        eventually(lambda: status(self.http) is not None)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        self._log.close()


def status(http: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://{http}/v1/status", timeout=5) as response:
            found: dict[str, Any] = json.load(response)
            return found
    except OSError:
        return None


@contextmanager
def two_control_planes(tmp_path: Path) -> Iterator[tuple[Gateway, Replica, RedisServer]]:
    redis = RedisServer(tmp_path, "--appendonly", "yes")
    redis.start()
    config = base_config()
    ports = free_ports(2)
    xds, http = (f"127.0.0.1:{port}" for port in ports)
    config["control_plane"]["replicas"] = [config["control_plane"]["xds"], xds]
    try:
        with running(config, "--store", redis.url) as gateway:
            # The second one begins with the text of the head: what the first one has read.
            replica = Replica(gateway.directory, redis.url, xds, http, gateway.config)
            try:
                replica.start()
                yield gateway, replica, redis
            finally:
                replica.close()
    finally:
        redis.kill()


def append(url: str, config: Config) -> None:
    """Append a revision, as any control plane on this Redis would."""

    async def run() -> None:
        store = RedisStore(url, environment={})
        text = yaml.safe_dump(config, sort_keys=False)
        await store.append(Draft(text, "version", "ann", "", "api"), expected=None)
        await store.close()

    asyncio.run(run())


def with_model(config: Config, name: str) -> Config:
    changed = copy.deepcopy(config)
    changed["models"][name] = changed["models"]["echo"]
    return changed


def test_envoy_follows_either_control_plane_and_serves_without_redis(tmp_path: Path) -> None:
    with two_control_planes(tmp_path) as (gateway, replica, redis), gateway.client() as client:

        def is_routed(model: str) -> bool:
            """Whether the request reaches the model server, which knows only `echo`."""
            path = INFER.replace("echo", model)
            response = client.post(path, content=BODY, headers=bearer())
            assert response.status_code == 200 or model != "echo"  # no request fails meanwhile
            return b'"reason"' not in response.content

        def follows(revision: int, model: str) -> bool:
            assert is_routed("echo")
            addresses = gateway.config["control_plane"]["http"], replica.http
            shown = {found["revision"] for found in map(status, addresses) if found is not None}
            return is_routed(model) and revision in shown

        assert not is_routed("one")
        first = status(gateway.config["control_plane"]["http"])
        second = status(replica.http)
        assert first is not None
        assert second is not None
        assert (first["version"], first["revision"]) == (second["version"], second["revision"])

        (control_plane,) = gateway.processes("sluice.cli control-plane")
        os.kill(control_plane, signal.SIGKILL)
        replica.config = with_model(replica.config, "one")
        replica.write()
        eventually(lambda: follows(3, "one"))

        replica.kill()
        append(redis.url, with_model(replica.config, "two"))
        eventually(lambda: follows(4, "two"))

        replica.start()
        eventually(lambda: (status(replica.http) or {}).get("revision") == 4)
        redis.kill()
        assert all(map(is_routed, ("echo", "one", "two")))
        redis.start()
        append(redis.url, with_model(with_model(replica.config, "two"), "three"))
        eventually(lambda: follows(5, "three"))
