"""Prints the warnings about the files that a part of the gateway reads."""

import sys
from collections.abc import Iterable
from pathlib import Path

from sluice.config.finding import Finding
from sluice.config.load import ConfigText, read_text
from sluice.config.named_files import Strictness, judge


def print_warnings(found: Iterable[Finding], strictness: Strictness, file: Path) -> None:
    """Print the warnings among the findings about a config file.

    Raises ConfigError for those that are errors.
    """
    place = ConfigText(read_text(file), str(file)).problem
    for warning in judge(found, strictness, place):
        print(f"warning: {warning}", file=sys.stderr)
