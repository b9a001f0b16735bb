"""The layout holds: who may import whom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"sluice", "extproc", "xds", "protos", "examples"}
MAY_IMPORT = {
    "protos": {"protos"},
    "extproc": {"extproc", "protos", "sluice.config"},
    "xds": {"xds", "protos", "sluice.config"},
    "sluice/config": {"sluice.config", "protos"},
    "examples": {"examples", "protos"},
}


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
