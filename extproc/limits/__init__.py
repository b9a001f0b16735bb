"""Fleet-wide limits: rules, budgets and the backends that keep them."""

from extproc.limits.backend import open_budgets, steady_clock
from extproc.limits.budgets import Budgets, LocalBudgets
from extproc.limits.headers import limit_headers
from extproc.limits.leases import LeasedBudgets
from extproc.limits.limiter import Limiter, LimitVerdict, RuleCounts, RuleState
from extproc.limits.rules import RequestView

__all__ = [
    "Budgets",
    "LeasedBudgets",
    "LimitVerdict",
    "Limiter",
    "LocalBudgets",
    "RequestView",
    "RuleCounts",
    "RuleState",
    "limit_headers",
    "open_budgets",
    "steady_clock",
]
