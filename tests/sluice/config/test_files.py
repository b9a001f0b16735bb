"""Only regular files are read, and only up to a bound."""

import os
from pathlib import Path

import pytest

from sluice.config.files import TooLargeError, read_file


def test_a_file_is_read_up_to_the_maximum(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345678")
    assert read_file(file, 8) == b"12345678"
    with pytest.raises(TooLargeError):
        read_file(file, 7)


def test_a_sparse_file_of_many_gigabytes_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.truncate(file, 1 << 40)
    with pytest.raises(TooLargeError):
        read_file(file, 1024)


def test_a_pipe_a_directory_and_a_device_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "pipe", "Not a regular file"),
        (Path("/dev/zero"), "Not a regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "absent", "No such file"),
        (Path("a\0b"), "Invalid argument"),
        (Path("a" * 5000), "File name too long"),
    ):
        with pytest.raises(OSError, match=reason):
            read_file(path, 1024)


def test_a_link_that_changes_during_the_read_does_not_mix_two_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name * 100_000)
    link = tmp_path / "link"
    link.symlink_to("a")
    seen = set()
    for target in ("b", "a", "b"):
        (tmp_path / "new").symlink_to(target)
        (tmp_path / "new").replace(link)
        seen.add(read_file(link, 1 << 20))
    assert seen == {b"a" * 100_000, b"b" * 100_000}
