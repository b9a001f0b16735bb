"""The import graph contains every import, and a cycle in it is found."""

from itertools import pairwise
from pathlib import Path

import pytest

from tests.import_graph import Graph, cycle, grouped, import_graph


def write(root: Path, files: dict[str, str]) -> Graph:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return import_graph(root, ["app"])


@pytest.mark.parametrize(
    "text",
    [
        "import app.low.names",
        "import app.low.names as names",
        "from app.low import names",
        "from app.low.names import NAME",
        "from .low import names",
        "from .low.names import NAME",
        "def late():\n    from app.low import names",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from app.low import names",
    ],
)
def test_an_import_is_found_in_every_form(text: str, tmp_path: Path) -> None:
    graph = write(
        tmp_path, {"app/high.py": text, "app/low/__init__.py": "", "app/low/names.py": ""}
    )
    assert graph["app.high"] == {"app.low.names"}


def test_a_relative_import_of_a_package_starts_at_the_package(tmp_path: Path) -> None:
    graph = write(
        tmp_path,
        {
            "app/low/__init__.py": "from .names import NAME",
            "app/low/names.py": "from .. import high",
            "app/high.py": "",
        },
    )
    assert graph["app.low"] == {"app.low.names"}
    assert graph["app.low.names"] == {"app.high"}


def test_an_import_of_a_name_is_an_import_of_the_package_that_has_it(tmp_path: Path) -> None:
    graph = write(tmp_path, {"app/high.py": "from app.low import NAME", "app/low/__init__.py": ""})
    assert graph["app.high"] == {"app.low"}


def test_imports_of_other_packages_are_left_out(tmp_path: Path) -> None:
    graph = write(tmp_path, {"app/high.py": "import json\nfrom application import low"})
    assert graph == {"app.high": set()}


def test_the_files_are_not_executed(tmp_path: Path) -> None:
    graph = write(tmp_path, {"app/high.py": "import app.low\nraise SystemExit", "app/low.py": ""})
    assert graph["app.high"] == {"app.low"}


def test_a_forbidden_import_shows_in_the_dependencies_of_the_package(tmp_path: Path) -> None:
    graph = write(
        tmp_path,
        {
            "app/low/names.py": "def late():\n    from app.high import server",
            "app/high/server.py": "",
        },
    )
    assert grouped(graph, ["app.low", "app.high"]) == {"app.low": {"app.high"}, "app.high": set()}


def test_a_module_belongs_to_the_longest_group_name() -> None:
    graph = {"app.low.names": set(), "app.low.inner.names": {"app.low.names"}, "app.lower": set()}
    assert grouped(graph, ["app.low", "app.low.inner"]) == {
        "app.low": set(),
        "app.low.inner": {"app.low"},
        "app.lower": set(),
    }


def test_a_cycle_is_reported_in_the_order_of_its_imports(tmp_path: Path) -> None:
    graph = write(
        tmp_path,
        {
            "app/a.py": "import app.b",
            "app/b.py": "def late():\n    import app.c",
            "app/c.py": "import app.a",
            "app/d.py": "import app.a",
        },
    )
    found = cycle(graph)
    assert sorted(found[1:]) == ["app.a", "app.b", "app.c"]
    assert all(imported in graph[name] for name, imported in pairwise(found))


def test_a_cycle_of_packages_need_not_be_a_cycle_of_modules(tmp_path: Path) -> None:
    graph = write(
        tmp_path,
        {
            "app/low/names.py": "",
            "app/low/late.py": "import app.high.server",
            "app/high/server.py": "import app.low.names",
        },
    )
    assert cycle(graph) == []
    assert sorted(set(cycle(grouped(graph, ["app.low", "app.high"])))) == ["app.high", "app.low"]
