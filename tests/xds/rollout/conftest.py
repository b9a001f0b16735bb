"""Every test of the rollout runs with nodes of both variants of the protocol."""

import pytest

from tests.xds.delta_node import DeltaNode
from tests.xds.rollout import nodes_in_memory
from tests.xds.sotw_node import SotwNode


@pytest.fixture(autouse=True, params=[SotwNode, DeltaNode], ids=["sotw", "delta"])
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variant of the nodes."""
    monkeypatch.setattr(nodes_in_memory, "NODE", request.param)
