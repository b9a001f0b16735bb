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


def text(telemetry: object = None, mirror: object = None, **canary: object) -> str:
    versions = {name: {"endpoints": [{"address": "127.0.0.1:9"}]} for name in ("v1", "v2", "v3")}
    model = {
        "stable": "v1",
        "versions": versions,
        "breaker": {"enabled": False},
        "canaries": [{"version": "v2", **canary}],
    }
    if mirror is not None:
        model["mirror"] = mirror
    callout = {"copies": "unix:/run/copies"}
    config = {"models": {"m": model}, "telemetry": telemetry or {}, "callout": callout}
    return yaml.safe_dump(config)


def steps(*percents: float, duration: float = 60) -> list[dict[str, float]]:
    return [{"percent": each, "duration": duration} for each in percents]


MIRRORED = {"criteria": {"min_agreement": 0.9}, "mirror": {"version": "v2"}}


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
        (
            {
                "telemetry": {"reports": {"enabled": False}},
                "steps": steps(5),
                **MIRRORED,
            },
            "criteria: comparisons come from the reports: set telemetry.reports.enabled: true",
        ),
        (
            {"steps": steps(0, 5)},
            "steps.0.percent: no user gets the canary in this step: write more than 0, or a",
        ),
        (
            {"steps": steps(100), **MIRRORED},
            "steps.0.percent: copies are those of requests to the stable version: write less than",
        ),
        (
            {"steps": steps(5), "criteria": {"min_agreement": 0.9}},
            "criteria.min_agreement: 'v2' gets no copies: write mirror: {version: v2} in the model",
        ),
        (
            {"steps": steps(5), **MIRRORED, "mirror": {"version": "v3"}},
            "criteria.min_agreement: 'v2' gets no copies: write mirror: {version: v2} in the model",
        ),
        (
            {"steps": steps(5), **MIRRORED, "mirror": {"version": "v2", "percent": 0}},
            "criteria.min_agreement: 'v2' gets no copies: set mirror.percent to more than 0",
        ),
        (
            {"steps": steps(5), "criteria": {"max_difference": 0.1}},
            "max_difference: answers with other tensors have no difference: write min_agreement",
        ),
    ],
)
def test_steps_that_cannot_work_are_refused(canary: dict[str, object], error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        loads(text(**canary))
    assert error in str(raised.value)


def test_the_first_step_may_have_copies_only() -> None:
    criteria = {"max_error_rate": None, "min_agreement": 0.9, "max_difference": 0.1}
    config = loads(text(steps=steps(0, 5, 100), mirror={"version": "v2"}, criteria=criteria))
    assert config.models["m"].canaries[0].steps[0].percent == 0


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
