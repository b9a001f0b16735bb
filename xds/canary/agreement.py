"""Judges a canary by its answers to copies of requests. Pure."""

from sluice.config.canary_steps import CanaryCriteria
from xds.canary.figures import Copies
from xds.envoys.criteria import percentage


def disagreement(criteria: CanaryCriteria, copies: Copies) -> str | None:
    """Why the answers do not meet the criteria, with the figures; None if they do.

    Fewer than `min_requests` copies meet all.
    """
    agreement, minimum = copies.agreement, criteria.min_agreement
    if minimum is None or agreement is None or copies.copies < criteria.min_requests:
        return None
    if agreement < minimum:
        shown = f"{percentage(agreement)} of {copies.copies} copies agree"
        return f"{shown}, less than {percentage(minimum)}"
    difference, maximum = copies.max_difference, criteria.max_difference
    if maximum is not None and difference > maximum:
        shown = f"tensors of {copies.copies} copies differ by up to {difference:g}"
        return f"{shown}, more than {maximum:g}"
    return None


def missing_copies(criteria: CanaryCriteria, percent: float, copies: Copies) -> str:
    """What a judgement in a step with this percentage still needs; empty if it needs nothing.

    With 100 %, the stable version gets no requests, so there are no copies.
    """
    if not criteria.mirrors or percent == 100 or copies.copies >= criteria.min_requests:
        return ""
    return f"has {copies.copies} of {criteria.min_requests} copies"


def described(copies: Copies) -> str:
    """The figures for operators."""
    agreement = copies.agreement
    if agreement is None:
        return "0 copies"
    difference = f"largest difference {copies.max_difference:g}"
    return f"{copies.copies} copies, {percentage(agreement)} agree, {difference}"
