"""`.ci/release` refuses a release that is not ready. The workflows of the forge run `.ci`."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

CHANGELOG = """# Changelog

## Unreleased

## 0.2.0 - 2026-12-01

### Added
- Routes.

## 0.1.0 - 2026-11-01

- The first version.
"""


@pytest.fixture(scope="module")
def release() -> ModuleType:
    loader = SourceFileLoader("release", str(ROOT / ".ci" / "release"))
    spec = spec_from_loader("release", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_notes_are_the_section_of_the_version(release: ModuleType) -> None:
    assert release.notes("0.2.0", CHANGELOG) == "### Added\n- Routes."
    assert release.notes("0.1.0", CHANGELOG) == "- The first version."


@pytest.mark.parametrize("version", ["0.3.0", "0.2", "Unreleased", ""])
def test_a_version_without_notes_is_refused(release: ModuleType, version: str) -> None:
    with pytest.raises(release.ReleaseError, match="has no section"):
        release.notes(version, CHANGELOG)


def test_a_tag_of_another_version_is_refused(release: ModuleType) -> None:
    project = '[project]\nversion = "0.2.0"\n'
    release.check("v0.2.0", project)
    for tag in ("v0.2.1", "0.2.0", "v0.2.0-rc1"):
        with pytest.raises(release.ReleaseError, match=r"has the version 0\.2\.0"):
            release.check(tag, project)


def test_the_command_says_what_is_missing() -> None:
    argv = [sys.executable, str(ROOT / ".ci" / "release"), "check", "v99.0.0"]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("the tag is v99.0.0, but pyproject.toml has the version")


def test_the_name_of_a_tag_is_no_command() -> None:
    """Git allows `;`, `|` and `$` in it."""
    for target in ("release-notes", "package"):
        argv = ["make", "-n", target, "TAG=v1;id"]
        shown = subprocess.run(
            argv, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
        )
        assert ".ci/release" in shown.stdout
        assert ";id" not in shown.stdout


def steps(workflow: Path) -> Iterator[Mapping[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return (step for job in jobs for step in job.get("steps", []))


def test_ci_of_the_forge_runs_only_the_script_that_main_must_pass() -> None:
    commands = [step["run"] for step in steps(ROOT / ".github/workflows/ci.yml") if "run" in step]
    assert commands == ['sudo env "PATH=$PATH" .ci/run']


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(workflow: Path) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_may_only_read_unless_it_says_more(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}


def test_a_release_has_every_image() -> None:
    dockerfile = (ROOT / "deploy" / "images" / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM .* AS (sluice\S*)$", dockerfile, flags=re.MULTILINE))
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
    assert set(jobs["images"]["strategy"]["matrix"]["image"]) == stages
