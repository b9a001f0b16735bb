"""Retries of requests by Envoy's router."""

from typing import Final

from protos.route_pb2 import PreviousHostsPredicate, RetryPolicy
from sluice.config.models import Retries
from xds.resources.proto_messages import pack, seconds, uint32

_PREVIOUS_HOSTS: Final = RetryPolicy.RetryHostPredicate(
    name="envoy.retry_host_predicates.previous_hosts", typed_config=pack(PreviousHostsPredicate())
)


def retry_policy(retries: Retries) -> RetryPolicy:
    """The retries of a model's requests."""
    if not retries.attempts:
        return RetryPolicy(num_retries=uint32(0))
    per_try = retries.per_try_timeout
    policy = RetryPolicy(
        retry_on=",".join(retries.retry_on),
        num_retries=uint32(retries.attempts),
        per_try_timeout=seconds(per_try) if per_try is not None else None,
    )
    avoiding_previous_hosts(policy)
    return policy


def avoiding_previous_hosts(policy: RetryPolicy) -> None:
    """Let a retry prefer an endpoint that has not failed for the request."""
    policy.retry_host_predicate.append(_PREVIOUS_HOSTS)
    policy.host_selection_retry_max_attempts = 3
