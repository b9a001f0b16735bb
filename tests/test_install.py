"""`make` shows the progress of an installation, and the reason if it fails."""

import subprocess
import sys
from pathlib import Path

INSTALL = Path(__file__).parent.parent / ".ci" / "install"


def install(lock_file: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(INSTALL), sys.executable, str(lock_file)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


def test_the_reason_of_a_failed_installation_is_shown(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("not-a-version==?\n")
    ran = install(tmp_path / "lock")
    assert ran.returncode != 0
    assert ran.stdout.startswith("Installing the packages of")
    assert "not-a-version" in ran.stderr


def test_an_installation_says_when_it_is_done(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("")
    ran = install(tmp_path / "lock")
    assert ran.returncode == 0
    assert "done in" in ran.stdout
