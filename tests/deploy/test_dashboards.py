"""The dashboards of Grafana are those that the code builds, and have one style."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/grafana/dashboards"
FILES = sorted(FOLDER.glob("*.json"))
BOARDS = [json.loads(file.read_text()) for file in FILES]
COLUMNS = 24


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in panels(board) for target in panel["targets"]]


@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")
def test_the_files_are_those_that_the_code_builds(tmp_path: Path) -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="run make install: it builds dashboards")
    from deploy.grafana.source.__main__ import write

    write(tmp_path)
    built = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert built == {file.name: file.read_text() for file in FILES}, "stale: run make docs"


def test_each_dashboard_has_the_name_of_its_file() -> None:
    assert [board["uid"] for board in BOARDS] == [file.stem for file in FILES]
    assert len({board["title"] for board in BOARDS}) == len(BOARDS)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["uid"]))
def test_each_panel_says_what_it_shows(board: dict[str, Any]) -> None:
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith((".", ").", ")"))
        if panel["type"] != "state-timeline":
            assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert target["legendFormat"] != "__auto", panel["title"]
        assert len({target["legendFormat"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["uid"]))
def test_panels_fill_the_grid_without_overlap(board: dict[str, Any]) -> None:
    cells = [panel["gridPos"] for panel in board["panels"]]
    rows: dict[int, list[dict[str, int]]] = {}
    for cell in cells:
        rows.setdefault(cell["y"], []).append(cell)
    for row in rows.values():
        assert sum(cell["w"] for cell in row) == COLUMNS
        assert len({cell["h"] for cell in row}) == 1
    heights = [(y, row[0]["h"]) for y, row in sorted(rows.items())]
    assert all(y + height == following for (y, height), (following, _) in pairwise(heights))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["uid"]))
def test_queries_have_the_datasource_and_the_variables_of_the_dashboard(
    board: dict[str, Any],
) -> None:
    variables = {each["name"]: each for each in board["templating"]["list"]}
    for panel in panels(board):
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
    for expression in expressions(board):
        used = set(re.findall(r"\$(\w+)", expression)) - {"__rate_interval"}
        assert used <= variables.keys()
        # A variable of which several values may be chosen becomes a regular expression.
        for name in used:
            matched = "=~" if variables[name]["multi"] else "="
            assert re.search(rf'{matched}"[^"]*\${name}\b', expression), expression
        assert "namespace" in used or "ALERTS" in expression
    unused = variables.keys() - {"datasource"} - set(re.findall(r"\$(\w+)", str(BOARDS)))
    assert not unused


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board["uid"]))
def test_rates_follow_the_scrape_interval(board: dict[str, Any]) -> None:
    for expression in expressions(board):
        assert set(re.findall(r"(?<!\w)rate\(\w+{[^}]*}\[([^]]+)\]", expression)) <= {
            "$__rate_interval"
        }


def test_grafana_finds_the_datasource_and_the_dashboards() -> None:
    folder = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    (provider,) = yaml.safe_load((folder / "dashboards/sluice.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
