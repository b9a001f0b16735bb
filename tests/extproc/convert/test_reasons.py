"""The table of conversion refusals lists exactly the reasons that the code raises."""

import ast
from collections.abc import Iterator
from pathlib import Path

from sluice.contract.reasons import CONVERSION_REFUSALS, STATUS, Reason

EXTPROC = Path(__file__).parents[3] / "extproc"
SHARED_WITH_DECISIONS = {
    Reason.BODY_TOO_LARGE,
    Reason.CONVERSION_QUEUE_FULL,
    Reason.CONVERSION_TIMEOUT,
    Reason.MEMORY_EXHAUSTED,
    Reason.UNSUPPORTED_MEDIA_TYPE,
}


def refusals(folder: Path) -> Iterator[Reason]:
    """The reason of every `Refusal(Reason.X, ...)` and `ConversionError(Reason.X, ...)`."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(
                    ast.Name("Refusal" | "ConversionError"),
                    [ast.Attribute(ast.Name("Reason"), name), *_],
                ):
                    yield Reason[name]


def test_every_reason_of_a_refusal_has_a_status() -> None:
    assert set(refusals(EXTPROC)) <= STATUS.keys()


def test_conversion_raises_every_reason_of_its_table() -> None:
    raised = set(refusals(EXTPROC / "convert"))
    assert raised == CONVERSION_REFUSALS.keys() | SHARED_WITH_DECISIONS
