"""The adaptive breaker."""

from extproc.breaker.breaker import ADMITTED, Breaker, BreakerStatus, BreakerVerdict
from extproc.breaker.window import BreakerState

__all__ = ["ADMITTED", "Breaker", "BreakerState", "BreakerStatus", "BreakerVerdict"]
