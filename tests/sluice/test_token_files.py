"""Tokens in files are followed, and a request costs no read of a file."""

import hashlib
import os
from pathlib import Path

import pytest

from sluice import token_files
from sluice.config.access import read_token
from sluice.token_files import LOOK_INTERVAL, TokenFiles

OLD, NEW = "old-token-0123456789", "new-token-0123456789"
LONG_AGO = 1_000_000_000.0


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Followed:
    """A token file with the times of a test, and the number of reads."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file, self.now, self.reads = directory / "token", 0.0, 0
        self.tokens = TokenFiles(directory, lambda: self.now)
        monkeypatch.setattr(token_files, "read_token", self._read)

    def _read(self, file: Path) -> bytes:
        self.reads += 1
        return read_token(file)

    def write(self, token: str, at: float | None = None) -> None:
        self.file.write_text(f"{token}\n")
        if at is not None:
            os.utime(self.file, (at, at))

    def digest(self, *, later: float = 0.0) -> str | None:
        self.now += later
        return self.tokens.digest("token")


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    return Followed(tmp_path, monkeypatch)


def test_new_content_takes_effect_after_the_interval(followed: Followed) -> None:
    followed.write(OLD)
    assert followed.digest() == sha256(OLD)
    followed.write(NEW)
    assert followed.digest(later=LOOK_INTERVAL) == sha256(NEW)


def test_requests_read_a_file_that_has_not_changed_once(followed: Followed) -> None:
    followed.write(OLD, LONG_AGO)
    assert {followed.digest(later=0.01) for _ in range(1000)} == {sha256(OLD)}
    assert followed.reads == 1


def test_requests_look_at_a_missing_file_once_in_the_interval(followed: Followed) -> None:
    assert {followed.digest() for _ in range(1000)} == {None}
    assert followed.reads == 1


def test_two_changes_at_the_same_time_are_both_seen(followed: Followed) -> None:
    followed.write(OLD)
    written = followed.file.stat().st_mtime
    assert followed.digest() == sha256(OLD)
    followed.write(NEW, written)
    assert followed.digest(later=LOOK_INTERVAL) == sha256(NEW)


@pytest.mark.parametrize("content", ["", "short", "x" * 1025, "a control \x07 character"])
def test_a_file_that_becomes_unusable_has_no_token(followed: Followed, content: str) -> None:
    followed.write(OLD, LONG_AGO)
    assert followed.digest() == sha256(OLD)
    followed.write(content)
    assert followed.digest(later=LOOK_INTERVAL) is None


def test_a_file_that_is_removed_has_no_token_until_it_is_back(followed: Followed) -> None:
    followed.write(OLD, LONG_AGO)
    assert followed.digest() == sha256(OLD)
    followed.file.unlink()
    assert followed.digest(later=LOOK_INTERVAL) is None
    followed.write(OLD, LONG_AGO)
    assert followed.digest(later=LOOK_INTERVAL) == sha256(OLD)


def test_the_memory_of_files_that_are_named_no_more_is_bounded(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_files, "MAX_KNOWN", 3)
    followed.write(OLD, LONG_AGO)
    names = ["token", *(f"missing{number}" for number in range(9)), "token"]
    digests = [followed.tokens.digest(name) for name in names]
    assert (digests[0], digests[-1]) == (sha256(OLD), sha256(OLD))
    assert followed.reads == len(names)
