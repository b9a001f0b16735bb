"""Caches serialized responses by everything that they are made of."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from extproc.decision import Admission
from extproc.policy.compiled import Policy

MAX_ENTRIES = 4096
"""The oldest entry is removed first."""

MAX_RESPONSE = 1024
"""Bytes of a cached response. A client influences the length by its subject and by the names of
removed headers, so without a bound it could fill the memory."""


class ResponseCache:
    """Responses that admit requests by one policy; a new policy empties it."""

    def __init__(self) -> None:
        self._responses: OrderedDict[Hashable, bytes] = OrderedDict()
        self._policy: Policy | None = None

    def __len__(self) -> int:
        return len(self._responses)

    def get(
        self,
        policy: Policy,
        admission: Admission,
        rest: Hashable,
        make: Callable[[], bytes],
    ) -> bytes:
        """The response to an admission; `rest` is what else the response is made of."""
        if admission.limit_headers:
            return make()  # the remaining budget differs each time
        if self._policy is not policy:
            self._responses.clear()
            self._policy = policy
        key = (
            admission.target.cluster, admission.reason, admission.canary, admission.subject, rest,
        )  # fmt: skip
        response = self._responses.get(key)
        if response is None:
            response = make()
            if len(response) <= MAX_RESPONSE:
                if len(self._responses) >= MAX_ENTRIES:
                    self._responses.popitem(last=False)
                self._responses[key] = response
        return response
