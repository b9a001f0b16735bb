"""A client of the callout over each transport."""

from collections.abc import AsyncIterator

import pytest

from extproc.policy.current import CurrentPolicy
from extproc.transport import TRANSPORTS
from tests.extproc.services.callout import CalloutClient, callout
from tests.extproc.services.ext_proc.streams import models


@pytest.fixture(params=TRANSPORTS)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[CalloutClient]:
    current_policy = CurrentPolicy()
    current_policy.apply(models())
    async with callout(request.param, current_policy) as running:
        yield running
