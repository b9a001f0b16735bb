"""Keeps the percentages of canaries with steps in edits that leave them to the control plane."""

from collections.abc import Iterator

from sluice.config import GatewayConfig
from sluice.config.edit import model_data, with_model
from sluice.config.models import Canary, Model


def with_kept_percents(text: str, config: GatewayConfig, before: GatewayConfig) -> str:
    """The text of a config, with the percentages that it leaves to the steps of its canaries.

    They are those of the config `before`: otherwise all users of a canary would get the stable
    version until the step sets its percentage again.
    """
    for name, model in config.models.items():
        kept = dict(_kept(model, before.models.get(name)))
        data = model_data(text, name) if kept else None
        if isinstance(data, dict):
            canaries = [
                {**each, "percent": kept[index]} if index in kept else each
                for index, each in enumerate(data["canaries"])
            ]
            text = with_model(text, name, {**data, "canaries": canaries})
    return text


def _kept(model: Model, before: Model | None) -> Iterator[tuple[int, float]]:
    """The index of each canary without a percentage, and the one that it had before."""
    known = {} if before is None else {each.version: each for each in before.canaries}
    for index, canary in enumerate(model.canaries):
        earlier = known.get(canary.version)
        if earlier is not None and _is_set(earlier) and canary.steps and not _is_set(canary):
            yield index, earlier.percent


def _is_set(canary: Canary) -> bool:
    return "percent" in canary.model_fields_set
