"""Commands that need no running gateway."""

import hashlib
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa

from sluice.cli import main
from sluice.config import GatewayConfig
from sluice.config.analysis import analyze
from sluice.config.load import loads
from sluice.config.schema import fields
from sluice.devkeys import AUDIENCE, ISSUER, DevKeys, standard_claims
from sluice.keys.signing import parse_private_key, sign
from sluice.runner import plan

CONFIG = """
models:
  a: {versions: {v1: {endpoints: [{address: "127.0.0.1:9001"}]}}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return path


def test_validate_accepts_a_valid_file(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(config)]) == 0
    assert "valid; 1 model," in capsys.readouterr().out


def test_validate_names_the_line_and_key_of_an_error(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG + "listner: {}\n")
    assert main(["validate", str(config)]) == 2
    assert capsys.readouterr().err.startswith(f"{config}:4: listner: unknown key; did you mean")


def test_validate_reads_the_files_that_the_config_names(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = "listener: {tls: {certificate: cert.pem, private_key: key.pem}}\n"
    config.write_text(CONFIG + tls)
    assert main(["validate", str(config)]) == 2
    certificate, key = capsys.readouterr().err.splitlines()
    assert certificate.startswith(f"{config}:4: listener.tls.certificate: ")
    assert key.startswith(f"{config}:4: listener.tls.private_key: ")


def test_validate_prints_warnings_and_succeeds(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG + "limits: {backend: {password_env: SLUICE_TEST_UNSET}}\n")
    assert main(["validate", str(config)]) == 0
    warning = f"warning: {config}:4: limits.backend.password_env: the variable is not set"
    assert capsys.readouterr().err.splitlines()[-1].startswith(warning)


def test_validate_can_fail_because_of_warnings(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(config)]) == 0
    printed = capsys.readouterr()
    assert "valid; 1 model, version" in printed.out
    assert printed.out.endswith(", 1 warning\n")
    assert printed.err == (
        f"warning: {config}:2: auth: there is no issuer and no API key, so that every request for "
        "model a is refused (401); add auth.issuers or auth.api_keys, or set access.public: true "
        "[no_credentials]\n"
    )
    assert main(["validate", "--strict", str(config)]) == 1
    assert main(["validate", "--strict", "--ignore", "no_credentials", str(config)]) == 0
    capsys.readouterr()
    config.write_text(CONFIG + "auth: {api_keys: [{name: k, sha256: '" + "1a" * 32 + "'}]}\n")
    assert main(["validate", "--strict", str(config)]) == 0
    assert capsys.readouterr().err == ""


def test_the_configs_of_the_examples_have_no_warning(tmp_path: Path) -> None:
    assert main(["init", str(tmp_path / "demo")]) == 0
    example = tmp_path / "demo" / "gateway.yaml"
    assert list(analyze(loads(example.read_text()))) == []


def test_validate_compares_with_the_config_of_the_running_gateway(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed.yaml"
    changed.write_text(CONFIG + "listener: {address: '127.0.0.1:1'}\n")
    arguments = ["validate", str(changed), "--running", str(config)]
    assert main(["validate", str(changed)]) == 0
    assert main(arguments) == 2
    assert f"{changed}:4: listener.address: this change would move" in capsys.readouterr().err
    changed.write_text(changed.read_text() + "allow_disruption: true\n")
    assert main(arguments) == 0


def test_schema_prints_the_json_schema_of_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(fields(GatewayConfig))
    assert schema["additionalProperties"] is False


def test_bootstrap_names_the_control_plane(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bootstrap", str(config), "--node-id", "edge-1"]) == 0
    bootstrap = yaml.safe_load(capsys.readouterr().out)
    assert bootstrap["node"]["id"] == "edge-1"
    assert "18000" in json.dumps(bootstrap["static_resources"])


def test_a_development_key_is_private_and_its_tokens_verify(tmp_path: Path) -> None:
    keys = DevKeys(tmp_path / "var" / "key.pem", tmp_path / "var" / "jwks.json")
    keys.ensure()
    assert stat.S_IMODE(keys.private_key.stat().st_mode) == 0o600
    (key,) = jwt.PyJWKSet.from_json(keys.jwks.read_text()).keys
    claims = {**standard_claims(60), "sub": "1234", "group": "vip"}
    token = sign(parse_private_key(keys.private_key.read_bytes()), claims)
    claims = jwt.decode(token, key, ["RS256"], audience=AUDIENCE, issuer=ISSUER)
    assert (claims["sub"], claims["group"]) == ("1234", "vip")
    assert claims["exp"] <= time.time() + 60


def test_a_development_key_is_created_once(tmp_path: Path) -> None:
    keys = DevKeys(tmp_path / "key.pem", tmp_path / "jwks.json")
    keys.ensure()
    before = (keys.private_key.read_bytes(), keys.jwks.stat().st_mtime_ns)
    keys.ensure()
    assert (keys.private_key.read_bytes(), keys.jwks.stat().st_mtime_ns) == before


def test_a_created_api_key_matches_its_config_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key", "batch"]) == 0
    shown = capsys.readouterr()
    entry = yaml.safe_load(shown.err.partition("\n")[2].partition("\n")[2])
    assert entry[0]["sha256"] == hashlib.sha256(shown.out.strip().encode()).hexdigest()
    assert loads(yaml.safe_dump({"auth": {"api_keys": entry}})).auth.api_keys[0].name == "batch"


def test_a_created_admin_token_matches_its_config_entry(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["admin-token", "oscar", "--role", "operator"]) == 0
    shown = capsys.readouterr()
    entry = yaml.safe_load(shown.err.partition("\n")[2].partition("\n")[2])
    assert entry[0]["sha256"] == hashlib.sha256(shown.out.strip().encode()).hexdigest()
    text = yaml.safe_dump({"control_plane": {"access": {"tokens": entry}}})
    (token,) = loads(text).control_plane.access.tokens
    assert (token.name, token.role) == ("oscar", "operator")


@pytest.mark.parametrize("name", ["", "a: b", "a\nb", "_a", "a" * 64])
def test_the_name_of_an_api_key_is_valid_in_the_config(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["key", name])
    assert end.value.code == 2
    assert "write 1 to 63 letters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("request_arguments", "note"),
    [
        (["/v2/models/sentimant/infer"], "did you mean model sentiment?"),
        (["/v2/models/SENTIMENT/infer"], "did you mean model sentiment?"),
        (
            ["/v2/models/sentiment/predict"],
            "model sentiment has no path predict; it has generate, ",
        ),
        (["/v1/sentimnt"], "did you mean /v1/sentiment?"),
        (["/zzz"], "models have the path /v2/models/NAME, and those in paths"),
    ],
)
def test_explain_suggests_a_model_with_a_similar_name(
    config: Path, request_arguments: list[str], note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    version = 'versions: {v1: {endpoints: [{address: "127.0.0.1:9001"}]}}'
    config.write_text(f"models: {{sentiment: {{paths: [/v1/sentiment], {version}}}}}\n")
    assert main(["explain", "--offline", str(config), *request_arguments]) == 3
    printed = capsys.readouterr().out
    assert "404 unknown_model: no model has this path" in printed
    assert note in printed


def test_explain_decides_without_a_key_set_that_cannot_be_fetched(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = "http://127.0.0.1:1/jwks"
    issuer = f"{{issuer: i, audiences: [a], algorithms: [RS256], jwks_uri: {uri}}}"
    config.write_text(f"{CONFIG}auth: {{issuers: [{issuer}]}}\n")

    def explained(*options: str) -> tuple[int, dict[str, Any]]:
        status = main(["explain", "--offline", "--json", str(config), *options, "/v2/models/a"])
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert any(note.startswith("the key set of i cannot be") for note in found["notes"])
        return status, found["decision"]

    signed = jwt.encode({"iss": "i", "aud": "a"}, key=rsa.generate_private_key(65537, 2048),
                        algorithm="RS256", headers={"kid": "k"})  # fmt: skip
    status, decision = explained("-H", f"authorization: Bearer {signed}")
    assert (status, decision["status"], decision["reason"]) == (3, 503, "key_set_unavailable")
    status, decision = explained()
    assert (status, decision["reason"]) == (3, "unauthenticated")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--address", "nowhere"),
        ("--metrics", "9902"),
        ("--metrics-allowed-host", "a/b"),
        ("--max-memory", "lots"),
        ("--hang-timeout", "0.5"),
    ],
)
def test_an_invalid_option_of_the_callout_is_named(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["callout", option, value]) == 2
    assert capsys.readouterr().err.startswith(f"sluice callout: {option} {value}: ")


@pytest.mark.parametrize(
    ("command", "part", "lines"),
    [("callout", "callout", (4, 5)), ("control-plane", "control_plane", (7, 8))],
)
def test_a_process_does_not_start_with_files_that_it_cannot_use(
    command: str, part: str, lines: tuple[int, int], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    parts = [
        f"  {each}:\n    certificate: absent.crt\n    private_key: {each}.yaml\n"
        for each in ("callout", "control_plane", "envoy")
    ]
    file = tmp_path / "callout.yaml"
    (tmp_path / "control_plane.yaml").write_text("no key")
    file.write_text("identity:\n  ca: absent.crt\n" + "".join(parts))
    assert main([command, str(file)]) == 2
    found = capsys.readouterr().err
    assert f"{file}:2: identity.ca: the file cannot be read: " in found
    assert f"{file}:{lines[0]}: identity.{part}.certificate: the file cannot be read: " in found
    key = f"{file}:{lines[1]}: identity.{part}.private_key: the file has no valid private key"
    assert f"{key} in PEM; write a file that begins with" in found


def test_the_files_of_an_envoy_may_be_on_its_machine_but_not_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, token = tmp_path / "gateway.yaml", tmp_path / "envoy.token"
    file.write_text(
        "identity:\n  callout: {token_file: callout.token}\n  envoy: {token_file: envoy.token}\n"
    )
    assert main(["bootstrap", str(file)]) == 0
    where = f"{file}:3: identity.envoy.token_file: "
    assert f"warning: {where}the file cannot be read: " in capsys.readouterr().err
    token.write_text("short")
    assert main(["bootstrap", str(file)]) == 2
    assert f"{where}the token must be one line" in capsys.readouterr().err


def test_up_passes_the_memory_limit_to_the_callout(tmp_path: Path) -> None:
    config = GatewayConfig.model_validate({"callout": {"max_memory": "64MiB"}})
    argv = plan.callout(config, Path(), None, tmp_path).argv
    option = argv[argv.index("--max-memory") + 1]
    # The callout accepts what the option says.
    assert GatewayConfig.model_validate({"callout": {"max_memory": option}}) == config


def test_up_passes_the_allowed_hosts_to_the_callout(tmp_path: Path) -> None:
    names = ["Gateway.internal", "callout.internal"]
    config = GatewayConfig.model_validate({"telemetry": {"metrics": {"allowed_hosts": names}}})
    argv = plan.callout(config, Path(), None, tmp_path).argv
    passed = [
        argv[i + 1] for i, argument in enumerate(argv) if argument == "--metrics-allowed-host"
    ]
    assert passed == ["gateway.internal", "callout.internal"]


def test_output_into_a_closed_pipe_is_not_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-m", "sluice.cli", "schema"]
    done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_explain_says_that_a_video_goes_to_the_video_service(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(
        "models: {m: {versions: {v1: {endpoints: [{address: '127.0.0.1:9001'}], protocol: grpc}},"
        " inputs: [{name: i, datatype: BYTES, shape: [1]}], video: {}, access: {public: true}}}\n"
        "video: {}\n"
    )
    arguments = ["-H", "content-type: video/mp4", "-d", "video", "/v2/models/m/video"]
    assert main(["explain", "--offline", str(config), *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "-> m, by the video service (stable)"
    assert any("breaker" in line and "each frame passes it" in line for line in lines)
    main(["explain", "--offline", "--json", str(config), *arguments])
    assert json.loads(capsys.readouterr().out)["decision"]["video"] is True
