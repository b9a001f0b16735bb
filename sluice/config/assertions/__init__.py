"""Checks the assertions of a config: finds a request for which one is not true, if there is one."""

from sluice.config.assertions.check import Violation, check_assertions, violations

__all__ = ["Violation", "check_assertions", "violations"]
