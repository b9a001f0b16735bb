"""The walk of the schema finds the same sections by type and by path."""

import pytest

from sluice.config import GatewayConfig, Model
from sluice.config.errors import KeyPath
from sluice.config.rate_limit_service import Descriptor
from sluice.config.schema import Section, section_at, sections
from sluice.config.telemetry import OtlpExport


@pytest.mark.parametrize(("path", "section"), list(sections()))
def test_every_section_is_found_at_its_path(path: KeyPath, section: Section) -> None:
    assert section_at(path) is section


@pytest.mark.parametrize(
    ("path", "section"),
    [
        ((), GatewayConfig),
        (("models", "digits"), Model),
        (("limits", "domains", "d", "descriptors", 0, "descriptors", 3), Descriptor),
        (("telemetry", "tracing", "otlp"), OtlpExport),
        (("telemetry", "otlp_log"), OtlpExport),
    ],
)
def test_a_section_is_found_at_the_path_of_a_config(path: KeyPath, section: Section) -> None:
    assert section_at(path) is section


@pytest.mark.parametrize("path", [("absent",), ("models",), ("requests", "max_body")])
def test_a_path_without_a_section_is_refused(path: KeyPath) -> None:
    with pytest.raises(LookupError, match="has no section"):
        section_at(path)


def test_a_section_comes_after_its_parent_and_once() -> None:
    found = [path for path, _ in sections()]
    assert found.index(("models", "NAME")) < found.index(("models", "NAME", "versions", "NAME"))
    assert len({section for _, section in sections()}) == len(found)
