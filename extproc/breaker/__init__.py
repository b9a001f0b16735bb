"""The circuit breaker of each version of a model."""

from extproc.breaker.breaker import ADMITTED, Breaker, BreakerSummary, BreakerVerdict
from extproc.breaker.window import BreakerState

__all__ = ["ADMITTED", "Breaker", "BreakerState", "BreakerSummary", "BreakerVerdict"]
