"""Cache of serialized responses. The key contains everything that a response depends on."""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from extproc.decision import Admission
from extproc.policy.compiled import Policy

MAX_ENTRIES = 4096
"""The oldest entry is evicted first."""

MAX_RESPONSE = 1024
"""Maximum bytes of a cached response. A response contains the subject and the names of removed
headers, which clients choose, so without a bound clients could fill the memory."""


class ResponseCache:
    """Responses to admitted requests, for one policy. A new policy empties the cache."""

    def __init__(self) -> None:
        self._responses: OrderedDict[Hashable, bytes] = OrderedDict()
        self._policy: Policy | None = None

    def __len__(self) -> int:
        return len(self._responses)

    def clear(self) -> None:
        """Forget all responses."""
        self._responses.clear()
        self._policy = None

    def get(
        self,
        policy: Policy,
        admission: Admission,
        rest: Hashable,
        make: Callable[[], bytes],
    ) -> bytes:
        """The cached response to an admission, or the result of `make`.

        `rest` contains the values other than the admission that the response depends on.
        """
        if admission.limit_headers:
            return make()  # the headers contain the remaining budget, which changes
        if admission.video_cluster is not None:
            return make()  # the headers contain the credentials of the client
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
