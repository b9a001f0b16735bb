"""Files are replaced in one step, and nothing but files."""

import os
from pathlib import Path

import pytest

from sluice.output import replace_file


def test_a_file_is_replaced_and_a_link_to_it_too(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    replace_file(target, b"old")
    link.symlink_to(target)
    replace_file(link, b"new")
    assert (target.read_bytes(), link.read_bytes()) == (b"old", b"new")
    assert not link.is_symlink()


def test_a_file_with_the_same_content_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"same")
    inode = path.stat().st_ino
    replace_file(path, b"same")
    assert path.stat().st_ino == inode


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_and_a_device_are_not_replaced(tmp_path: Path, linked: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target in (pipe, Path("/dev/zero")):
        path = target
        if linked or target != pipe:
            path = tmp_path / f"link-{target.name}"
            path.symlink_to(target)
        with pytest.raises(OSError, match="Not a regular file"):
            replace_file(path, b"content")
        assert not path.is_file()


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path, b"content")
