"""A command refuses to run with a package of the same name that is not Sluice's."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sluice.config import GatewayConfig
from sluice.runner import plan

ROOT = Path(__file__).parents[3]
COMMANDS = {
    "callout": ["callout", "--metrics", "9902"],
    "control-plane": ["control-plane", "absent.yaml"],
    "explain": ["explain", "absent.yaml", "/x"],
    "up": ["up", "absent.yaml"],
}
USES = [
    ("callout", "extproc"),
    ("control-plane", "xds"),
    ("explain", "extproc"),
    ("explain", "protos"),
    ("up", "extproc"),
    ("up", "xds"),
]


def sluice(
    *arguments: str, path: list[Path], directory: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with these folders on the import path, in a working directory.

    `-S` leaves out the editable install of this environment; its libraries are added again.
    """
    libraries = [entry for entry in sys.path if entry.endswith("-packages")]
    return subprocess.run(
        [sys.executable, "-S", "-m", "sluice.cli", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), *libraries])},
        cwd=directory or "/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def foreign_package(folder: Path, name: str) -> Path:
    """A package that fails when it is imported; returns its file."""
    package = folder / name
    package.mkdir(parents=True)
    file = package / "__init__.py"
    file.write_text("raise SystemExit('the foreign package was imported')\n")
    return file


def record(folder: Path, name: str, files: list[Path]) -> None:
    """Write the metadata of an installed distribution that has these files."""
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    with (info / "RECORD").open("w") as rows:
        for file in files:
            digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest())
            hashed = f"sha256={digest.rstrip(b'=').decode()}"
            print(file.relative_to(folder), hashed, file.stat().st_size, sep=",", file=rows)


@pytest.mark.parametrize(("command", "package"), USES)
def test_a_package_of_another_folder_is_named_with_the_remedy(
    command: str, package: str, tmp_path: Path
) -> None:
    file = foreign_package(tmp_path, package)
    done = sluice(*COMMANDS[command], path=[tmp_path, ROOT])
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"sluice {command}: the package {package} is not part of sluice-gateway",
        f"  found:     {file}",
        f"  owner:     the folder {tmp_path}",
        f"  expected:  {ROOT / package}",
        f"  remedy:    remove {tmp_path} from PYTHONPATH",
    ]


def test_a_package_of_the_working_directory_is_named_with_the_remedy(tmp_path: Path) -> None:
    file = foreign_package(tmp_path, "xds")
    done = sluice(*COMMANDS["control-plane"], path=[ROOT], directory=tmp_path)
    assert done.returncode == 1
    assert f"  found:     {file}\n" in done.stderr
    assert "  remedy:    start the command in another directory\n" in done.stderr


def test_a_package_of_another_distribution_is_named_with_the_distribution(tmp_path: Path) -> None:
    record(tmp_path, "xds-protos", [foreign_package(tmp_path, "xds")])
    done = sluice(*COMMANDS["control-plane"], path=[tmp_path, ROOT])
    assert done.returncode == 1
    assert "  owner:     the distribution xds-protos 1.2\n" in done.stderr
    assert "  remedy:    install sluice-gateway in a separate virtual environment\n" in done.stderr


def test_a_single_module_is_a_foreign_package_too(tmp_path: Path) -> None:
    (tmp_path / "protos.py").write_text("raise SystemExit('imported')\n")
    done = sluice(*COMMANDS["callout"], path=[tmp_path, ROOT])
    assert done.returncode == 1
    assert f"  found:     {tmp_path / 'protos.py'}\n" in done.stderr


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder in which the packages are installed as the wheel installs them."""
    site = tmp_path / "site"
    for package in ("sluice", "extproc", "xds", "protos"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, site / package, ignore=skip)
    record(site, "sluice-gateway", [file for file in site.rglob("*") if file.is_file()])
    return site


def test_the_installed_packages_are_accepted(installed: Path) -> None:
    done = sluice(*COMMANDS["control-plane"], path=[installed])
    assert done.returncode == 2
    assert done.stderr == "absent.yaml: the file cannot be read: No such file or directory\n"


def test_a_folder_without_init_beside_the_package_is_accepted(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "other" / "xds").mkdir(parents=True)
    done = sluice(*COMMANDS["control-plane"], path=[tmp_path / "other", installed])
    assert done.returncode == 2


def test_a_folder_without_init_in_place_of_the_package_is_foreign(
    installed: Path, tmp_path: Path
) -> None:
    shutil.rmtree(installed / "xds")
    (tmp_path / "other" / "xds").mkdir(parents=True)
    done = sluice(*COMMANDS["control-plane"], path=[tmp_path / "other", installed])
    assert done.returncode == 1
    assert f"  found:     {tmp_path / 'other' / 'xds'}\n" in done.stderr


def test_a_missing_package_is_named_with_the_remedy(installed: Path) -> None:
    shutil.rmtree(installed / "xds")
    done = sluice(*COMMANDS["control-plane"], path=[installed])
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "sluice control-plane: the package xds of sluice-gateway is missing",
        f"  expected:  {installed / 'xds'}",
        "  remedy:    install sluice-gateway again",
    ]


def test_a_file_that_another_distribution_replaced_is_named(installed: Path) -> None:
    file = installed / "protos" / "base_pb2.py"
    file.write_text("raise SystemExit('the foreign package was imported')\n")
    record(installed, "other-protos", [file])
    done = sluice(*COMMANDS["callout"], path=[installed])
    assert done.returncode == 1
    assert f"  found:     {file}\n  owner:     the distribution other-protos 1.2\n" in done.stderr


def test_an_empty_init_of_another_distribution_is_accepted(installed: Path) -> None:
    file = installed / "xds" / "__init__.py"
    file.write_text("")
    record(installed, "xds-protos", [file])
    assert sluice(*COMMANDS["control-plane"], path=[installed]).returncode == 2


def test_a_command_that_imports_no_such_package_runs(tmp_path: Path) -> None:
    for package in ("extproc", "xds", "protos"):
        foreign_package(tmp_path, package)
    assert sluice("schema", path=[tmp_path, ROOT]).returncode == 0


def test_a_process_of_up_ignores_packages_of_the_working_directory(tmp_path: Path) -> None:
    foreign_package(tmp_path, "xds")
    spec = plan.control_plane(GatewayConfig(), tmp_path / "absent.yaml")
    done = subprocess.run(
        spec.argv, env=spec.environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines() == [
        f"{tmp_path / 'absent.yaml'}: the file cannot be read: No such file or directory"
    ]
