"""With a real Envoy and real servers: TLS to model servers, and credentials for them.

Envoy gets certificates, keys and headers by SDS, so a file with new content needs no restart.
"""

import contextlib
import json
import os
import shutil
import signal
import ssl
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests import plain_http
from tests.authority import Authority, server_context
from tests.integration.gateway import (
    Config,
    Gateway,
    base_config,
    bearer,
    callout_calls,
    eventually,
    running,
    stopped,
)
from tests.integration.https_servers import grpc_server, rest_server

TOKEN, SECOND_TOKEN = "first-token-Zq7", "second-token-Zq7"
CHECK = {"path": "/health", "interval": "200ms"}


@dataclass
class Setup:
    gateway: Gateway
    files: Path
    trusted: Authority
    servers: dict[str, ssl.SSLContext]

    def post(self, model: str, version: str = "v1") -> Any:
        path = f"/v2/models/{model}/versions/{version}/infer"
        with self.gateway.client() as client:
            return client.post(path, json=BODY, headers={**bearer(), "x-key": "of the client"})

    def refusal(self, model: str) -> tuple[int, str]:
        answer = self.post(model)
        return answer.status_code, answer.json().get("reason", "")

    def replace(self, name: str, content: bytes) -> None:
        draft = self.files / "draft"
        draft.write_bytes(content)
        draft.replace(self.files / name)


BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
INPUT = {"name": "x", "datatype": "FP32", "shape": [1]}


@pytest.fixture(scope="module")
def setup() -> Iterator[Setup]:
    files = Path(tempfile.mkdtemp(prefix="sluice-upstream-"))
    trusted, other = Authority("trusted"), Authority("other")
    (files / "ca.pem").write_bytes(trusted.certificate)
    (files / "other.pem").write_bytes(other.certificate)
    (files / "rotated.pem").write_bytes(trusted.certificate)
    (files / "token").write_text(f"{TOKEN}\n")
    (files / "key").write_text("key-Zq7\n")
    trusted.issue("gateway.test").write(files, "client")
    expired = trusted.issue("127.0.0.1", end=datetime.now(UTC) - timedelta(days=1))
    contexts = {
        "secure": server_context(trusted.issue("127.0.0.1", "models.test"), files),
        "rotated": server_context(trusted.issue("127.0.0.1"), files),
        "expired": server_context(expired, files),
        "strict": server_context(trusted.issue("127.0.0.1"), files, files / "ca.pem"),
    }
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(rest_server(c)) for name, c in contexts.items()}
        ports["plain"] = stack.enter_context(rest_server(None))
        ports["grpc"] = stack.enter_context(grpc_server(trusted.issue("127.0.0.1")))
        config = base_config()
        config["models"] |= models(ports, files)
        gateway = stack.enter_context(running(config))
        yield Setup(gateway, files, trusted, contexts)
    shutil.rmtree(files)


def models(ports: dict[str, int], files: Path) -> Config:
    def version(server: str, tls: Any = None, **more: Any) -> Config:
        listed = [{"address": f"127.0.0.1:{ports[server]}"}]
        return {"endpoints": listed, "tls": tls, **more}

    def model(version: Config, **more: Any) -> Config:
        plain = {"endpoints": [{"address": f"127.0.0.1:{ports['plain']}"}]}
        return {"versions": {"v1": version, "plain": plain}, "stable": "v1", **more}

    trusted = {"ca": str(files / "ca.pem")}
    client = {"certificate": str(files / "client.pem"), "private_key": str(files / "client.key")}
    secret = {
        "authorization": {"file": str(files / "token"), "prefix": "Bearer "},
        "x-key": {"file": str(files / "key")},
    }
    secure = version("secure", trusted, health_check=CHECK, headers_from_secret=secret)
    converted = version(
        "grpc", trusted, protocol="grpc", health_check={"interval": "200ms"},
        headers_from_secret=secret,
    )  # fmt: skip
    return {
        "secure": model(secure),
        "decided": model(secure, placement="callout"),
        "converted": {"versions": {"v1": converted}, "inputs": [INPUT]},
        "moved": model(version("secure", trusted)),
        "named": model(version("secure", {**trusted, "server_name": "models.test"})),
        "renamed": model(version("secure", {**trusted, "server_name": "other.test"})),
        "untrusted": model(version("secure", {"ca": str(files / "other.pem")})),
        "system": model(version("secure", {})),
        "any": model(version("expired", {"allow_any_server": True})),
        "expired": model(version("expired", trusted)),
        "plain": model(version("plain", trusted)),
        "client": model(version("strict", {**trusted, **client})),
        "anonymous": model(version("strict", trusted)),
        "rotated": model(version("rotated", {"ca": str(files / "rotated.pem")})),
    }


@pytest.mark.parametrize(("model", "native"), [("secure", True), ("decided", False)])
def test_a_version_gets_its_credentials_over_tls_and_another_version_does_not(
    setup: Setup, model: str, native: bool
) -> None:
    before = callout_calls(setup.gateway)
    headers = setup.post(model).json()
    assert (callout_calls(setup.gateway) == before) is native
    assert (headers["authorization"], headers["x-key"]) == (f"Bearer {TOKEN}", "key-Zq7")
    headers = setup.post(model, "plain").json()
    assert headers["x-key"] == "of the client"
    assert "authorization" not in headers


