"""The layout holds: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"sluice", "extproc", "xds", "protos", "examples"}
SHARED = {"sluice.config", "sluice.contract", "sluice.http", "sluice.images", "sluice.keys"}
MAY_IMPORT = {
    "protos": {"protos"},
    "extproc": {"extproc", "protos", *SHARED},
    "xds": {"xds", "protos", *SHARED},
    "sluice/config": {"sluice.config", "sluice.contract"},
    "sluice/contract": {"sluice.contract"},
    "sluice/http": {"sluice.http", "sluice.config"},
    "sluice/images": {"sluice.images", "sluice.config"},
    "sluice/keys": {"sluice.keys"},
    "examples": {"examples", "protos"},
}
# What a worker may never need: each takes 1 to 10 MB of every one of them.
OPTIONAL = {"PIL", "grpc", "numpy", "prometheus_client", "redis", "simplejpeg", "starlette", "yaml"}


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module)
    return {name for name in found if name.partition(".")[0] in OURS}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_package_imports_only_what_its_place_allows(folder: str) -> None:
    allowed = tuple(MAY_IMPORT[folder])
    for file in (ROOT / folder).rglob("*.py"):
        for name in imports(file):
            assert name in allowed or name.startswith(tuple(f"{a}." for a in allowed)), (
                f"{file.relative_to(ROOT)} imports {name}"
            )


def test_a_worker_imports_only_what_every_worker_uses() -> None:
    code = "import sys, extproc.process.worker, extproc.transport.aio.server; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {name.partition(".")[0] for name in ran.stdout.split()}
    assert "pydantic" in found
    assert not found & OPTIONAL


def test_a_worker_that_imports_the_command_line_again_gets_none_of_its_commands() -> None:
    code = "import sys, sluice.cli; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = set(ran.stdout.split())
    assert "sluice.cli" in found
    assert "sluice.cli.explain" not in found
