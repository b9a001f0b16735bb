"""Every reason by which a payload is refused stands on the page of conversion, at its status."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "conversion.md").read_text()
STATUS = {"malformed": 400, "too_large": 413, "unsupported": 415, "unfitting": 422}


def raised() -> Iterator[tuple[int, str]]:
    """Status and reason of each refusal that the code writes out."""
    for file in (ROOT / "extproc" / "convert").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(ast.Name(name), [ast.Constant(str(reason)), *_]) if name in STATUS:
                    yield STATUS[name], reason
                case ast.Call(
                    ast.Name("ConversionError"),
                    [ast.Constant(int(status)), ast.Constant(str(reason)), *_],
                ):
                    yield status, reason


def test_every_reason_is_documented_at_its_status_and_no_other() -> None:
    rows = re.findall(r"^\| (\d{3}) \| .* \| (`.*`) \|$", PAGE, re.MULTILINE)
    documented = {(int(row[0]), name) for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert documented == set(raised())
