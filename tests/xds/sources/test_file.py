"""The config file, edited as people and machines edit it."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.config import ConfigError
from xds.protocol import resource_types
from xds.sources.file import CompiledConfig, ConfigFile

JWKS = json.dumps({"keys": []})
CONFIG = """
auth:
  issuers:
    - {issuer: i, audiences: [a], algorithms: [RS256], jwks_file: keys/jwks.json}
models:
  text: {versions: {v1: {endpoints: [{address: "127.0.0.1:9"}]}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "jwks.json").write_text(JWKS)
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return path


def after(file: Path, *edits: Callable[[], object]) -> list[CompiledConfig | ConfigError]:
    """What follows from each of these edits."""

    async def follow() -> list[CompiledConfig | ConfigError]:
        source = ConfigFile(file)
        source.read()
        changes, seen = source.changes(), []
        async with asyncio.timeout(10):
            for edit in edits:
                following = asyncio.ensure_future(anext(changes))
                await asyncio.sleep(0)
                edit()
                seen.append(await following)
        return seen

    return asyncio.run(follow())


def replace(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


def clusters(change: CompiledConfig | ConfigError) -> set[str]:
    assert isinstance(change, CompiledConfig)
    return set(change.snapshot.types[resource_types.CLUSTER].resources)


@pytest.mark.parametrize("write", [Path.write_text, replace])
def test_a_file_written_to_and_a_file_put_in_its_place_are_both_noticed(
    file: Path, write: Callable[[Path, str], object]
) -> None:
    (change,) = after(file, lambda: write(file, CONFIG.replace("text:", "other:")))
    assert clusters(change) == {"sluice-callout", "other/v1"}


def test_a_mounted_config_map_is_noticed_when_its_link_is_swapped(tmp_path: Path) -> None:
    for name, model in (("one", "text"), ("two", "other")):
        (tmp_path / name / "keys").mkdir(parents=True)
        (tmp_path / name / "keys" / "jwks.json").write_text(JWKS)
        (tmp_path / name / "gateway.yaml").write_text(CONFIG.replace("text:", f"{model}:"))
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "keys").symlink_to("..data/keys")
    (tmp_path / "gateway.yaml").symlink_to("..data/gateway.yaml")

    def swap() -> None:
        (tmp_path / "..new").symlink_to("two")
        (tmp_path / "..new").replace(tmp_path / "..data")

    (change,) = after(tmp_path / "gateway.yaml", swap)
    assert clusters(change) == {"sluice-callout", "other/v1"}


def test_a_key_set_that_changes_changes_the_policy(file: Path) -> None:
    keys = file.parent / "keys" / "jwks.json"
    (change,) = after(file, lambda: replace(keys, json.dumps({"keys": [{"kty": "oct"}]})))
    assert isinstance(change, CompiledConfig)
    assert b"oct" in change.snapshot.types[resource_types.POLICY].resources["policy"].body


def test_a_mistake_is_reported_and_its_correction_taken(file: Path) -> None:
    wrong, right = after(
        file, lambda: replace(file, "modles: {}"), lambda: replace(file, CONFIG + "\nlimits: {}")
    )
    assert isinstance(wrong, ConfigError)
    assert "did you mean models?" in str(wrong)
    assert isinstance(right, CompiledConfig)


def test_a_file_that_vanishes_is_reported_and_noticed_when_it_is_back(file: Path) -> None:
    gone, back = after(file, file.unlink, lambda: file.write_text(CONFIG))
    assert "cannot be read" in str(gone)
    assert isinstance(back, CompiledConfig)


def test_what_only_a_restart_changes_is_named_and_does_not_reach_envoy(file: Path) -> None:
    edits = "\ncallout: {workers: 5, message_timeout: 9s}\nenvoy: {concurrency: 3}\n"
    (change,) = after(file, lambda: replace(file, CONFIG + edits))
    assert isinstance(change, CompiledConfig)
    assert change.restart_required == ("envoy", "callout.workers")
    assert change.config.callout.workers == 2
    assert change.config.callout.message_timeout == 9
