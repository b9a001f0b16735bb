"""Prometheus and promtool, for tests: those that are installed."""

import os
import re
import shutil
from pathlib import Path

import pytest


def prometheus_tool(name: str) -> Path:
    """The path of a program of Prometheus. Skips the test if there is none; fails it in CI."""
    found = shutil.which(name)
    if found is None:
        missing = f"this test needs {name}: install Prometheus (apt-get install prometheus)"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return Path(found)


def metric_names(expression: str) -> set[str]:
    """The metrics of processes that a PromQL expression reads, without recorded ones."""
    without_labels = re.sub(r"\b(?:by|on|ignoring|group_left) *\([^)]*\)", "", expression)
    names = r"(?<![:\w])(?:sluice|envoy)_\w+(?=[{\[ )\n]|$)|\bup(?={)"
    return set(re.findall(names, without_labels))
