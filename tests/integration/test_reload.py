"""Edits of the config take effect without a failed request; an invalid edit changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from sluice.cli import main
from tests.integration.gateway import (
    AUDIENCE,
    ISSUER,
    Config,
    Gateway,
    base_config,
    bearer,
    eventually,
    jwks,
    running,
)
from tests.integration.load import Load

PATH = "/v2/models/echo/x"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def own() -> Iterator[Gateway]:
    """A gateway that the tests of this module edit, one after the other."""
    with running(base_config()) as gateway:
        yield gateway


def load(gateway: Gateway) -> Load:
    return Load(gateway.config["listener"]["address"], PATH, {**JSON, **bearer()})


def bearer_options() -> tuple[str, str]:
    return "-H", f"authorization: {bearer()['authorization']}"


def served_by(gateway: Gateway) -> str:
    with gateway.client() as client:
        version: str = client.post(PATH, json={}, headers=bearer()).json()["version"]
    return version


def test_a_route_changes_without_a_failed_request(own: Gateway) -> None:
    with load(own) as traffic:
        traffic.wait_for(50)
        for version in ("v2", "v1", "v2"):
            own.edit(lambda config, v=version: config["models"]["echo"].update(stable=v))
            assert served_by(own) == version
        traffic.wait_for(50)
    assert traffic.failures == []


def test_an_endpoint_changes_without_a_failed_request(own: Gateway) -> None:
    versions = own.config["models"]["echo"]["versions"]
    one, two = versions["v1"]["endpoints"], versions["v2"]["endpoints"]

    def swap(config: Config) -> None:
        config["models"]["echo"]["versions"]["v1"]["endpoints"] = two
        config["models"]["echo"]["stable"] = "v1"

    with load(own) as traffic:
        traffic.wait_for(50)
        own.edit(swap)
        eventually(lambda: served_by(own) == "v2")
        own.edit(lambda config: config["models"]["echo"]["versions"]["v1"].update(endpoints=one))
        traffic.wait_for(50)
    assert traffic.failures == []


def test_models_are_added_and_removed_without_a_failed_request(own: Gateway) -> None:
    echo = own.config["models"]["echo"]
    with load(own) as traffic:
        traffic.wait_for(50)
        own.edit(lambda c: c["models"].update(new={**echo, "paths": ["/v2/models/echo/new"]}))
        with own.client() as client:
            response = client.post("/v2/models/echo/new", json={}, headers=bearer())
            assert response.status_code == 200
            own.edit(lambda config: config["models"].pop("new"))
            response = client.post("/v2/models/new/x", json={}, headers=bearer())
            assert response.status_code == 404
        traffic.wait_for(50)
    assert traffic.failures == []


def test_every_command_and_every_node_shows_the_version_of_the_config(
    own: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(config: Config) -> None:
        # Envoy's listener changes, and nothing that a decision needs.
        config["listener"]["idle_timeout"] = "61s"

    before = own.status()["version"]
    own.edit(change)
    status = own.status()
    assert status["version"] != before
    assert {node["version"] for node in status["nodes"]} == {status["version"]}
    for arguments in (
        ["validate", str(own.file)],
        ["explain", "--offline", str(own.file), *bearer_options(), PATH],
        ["explain", str(own.file), *bearer_options(), PATH],
    ):
        assert main(arguments) == 0
        assert f"version {status['version']}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models: [", "not valid YAML"),
        ("modles: {}", "did you mean models?"),
        ("models: {echo: {versions: {}}}", "at least 1 item"),
        ("", "the file is empty"),
        ("# models: {}\n", "the file is empty"),
        ("{}", "models: this change would remove every model (echo)"),
        ("models: {}", "listener.address: this change would move the listener"),
    ],
)
def test_an_invalid_edit_is_reported_and_changes_nothing(
    own: Gateway, text: str, expected: str
) -> None:
    version = own.status()["version"]
    with load(own) as traffic:
        own.file.write_text(text)
        eventually(lambda: expected in str(own.status()["error"]))
        traffic.wait_for(50)
    assert traffic.failures == []
    assert own.status()["version"] == version
    own.write()
    eventually(lambda: own.status()["error"] is None)


@pytest.mark.parametrize("first", ["nothing", "a part that is a config"])
def test_a_config_that_is_written_with_a_pause_fails_no_request(own: Gateway, first: str) -> None:
    own.config["requests"]["max_grpc_headers"] = 9000 + len(first)
    text = yaml.safe_dump(own.config, sort_keys=False)
    written = "" if first == "nothing" else text[: text.index("models:\n")]
    version = own.status()["version"]
    with load(own) as traffic:
        with own.file.open("w") as file:
            file.write(written)
            file.flush()
            traffic.wait_for(50)
            assert own.status()["version"] == version
            file.write(text[len(written) :])
        eventually(lambda: own.status()["version"] != version and own.in_sync())
        traffic.wait_for(50)
    assert traffic.failures == []


def test_a_change_that_cuts_off_clients_is_applied_if_the_config_permits_it(own: Gateway) -> None:
    before = own.config
    own.edit(lambda config: config.update(models={}, allow_disruption=True))
    with own.client() as client:
        assert client.post(PATH, json={}, headers=bearer()).status_code == 404
    own.edit(lambda config: config.update(before))
    assert served_by(own)


def test_a_rotated_key_set_takes_effect_without_a_restart(own: Gateway) -> None:
    key_set: Path = own.directory / "jwks.json"
    rotated = rsa.generate_private_key(65537, 2048)
    old, new = bearer(), bearer(key=rotated, key_id="next")
    with own.client() as client:
        assert client.post(PATH, json={}, headers=new).status_code == 401
        key_set.write_text(jwks(rotated, "next"))
        eventually(lambda: client.post(PATH, json={}, headers=new).status_code == 200)
        eventually(lambda: client.post(PATH, json={}, headers=old).status_code == 401)
        key_set.write_text(jwks())
        eventually(lambda: client.post(PATH, json={}, headers=old).status_code == 200)


def test_keys_of_the_command_line_replace_each_other_without_a_refusal(
    own: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    key_set, first, second = (own.directory / name for name in ("jwks.json", "a.pem", "b.pem"))

    def token(key: Path) -> dict[str, str]:
        claims = ["--claim", f"iss={ISSUER}", "--claim", f"aud={AUDIENCE}"]
        assert main(["token", "--sub", "batch", "--key-file", str(key), *claims]) == 0
        return {"authorization": f"Bearer {capsys.readouterr().out.strip()}"}

    before = key_set.read_text()
    assert main(["jwks", "--new", str(first), "--output", str(key_set)]) == 0
    with own.client() as client:

        def status(key: Path) -> int:
            return client.post(PATH, json={}, headers=token(key)).status_code

        eventually(lambda: status(first) == 200)
        assert main(["jwks", "--new", str(key_set), str(second), "--output", str(key_set)]) == 0
        eventually(lambda: status(second) == 200)
        assert status(first) == 200
        assert main(["jwks", str(second), "--output", str(key_set)]) == 0
        eventually(lambda: status(first) == 401)
        assert status(second) == 200
        key_set.write_text(before)
        eventually(lambda: client.post(PATH, json={}, headers=bearer()).status_code == 200)
