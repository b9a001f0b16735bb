"""Every reason is documented, with its status."""

import re
from pathlib import Path

from extproc.decision import Reason
from extproc.decision.reasons import STATUS

DOCUMENT = Path(__file__).parents[3] / "docs" / "decision.md"


def test_every_reason_is_documented_with_its_status() -> None:
    text = DOCUMENT.read_text()
    for reason in Reason:
        row = rf"\| `{reason}` \| {STATUS[reason]} \|" if reason in STATUS else rf"\| `{reason}` \|"
        assert re.search(row, text), f"{DOCUMENT.name} lacks {reason}"


def test_a_reason_is_of_an_admission_or_of_a_refusal() -> None:
    assert all(400 <= status <= 599 for status in STATUS.values())
