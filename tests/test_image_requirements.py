"""The images have the versions of the lock file, and every package that Sluice imports there."""

import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PINNED = ROOT / "deploy" / "images" / "requirements"
LOCK = ROOT / "requirements.lock"


def pins(file: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """The requirement and the hashes of each package in a lock file."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for entry in file.read_text().replace(" \\\n", " ").splitlines():
        requirement, *hashes = entry.split(" --hash=")
        hashes = [each.strip() for each in hashes]
        parsed = Requirement(requirement.strip())
        assert str(parsed.specifier).startswith("=="), entry
        found[canonicalize_name(parsed.name)] = str(parsed.specifier), frozenset(hashes)
    return found


@pytest.mark.parametrize("name", ["sluice", "envoy", "video", "examples"])
def test_the_images_have_the_versions_of_the_lock_file(name: str) -> None:
    locked = pins(LOCK)
    images = pins(PINNED / f"{name}.txt")
    assert images
    assert {each: locked.get(each) for each in images} == images


@pytest.mark.parametrize("name", ["build", "sbom"])
def test_the_tools_of_the_build_are_pinned_with_hashes(name: str) -> None:
    tools = pins(PINNED / f"{name}.txt")
    assert tools
    assert all(hashes for _, hashes in tools.values())


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("sluice", "kubernetes"),
        ("envoy", "envoy"),
        ("video", "video"),
        ("examples", "demo"),
    ],
)
def test_the_images_have_all_that_is_imported_there(name: str, extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["optional-dependencies"][extra]]
    if name == "sluice":
        wanted += project["dependencies"]
    assert set(needed(wanted)) <= set(pins(PINNED / f"{name}.txt"))


@pytest.mark.parametrize("name", ["sluice", "envoy", "examples"])
def test_only_the_image_of_the_video_service_has_decoders(name: str) -> None:
    """FFmpeg reads what clients and cameras send, so it stands apart from keys and decisions."""
    assert "av" in pins(PINNED / "video.txt")
    assert "av" not in pins(PINNED / f"{name}.txt")


def needed(requirements: list[str], known: set[str] | None = None) -> Iterator[str]:
    """The names of these packages, and of all that they need on this machine."""
    known = set() if known is None else known
    for text in requirements:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if name in known or not (
            requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ):
            continue
        known.add(name)
        yield name
        for each in requires(name) or []:
            marker = Requirement(each).marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                yield from needed([each.partition(";")[0]], known)
