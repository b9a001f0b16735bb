"""Which Envoys get a config before the others."""

import pytest

from protos.base_pb2 import Node as NodeMessage
from tests.xds.rollout.nodes_in_memory import callout, native_envoy
from tests.xds.rollout.stages import Stages, staged
from xds.protocol.nodes import Nodes
from xds.rollout.choice import chosen, envoys


@pytest.mark.parametrize(
    ("connected", "share", "number"),
    [(0, 0.5, 0), (1, 0.5, 0), (2, 0.01, 1), (10, 0.1, 1), (11, 0.1, 2), (3, 0.99, 2), (2, 1, 1)],
)
def test_at_least_one_envoy_is_chosen_and_not_all(
    connected: int, share: float, number: int
) -> None:
    ids = [f"envoy-{n}" for n in range(connected)]
    assert len(chosen(ids, share)) == number


def test_the_same_envoys_are_chosen_again_and_a_larger_share_has_them_too() -> None:
    ids = [f"envoy-{n}" for n in range(50)]
    few, more = chosen(ids, 0.1), chosen(ids[::-1], 0.3)
    assert few < more
    assert chosen(ids[::-1], 0.1) == few
    assert few != set(ids[:5])


def test_only_envoys_that_say_who_they_are_count_and_each_once() -> None:
    nodes = Nodes(lambda: 0.0)
    names = ("twice", "twice", "", "other")
    for name in names:
        client = native_envoy(nodes, name)
        nodes.identify(client.node, NodeMessage(id=name))
    nodes.identify(callout(nodes).node, NodeMessage(id="worker"))
    native_envoy(nodes, "unidentified")
    assert envoys(nodes) == {"twice", "other"}


@pytest.mark.parametrize("connected", [0, 1])
def test_with_fewer_than_two_envoys_all_get_the_config_at_once(connected: int) -> None:
    async def test(stages: Stages) -> None:
        trial = await stages.stage()
        await stages.settle()
        stages.all_have("two", "b")
        assert trial.nodes == ()
        told = [each for each in await stages.fleet.told() if each["step"] == "not_staged"]
        reason = "fewer than two Envoys are connected"
        assert told == [
            {"version": "two", "revision": None, "step": "not_staged", "reason": reason}
        ]

    staged(test, envoys=connected)
