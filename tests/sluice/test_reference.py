"""The reference pages say what the code does."""

from pathlib import Path

from sluice.config.reference import reference

DOCS = Path(__file__).parents[2] / "docs"


def test_the_config_page_is_what_the_schema_says() -> None:
    page = (DOCS / "reference" / "config.md").read_text()
    assert page == reference(), "docs/reference/config.md is stale: run 'make docs'"
