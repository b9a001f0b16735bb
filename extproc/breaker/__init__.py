"""The adaptive breaker."""

from extproc.breaker.breaker import ADMITTED, Admission, Breaker, Status
from extproc.breaker.window import State

__all__ = ["ADMITTED", "Admission", "Breaker", "State", "Status"]
