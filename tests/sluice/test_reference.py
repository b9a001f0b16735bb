"""The reference pages are generated from the current code."""

from pathlib import Path

import pytest

from sluice.cli import reference as cli
from sluice.config import warnings_reference as warnings
from sluice.config.reference import reference
from sluice.contract import reference as contract
from xds.admin import reference as admin

DOCS = Path(__file__).parents[2] / "docs"


def test_the_config_page_matches_the_schema() -> None:
    page = (DOCS / "reference" / "config.md").read_text()
    assert page == reference(), "docs/reference/config.md is stale: run 'make docs'"


def test_the_warnings_page_matches_the_rules() -> None:
    page = (DOCS / "reference" / "warnings.md").read_text()
    assert page == warnings.reference(), "docs/reference/warnings.md is stale: run 'make docs'"


def test_the_commands_page_matches_the_parsers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    page = (DOCS / "reference" / "cli.md").read_text()
    assert page == cli.reference(), "docs/reference/cli.md is stale: run 'make docs'"


def test_the_page_of_the_admin_api_matches_the_operations() -> None:
    page = (DOCS / "reference" / "admin-api.md").read_text()
    assert page == admin.reference(), "docs/reference/admin-api.md is stale: run 'make docs'"


def test_the_errors_page_matches_the_contract() -> None:
    page = (DOCS / "reference" / "errors.md").read_text()
    assert page == contract.reference(), "docs/reference/errors.md is stale: run 'make docs'"
