"""Edits of the canaries of a model, by operators and by the analysis."""

from typing import Any

from sluice.config.models import Model

# Any: data of a config in YAML, with keys of any type.
Data = dict[str, Any]


class NoCanaryError(Exception):
    """The version is no canary of the model."""


def with_percent(model: Model, data: Data, version: str, percent: float) -> Data:
    """The data of the model, in which the version is a canary with this percentage."""
    index = _index(model, version)
    canaries = list(data.get("canaries") or ())
    if index is None:
        canaries.append({"version": version, "percent": percent})
    else:
        canaries[index] = {**canaries[index], "percent": percent}
    return {**data, "canaries": canaries}


def promoted(model: Model, data: Data, version: str) -> Data:
    """The data of the model, whose canary becomes the stable version. Raises NoCanaryError.

    The stable version is not mirrored to itself: the mirror of the version ends.
    """
    kept = aborted(model, data, version)
    if model.mirror is not None and model.mirror.version == version:
        del kept["mirror"]
    return {**kept, "stable": version}


def aborted(model: Model, data: Data, version: str) -> Data:
    """The data of the model without the canary. Raises NoCanaryError."""
    index = _index(model, version)
    if index is None:
        raise NoCanaryError
    canaries = list(data["canaries"])
    del canaries[index]
    others = {key: value for key, value in data.items() if key != "canaries"}
    return {**others, "canaries": canaries} if canaries else others


def _index(model: Model, version: str) -> int | None:
    return next((n for n, each in enumerate(model.canaries) if each.version == version), None)
