"""A config file is read again after every change, however an editor or Kubernetes makes it."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sluice.config import ConfigError
from sluice.config.checked import LoadedConfig
from xds.sources.file import ConfigFile

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


def changes_after(file: Path, *edits: Callable[[], object]) -> list[LoadedConfig | ConfigError]:
    """The change that the source reports after each edit."""

    async def follow() -> list[LoadedConfig | ConfigError]:
        source = ConfigFile(file)
        source.read()
        changes, seen = source.changes(), []
        async with asyncio.timeout(60):
            for edit in edits:
                following = asyncio.ensure_future(anext(changes))
                await asyncio.sleep(0)
                edit()
                seen.append(await following)
        return seen

    return asyncio.run(follow())


def replace(path: Path, text: str) -> None:
    """Write a new file and rename it, as editors do."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


def models(change: LoadedConfig | ConfigError) -> set[str]:
    assert isinstance(change, LoadedConfig)
    return set(change.config.models)


@pytest.mark.parametrize("write", [Path.write_text, replace])
def test_a_file_that_is_written_and_a_file_that_is_replaced_are_both_detected(
    file: Path, write: Callable[[Path, str], object]
) -> None:
    (change,) = changes_after(file, lambda: write(file, CONFIG.replace("text:", "other:")))
    assert models(change) == {"other"}


def test_a_mounted_config_map_is_read_again_after_its_link_is_replaced(tmp_path: Path) -> None:
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

    (change,) = changes_after(tmp_path / "gateway.yaml", swap)
    assert models(change) == {"other"}


def test_a_changed_key_set_changes_the_policy(file: Path) -> None:
    keys = file.parent / "keys" / "jwks.json"
    changed = json.dumps({"keys": [], "issued": 2})
    (change,) = changes_after(file, lambda: replace(keys, changed))
    assert isinstance(change, LoadedConfig)
    assert change.policy.auth.issuers[0].jwks == changed


def test_an_invalid_config_is_reported_and_its_correction_is_read(file: Path) -> None:
    wrong, right = changes_after(
        file, lambda: replace(file, "modles: {}"), lambda: replace(file, CONFIG + "\nlimits: {}")
    )
    assert isinstance(wrong, ConfigError)
    assert "did you mean models?" in str(wrong)
    assert isinstance(right, LoadedConfig)


def test_a_deleted_file_is_reported_and_read_again_when_it_is_back(file: Path) -> None:
    gone, back = changes_after(file, file.unlink, lambda: file.write_text(CONFIG))
    assert "cannot be read" in str(gone)
    assert isinstance(back, LoadedConfig)


def test_a_directory_that_disappears_is_an_error_and_its_return_is_a_change(file: Path) -> None:
    folder, moved = file.parent, file.parent.with_name("moved")
    gone, back = changes_after(file, lambda: folder.rename(moved), lambda: moved.rename(folder))
    assert isinstance(gone, ConfigError)
    assert models(back) == {"text"}


SECOND = '  other: {versions: {v1: {endpoints: [{address: "127.0.0.1:9"}]}}}\n'
INCOMPLETE = 0.4
"""Seconds for which a test leaves a file incomplete."""


def change_after_pause(
    file: Path, begin: Callable[[], object], complete: Callable[[], object]
) -> LoadedConfig | ConfigError:
    """The first change that the source reports for a write with a pause in it."""

    async def follow() -> LoadedConfig | ConfigError:
        source = ConfigFile(file)
        source.read()
        following = asyncio.ensure_future(anext(source.changes()))
        await asyncio.sleep(0)
        begin()
        await asyncio.wait({following}, timeout=INCOMPLETE)
        complete()
        async with asyncio.timeout(60):
            return await following

    return asyncio.run(follow())


@pytest.mark.parametrize("written", ["", "# a comment\n", CONFIG, CONFIG[:40]])
def test_a_file_that_is_open_for_writing_is_not_read_before_it_is_complete(
    file: Path, written: str
) -> None:
    file.write_text(CONFIG + SECOND)
    text = CONFIG + SECOND + "limits: {}\n"
    with file.open("r+") as writer:

        def begin() -> None:
            writer.truncate()
            writer.write(written)
            writer.flush()

        def complete() -> None:
            writer.write(text[len(written) :] if text.startswith(written) else text)
            writer.close()

        change = change_after_pause(file, begin, complete)
    assert models(change) == {"text", "other"}


@pytest.mark.parametrize("written", ["", CONFIG, "models: [", SECOND])
def test_a_file_that_is_written_in_two_steps_is_read_when_it_is_complete(
    file: Path, written: str
) -> None:
    file.write_text(CONFIG + SECOND)
    change = change_after_pause(
        file,
        lambda: file.write_text(written),
        lambda: file.write_text(CONFIG + SECOND + "limits: {}\n"),
    )
    assert models(change) == {"text", "other"}


def test_the_first_read_waits_for_a_writer(file: Path) -> None:
    with ThreadPoolExecutor(1) as thread, file.open("w") as writer:
        first = thread.submit(ConfigFile(file).read)
        with pytest.raises(TimeoutError):
            first.result(INCOMPLETE)
        writer.write(CONFIG + SECOND)
        writer.close()
        assert models(first.result()) == {"text", "other"}


def test_a_key_set_that_is_being_written_is_not_read_before_it_is_complete(file: Path) -> None:
    keys = file.parent / "keys" / "jwks.json"
    text = json.dumps({"keys": [], "issued": 2})
    with keys.open("r+") as writer:

        def complete() -> None:
            writer.write(text)
            writer.close()

        change = change_after_pause(file, writer.truncate, complete)
    assert isinstance(change, LoadedConfig)
    assert change.policy.auth.issuers[0].jwks == text


def test_a_file_that_stays_open_for_writing_is_read_in_the_end(file: Path) -> None:
    with file.open("a") as writer:

        def edit() -> None:
            writer.write(SECOND)
            writer.flush()

        (change,) = changes_after(file, edit)
    assert models(change) == {"text", "other"}


def test_wrong_tls_files_are_an_error_and_their_correction_is_read(file: Path) -> None:
    certificate, key = file.parent / "cert.pem", file.parent / "key.pem"
    tls = "listener: {tls: {certificate: cert.pem, private_key: key.pem}}"
    wrong, right = changes_after(
        file,
        lambda: (certificate.write_text("x"), replace(file, f"{CONFIG}\n{tls}")),
        lambda: (certificate.unlink(), key.unlink(missing_ok=True)),
    )
    assert "gateway.yaml:8: listener.tls.certificate: the file has no valid certificate" in str(
        wrong
    )
    # Envoy may run on another machine, which has the files.
    assert isinstance(right, LoadedConfig)
