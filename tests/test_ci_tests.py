"""`.ci/tests` runs failed tests again alone, and fails for all that does not pass then."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "tests"

FAILS_ONCE = """
from pathlib import Path
def test_{name}():
    marker = Path(__file__ + ".{name}")
    ran, _ = marker.exists(), marker.touch()
    assert ran
"""
PASSES_ONCE = FAILS_ONCE.replace("assert ran", "assert not ran")
FAILS = "def test_{name}(): assert False\n"
PASSES = "def test_{name}(): pass\n"
WITHOUT_PLUGINS = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""Most of a short run of pytest is the import of plugins."""

ANNOUNCED = "These tests failed while others ran."


def run(folder: Path, integration: str, others: str = PASSES) -> subprocess.CompletedProcess[str]:
    """Run the script over two modules of tests. In each, `{name}` is a number."""
    return run_all(folder, {"tests/integration/test_a.py": integration, "tests/test_b.py": others})


def run_all(folder: Path, modules: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").touch()
    for name, text in modules.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace("{name}", "0"))
    argv = [sys.executable, str(SCRIPT), sys.executable]
    return subprocess.run(
        argv,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=WITHOUT_PLUGINS,
    )


def several(test: str, count: int) -> str:
    return "".join(test.replace("{name}", str(number)) for number in range(count))


def test_tests_that_pass_alone_are_named_and_are_no_failure(tmp_path: Path) -> None:
    """Only they run again: `test_9` would fail."""
    ran = run(tmp_path, several(FAILS_ONCE, 2) + PASSES_ONCE.replace("{name}", "9"), FAILS_ONCE)
    assert ran.returncode == 0
    named = ran.stdout.partition("failed beside others, and passed alone:\n")[2].split()
    assert named == [
        "tests/integration/test_a.py::test_0",
        "tests/integration/test_a.py::test_1",
        "tests/test_b.py::test_0",
    ]


@pytest.mark.parametrize("where", ["integration", "others"])
def test_a_test_that_fails_alone_too_fails(tmp_path: Path, where: str) -> None:
    modules = {"integration": FAILS_ONCE, "others": FAILS_ONCE} | {where: FAILS}
    ran = run(tmp_path, **modules)
    assert ran.returncode == 1
    assert ANNOUNCED in ran.stdout


def test_each_test_runs_once_also_in_many_files(tmp_path: Path) -> None:
    names = [f"tests/integration/test_{name}.py" for name in "abcdefghi"]
    names += ["tests/integration/part/test_j.py", "tests/part/test_k.py"]
    ran = run_all(tmp_path, dict.fromkeys(names, PASSES_ONCE))
    assert ran.returncode == 0
    assert all((tmp_path / f"{name}.0").exists() for name in names)


def test_without_a_failure_nothing_runs_again(tmp_path: Path) -> None:
    ran = run(tmp_path, PASSES)
    assert ran.returncode == 0
    assert ANNOUNCED not in ran.stdout


def test_a_failure_of_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    assert run(tmp_path, several(FAILS, 9)).returncode == 1
    assert run(tmp_path, PASSES).returncode == 0


def test_many_failures_fail_at_once(tmp_path: Path) -> None:
    ran = run(tmp_path, several(FAILS_ONCE, 3), several(FAILS_ONCE, 3))
    assert ran.returncode == 1
    assert ANNOUNCED not in ran.stdout


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("import no_such_module\n", 2),
        ("def test_interrupted(): raise KeyboardInterrupt\n", 2),
        ("def test_crash():\n    import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n", -9),
        ("# No tests.\n", 5),
        ("from _pytest import _io\ndef test_pytest(): _io.TerminalWriter.write_raw = None\n", 3),
    ],
)
def test_a_run_that_does_not_end_fails(tmp_path: Path, text: str, status: int) -> None:
    """Also if the tests beside it would pass in a second run."""
    for modules in (text, FAILS_ONCE), (FAILS_ONCE, text):
        ran = run(tmp_path, *modules)
        assert ran.returncode == status % 256
        assert ANNOUNCED not in ran.stdout
        (tmp_path / "tests/test_b.py.0").unlink(missing_ok=True)
