"""The callout follows the access of operators in the config file."""

from pathlib import Path

import pytest

from sluice.config.access import Access
from sluice.followed_access import FollowedAccess

ENTRY = "control_plane: {{access: {{tokens: [{{name: {}, role: reader, secret_file: token}}]}}}}\n"
MODELS = "models:\n  m:\n    versions: {v1: {endpoints: [{address: '127.0.0.1:9'}]}}\n"


def names(access: FollowedAccess) -> list[str]:
    return [each.name for each in access().tokens]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.yaml"
    file.write_text(ENTRY.format("ann") + MODELS)
    return file


def replace(file: Path, text: str) -> None:
    """Write a file that also differs in its inode, as its time may be the same."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def test_an_edit_counts_at_once(file: Path) -> None:
    access = FollowedAccess(file, Access())
    assert names(access) == ["ann"]
    assert access().tokens[0].secret_file == str(file.parent / "token")
    replace(file, MODELS + ENTRY.format("bob"))
    assert names(access) == ["bob"]


@pytest.mark.parametrize(
    "text", ["", MODELS, "control_plane: [", "control_plane: {access: {tokens: x}}\n" + MODELS]
)
def test_a_file_that_is_not_complete_opens_nothing(file: Path, text: str) -> None:
    access = FollowedAccess(file, Access())
    assert names(access) == ["ann"]
    replace(file, text)
    assert names(access) == ["ann"]
    file.unlink()
    assert names(access) == ["ann"]
    replace(file, ENTRY.format("bob"))
    assert names(access) == ["bob"]


def test_an_error_elsewhere_in_the_file_does_not_keep_a_revoked_token(file: Path) -> None:
    access = FollowedAccess(file, Access())
    assert names(access) == ["ann"]
    replace(file, ENTRY.format("bob") + "limits: {rules: x}\n" + MODELS)
    assert names(access) == ["bob"]


def test_without_a_file_the_first_access_counts(file: Path) -> None:
    first = FollowedAccess(file, Access())()
    assert names(FollowedAccess(None, first)) == ["ann"]
    assert names(FollowedAccess(file.with_name("absent"), first)) == ["ann"]
