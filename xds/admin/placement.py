"""Where the requests of the models in force are decided, for the status."""

from collections.abc import Sequence

from pydantic import BaseModel

from sluice.config import GatewayConfig
from sluice.config.placement import plans

MAX_NAMES = 10
"""Models that the status names for one reason."""


class CalloutPlacement(BaseModel):
    """Models whose requests are all decided by the callout for the same reason.

    `models` are the first of them, and `count` is the number of all.
    """

    reason: str
    count: int
    models: list[str]


class PlacementStatus(BaseModel):
    """Where requests are decided.

    `native`: the number of models with requests that Envoy decides alone. `callout`: the others, by
    reason, the most frequent first.
    """

    native: int
    callout: list[CalloutPlacement]


class PlacementCache:
    """The placement of the latest config that was asked for."""

    def __init__(self) -> None:
        self._config: GatewayConfig | None = None
        self._status = PlacementStatus(native=0, callout=[])

    def status(self, config: GatewayConfig | None) -> PlacementStatus:
        """The placement of the models of a config; none without a config."""
        if config is not self._config:
            self._config, self._status = config, _status(config)
        return self._status


def _status(config: GatewayConfig | None) -> PlacementStatus:
    by_reason: dict[str, list[str]] = {}
    native = 0
    for name, plan in ({} if config is None else plans(config)).items():
        if plan.native:
            native += 1
        else:
            by_reason.setdefault(plan.callout, []).append(name)
    ordered = sorted(by_reason.items(), key=_count, reverse=True)
    callout = [
        CalloutPlacement(reason=reason, count=len(names), models=names[:MAX_NAMES])
        for reason, names in ordered
    ]
    return PlacementStatus(native=native, callout=callout)


def _count(found: tuple[str, Sequence[str]]) -> int:
    return len(found[1])
