"""Bad configs are refused before Envoy sees them, each with file, line, key, remedy and pointer."""

from pathlib import Path

import pytest
import yaml

from sluice.cli import main
from sluice.config import ConfigError
from sluice.config.checked import load_checked
from sluice.config.document import DocumentError, parse
from sluice.config.named_files import MAY_RUN_ELSEWHERE

TABLE = (Path(__file__).parent / "bad_configs.txt").read_text()
ERROR = ">>> "


def cases() -> list[tuple[str, list[str]]]:
    found = []
    for part in TABLE.split("-----\n")[1:]:
        text, _, errors = part.partition(ERROR)
        found.append((text, errors.removesuffix("\n").split(f"\n{ERROR}")))
    return found


CASES = cases()


def test_there_are_many_bad_configs() -> None:
    assert len({text for text, _ in CASES}) >= 130


@pytest.mark.parametrize(("text", "expected"), CASES, ids=lambda value: str(value)[:60])
def test_a_bad_config_is_refused_with_its_errors(
    text: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("gateway.yaml")
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_checked(file, MAY_RUN_ELSEWHERE)
    found = caught.value.problems
    assert [f"{each} @ {each.pointer}" for each in found] == expected
    for problem in found:
        assert problem.file == "gateway.yaml"
        assert problem.line or not text
        assert _is_place(text, problem.pointer)


def _is_place(text: str, pointer: str) -> bool:
    """Whether the pointer is that of a value of the document, or of a member that it may have."""
    try:
        root = parse(text)
    except DocumentError:
        return True  # without a document, only the line counts
    value: object = None if root is None else root.data
    *parents, _ = pointer.split("/")
    for key in parents[1:]:
        value = value[int(key)] if isinstance(value, list) else value[key]  # type: ignore[index]
    return True


def test_the_command_prints_the_errors_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("control_plane: {http: '127.0.0.1:8080'}\ncallout: {workers: 2}\n")
    assert main(["validate", str(file)]) == 2
    assert f"{file}:1: control_plane.http: another server of" in capsys.readouterr().err


ENDPOINT = {"endpoints": [{"address": "10.0.0.1:80"}]}


@pytest.mark.parametrize(
    "config",
    [
        {"control_plane": {"xds": "127.0.0.1:18000", "http": "127.0.0.2:8080"}},
        {"callout": {"address": "unix:/run/callout.sock"}},
        {
            "callout": {"address": "10.0.0.7:8080", "allow_insecure": True},
            "control_plane": {"xds": "10.0.0.8:9901", "allow_insecure": True},
        },
        {
            "control_plane": {
                "xds": "10.0.0.8:8080",
                "http": "127.0.0.1:9901",
                "allow_insecure": True,
            }
        },
        {"listener": {"address": "[::1]:8081"}},
    ],
)
def test_servers_of_other_machines_and_addresses_may_have_the_same_port(
    config: dict[str, object], tmp_path: Path
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump({**config, "models": {"m": {"versions": {"v1": ENDPOINT}}}}))
    load_checked(file, MAY_RUN_ELSEWHERE)