def test_a_converted_call_has_the_credentials(setup: Setup) -> None:
    (output,) = setup.post("converted").json()["outputs"]
    assert output["data"] == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize("model", ["named", "any", "client"])
def test_a_server_that_the_config_trusts_is_used(setup: Setup, model: str) -> None:
    assert setup.post(model).status_code == 200


@pytest.mark.parametrize(
    "model", ["renamed", "untrusted", "system", "expired", "plain", "anonymous"]
)
def test_a_server_that_cannot_be_trusted_gets_no_request(setup: Setup, model: str) -> None:
    assert setup.refusal(model) == (503, "model_tls_failed")


def test_health_checks_use_tls(setup: Setup) -> None:
    def healthy() -> set[str]:
        (envoy,) = setup.gateway.status()["envoys"]
        return {each["cluster"] for each in envoy["endpoints"] if each["state"] == "healthy"}

    eventually(lambda: healthy() >= {"secure/v1", "converted/v1"})


def test_a_new_token_reaches_envoy_and_a_missing_one_changes_nothing(setup: Setup) -> None:
    version = setup.gateway.status()["version"]
    setup.replace("token", SECOND_TOKEN.encode())

    def sent() -> str:
        return str(setup.post("secure").json()["authorization"])

    eventually(lambda: sent() == f"Bearer {SECOND_TOKEN}")
    assert setup.gateway.status()["version"] == version
    (setup.files / "token").unlink()
    eventually(lambda: setup.gateway.status()["error"] is not None)
    error = setup.gateway.status()["error"]
    assert "headers_from_secret.authorization.file: the file cannot be read" in error
    assert sent() == f"Bearer {SECOND_TOKEN}"
    setup.replace("token", TOKEN.encode())
    eventually(lambda: sent() == f"Bearer {TOKEN}")
    assert setup.gateway.status()["error"] is None


def test_a_control_plane_that_restarts_sends_the_present_token(setup: Setup) -> None:
    (control_plane,) = setup.gateway.processes("control-plane")
    with stopped(control_plane):
        setup.replace("token", SECOND_TOKEN.encode())
        assert setup.post("secure").json()["authorization"] == f"Bearer {TOKEN}"
        os.kill(control_plane, signal.SIGKILL)
    eventually(
        lambda: bool(setup.post("secure").json()["authorization"] == f"Bearer {SECOND_TOKEN}"), 30
    )
    setup.replace("token", TOKEN.encode())
    eventually(lambda: bool(setup.post("secure").json()["authorization"] == f"Bearer {TOKEN}"))


def test_a_new_ca_reaches_envoy_without_a_restart(setup: Setup) -> None:
    assert setup.post("rotated").status_code == 200
    new = Authority("new")
    issued = new.issue("127.0.0.1").write(setup.files, "new")
    setup.servers["rotated"].load_cert_chain(*issued)
    assert setup.refusal("rotated") == (503, "model_tls_failed")
    setup.replace("rotated.pem", new.certificate)
    eventually(lambda: bool(setup.post("rotated").status_code == 200))


def test_a_version_whose_secrets_come_and_go_serves_all_the_time(setup: Setup) -> None:
    def versions(config: Config) -> Any:
        return config["models"]["moved"]["versions"]

    def change(config: Config, source: str) -> None:
        versions(config)["v1"] = {**config["models"][source]["versions"]["v1"]}

    statuses: list[int] = []
    with serving(lambda: statuses.append(setup.post("moved").status_code)):
        for source in ("secure", "named", "secure"):
            setup.gateway.edit(lambda config, source=source: change(config, source))
    assert setup.post("moved").json()["authorization"] == f"Bearer {TOKEN}"
    assert statuses
    assert set(statuses) == {200}


@contextlib.contextmanager
def serving(request: Callable[[], None]) -> Iterator[None]:
    """Sends requests from another thread, one after the other."""
    ended = Event()

    def send() -> None:
        while not ended.is_set():
            request()

    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send)
        try:
            yield
        finally:
            ended.set()
        sent.result()


def test_no_secret_is_shown(setup: Setup) -> None:
    admin = setup.gateway.config["envoy"]["admin"]
    http = setup.gateway.config["control_plane"]["http"]
    dump = plain_http.get(f"http://{admin}/config_dump?include_eds").text
    secrets = [
        each["name"]
        for section in json.loads(dump)["configs"]
        for each in section.get("dynamic_active_secrets", ())
    ]
    assert "secure/v1/header/authorization" in secrets
    shown = [dump, setup.gateway.log.read_text()]
    shown += [plain_http.get(f"http://{http}/v1/{path}").text for path in ("config", "status")]
    key = (setup.files / "client.key").read_text().splitlines()[1]
    for text in shown:
        assert not any(each in text for each in (TOKEN, SECOND_TOKEN, "key-Zq7", key))
