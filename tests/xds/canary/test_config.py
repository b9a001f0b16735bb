"""Steps of a canary that cannot work are refused, with a remedy."""

from pathlib import Path

import pytest
import yaml

from sluice.config import ConfigError
from sluice.config.checked import check_files
from sluice.config.errors import unplaced
from sluice.config.load import loads
from sluice.config.named_files import MAY_RUN_ELSEWHERE
from xds.canary.checks import check_no_steps
from xds.resources.compiled import compile_config


def text(telemetry: object = None, **canary: object) -> str:
    versions = {name: {"endpoints": [{"address": "127.0.0.1:9"}]} for name in ("v1", "v2")}
    model = {
        "stable": "v1",
        "versions": versions,
        "breaker": {"enabled": False},
        "canaries": [{"version": "v2", **canary}],
    }
    return yaml.safe_dump({"models": {"m": model}, "telemetry": telemetry or {}})


def steps(*percents: float, duration: float = 60) -> list[dict[str, float]]:
    return [{"percent": each, "duration": duration} for each in percents]


@pytest.mark.parametrize(
    ("canary", "error"),
    [
        ({"steps": steps(5, 5)}, "steps.1.percent: write more than 5, the percentage of the step"),
        ({"steps": steps(5, duration=1)}, "steps.0.duration: "),
        ({"on_failure": "hold"}, "on_failure: this key is for steps: write steps, or remove it"),
        ({"criteria": {"max_p99": 1}}, "criteria: this key is for steps"),
        ({"steps": steps(5), "criteria": {"max_error_rate": None}}, "write at least one of max_"),
        (
            {"steps": steps(100), "criteria": {"max_p99_increase": 1}},
            "steps.0.percent: the criteria compare with the stable version: write less than 100",
        ),
        (
            {
                "telemetry": {"reports": {"enabled": False}},
                "steps": steps(5),
                "criteria": {"max_p99": 1},
            },
            "criteria: latencies come from the reports: set telemetry.reports.enabled: true",
        ),
    ],
)
def test_steps_that_cannot_work_are_refused(canary: dict[str, object], error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        loads(text(**canary))
    assert error in str(raised.value)


def test_a_file_as_the_config_cannot_have_steps(tmp_path: Path) -> None:
    def check(content: str) -> None:
        config = loads(content)
        loaded = check_files(config, tmp_path, MAY_RUN_ELSEWHERE, unplaced)
        check_no_steps(loaded, compile_config(loaded, config))

    check(text(percent=5))
    with pytest.raises(ConfigError) as raised:
        check(text(steps=steps(5)))
    assert "models.m.canaries.0.steps: " in str(raised.value)
    assert "--store sqlite:PATH" in str(raised.value)
