"""Explains decisions in the process of the control plane, by the policy that it serves."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from sluice.config import PolicyDocument
from sluice.explain.request import HttpRequest
from sluice.explain.source import ServedPolicy, Source
from sluice.tls import ClientCredentials
from xds.admin.explain import ClientRequest, NoExplanationError

if TYPE_CHECKING:
    from sluice.explain.policy import ReadPolicy

MAX_AGE: Final = 30.0
"""Seconds for which a compiled policy is kept, with the key sets that were fetched for it."""


class ServedExplainer:
    """Explains by the latest policy, which it compiles once. Imports `extproc` when it is used."""

    def __init__(self) -> None:
        self._read: ReadPolicy | None = None
        self._read_at = 0.0

    async def explain(
        self,
        request: ClientRequest,
        policy: PolicyDocument,
        workers: tuple[str, ...],
        credentials: ClientCredentials,
    ) -> Mapping[str, object]:
        """As `xds.admin.explain.Explainer`."""
        try:
            from sluice.explain.stages import explanation
        except ImportError as error:
            text = f"the package {error.name} is not installed, which explains decisions"
            raise NoExplanationError(text) from error
        served = ServedPolicy(policy, workers, credentials)
        source = Source("in force at this control plane", served)
        read = await self._policy(policy, source)
        given = HttpRequest(
            request.method, request.authority, request.path, request.headers, request.body
        )
        return (await explanation(source, read, given, request.client_address)).as_json()

    async def _policy(self, policy: PolicyDocument, source: Source) -> "ReadPolicy":
        from sluice.explain.policy import NoPolicyError, read_policy

        read, now = self._read, time.monotonic()
        if read is None or read.document is not policy or now - self._read_at > MAX_AGE:
            try:
                read = await read_policy(source.gateway)
            except NoPolicyError as error:
                raise NoExplanationError(str(error)) from error
            self._read, self._read_at = read, now
        return read
