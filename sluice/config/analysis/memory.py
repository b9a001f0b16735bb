"""The rule about Envoy's heap, which must have room for the config while Envoy loads a change.

The figures are rounded up from measurements of changes of whole configs, in which Envoy has the old
and the new clusters and routes at once (docs/performance.md, "Envoy's heap").
"""

from typing import Final

from sluice.config.analysis.rule import Found, Rule
from sluice.config.finding import WarningKind
from sluice.config.gateway import GatewayConfig

BASE: Final = 32 << 20
"""Bytes of an Envoy without models."""

OF_VERSION: Final = {"auto": 144 << 10, "callout": 88 << 10}
"""Bytes of a version, old and new, by the placement of its model: native routes take more."""

USABLE: Final = 0.8
"""Share of `envoy.max_heap` above which Envoy shortens timeouts; near all of it, Envoy refuses
requests (the overload manager in `envoy/bootstrap.yaml`)."""


def heap_of_config(config: GatewayConfig) -> int:
    """Bytes of Envoy's heap while a change of the whole config is loaded, without requests."""
    return BASE + sum(
        OF_VERSION[model.placement or config.placement] * len(model.versions)
        for model in config.models.values()
    )


def _small_heap(config: GatewayConfig) -> Found:
    heap = heap_of_config(config)
    if heap > config.envoy.max_heap * USABLE:
        message = (
            f"while Envoy loads a change of all models, its heap takes up to {_mib(heap)} MiB, "
            f"which is more than 80 % of {_mib(config.envoy.max_heap)} MiB: Envoy then shortens "
            f"timeouts, and may refuse requests"
        )
        yield ("envoy", "max_heap"), message


def _mib(number: int) -> int:
    return -(-number >> 20)


RULES = (
    Rule(
        WarningKind(
            "small_heap",
            "The models may take more than 80 % of `envoy.max_heap` while Envoy loads a change of "
            "all of them: about 144 KiB for each version of a model with native routes, and 88 KiB "
            "for others.",
            "raise envoy.max_heap, also for what requests need",
        ),
        _small_heap,
    ),
)
