"""Where the requests of each model are decided: in Envoy alone (native), or by the callout.

Envoy admits a request alone only if its filters and matchers can express exactly what the decision
would do. This package says which ways of admission that is true of, and why not of the others. It
builds no resource of Envoy: `xds.resources.native` does, from the same plan.
"""

from sluice.config.placement.comparable import (
    MAX_ITEM,
    SECOND_OF_LIST,
    is_header_safe,
    is_item,
    is_plain,
)
from sluice.config.placement.issuers import NATIVE_ALGORITHMS, issuer_obstacle
from sluice.config.placement.plan_types import (
    BUCKETS,
    All,
    AnyOf,
    ClaimTest,
    GroupTest,
    HeaderPresent,
    HeaderTest,
    Pick,
    Plan,
    SubjectTest,
    Test,
    Way,
)
from sluice.config.placement.planning import (
    MAX_WAYS,
    Surroundings,
    native_methods,
    plan,
    plans,
    surroundings,
    without_native_routes,
)

__all__ = [
    "BUCKETS",
    "MAX_ITEM",
    "MAX_WAYS",
    "NATIVE_ALGORITHMS",
    "SECOND_OF_LIST",
    "All",
    "AnyOf",
    "ClaimTest",
    "GroupTest",
    "HeaderPresent",
    "HeaderTest",
    "Pick",
    "Plan",
    "SubjectTest",
    "Surroundings",
    "Test",
    "Way",
    "is_header_safe",
    "is_item",
    "is_plain",
    "issuer_obstacle",
    "native_methods",
    "plan",
    "plans",
    "surroundings",
    "without_native_routes",
]
