"""A private folder is removed at the end of its process, or at the start of the next one."""

import subprocess
import sys
from pathlib import Path

from sluice.private_folder import private_folder

PREFIX = "sluice-test-private-"

HOLD = """
import sys, pathlib
from sluice.private_folder import private_folder
with private_folder(sys.argv[1], pathlib.Path(sys.argv[2])) as folder:
    (folder / "content").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that uses a folder, and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, PREFIX, str(parent)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_the_folder_of_a_killed_process_is_removed_by_the_next_one(tmp_path: Path) -> None:
    used, killed = holder(tmp_path), holder(tmp_path)
    killed[0].kill()
    killed[0].wait()
    assert killed[1].is_dir()
    with private_folder(PREFIX, tmp_path) as own:
        assert own.stat().st_mode & 0o777 == 0o700
        assert sorted(tmp_path.iterdir()) == sorted([used[1], own])
    used[0].communicate()
    assert list(tmp_path.iterdir()) == []


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    others = [tmp_path / f"{PREFIX}{name}" for name in ("settings", "of-more-than-8-letters")]
    for other in others:
        other.mkdir()
    (tmp_path / f"{PREFIX}a_link_8").symlink_to(others[0])
    with private_folder(PREFIX, tmp_path):
        pass
    assert len(list(tmp_path.iterdir())) == 3
